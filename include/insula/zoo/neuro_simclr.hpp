// SPDX-License-Identifier: Apache-2.0
// 3D-Neuro-SimCLR: encoder, projector and downstream head, as types.
#pragma once

#include "insula/layer/linear.hpp"
#include "insula/zoo/resnet3d.hpp"

namespace insula::neuro_simclr {

/// The published system (Kaczmarek et al. 2025; emilykaczmarek/3D-Neuro-SimCLR model.py, simclr/simclr.py).
struct paper : resnet::resnet18 {
  static constexpr int projection_width = 64;
  static constexpr extent crop{150, 192, 192};  ///< depth (z), height (y), width (x) in voxels of 1 mm
};

/// The same network and numbers; stem and first stage are computed again in the backward pass, so that a step of two subjects
/// (four volumes) fits 16 GB.
struct paper_in_16_gb : paper {
  static constexpr bool recompute_stem = true;
  static constexpr int recompute_stages = 1;
};

/// What a quickstart trains: a quarter of the widths, on crops of 48^3.
struct small : paper {
  static constexpr int widths[4] = {16, 32, 64, 128};
  static constexpr int stem_kernel = 3;
  static constexpr int projection_width = 32;
  static constexpr extent crop = cube(48);
};

/// Volume to representation h.
template <class O>
using encoder = named<"encoder", resnet::encoder<O>>;

/// h to z: linear, ReLU, linear, both without bias and without normalisation; the loss normalises.
template <class O>
using projector = named<"projector", seq<named<"0", linear<resnet::channels<O>(3), bias::no>>, relu,
                                         named<"2", linear<O::projection_width, bias::no>>>>;

/// Volume to z. The weight range and the range of state begin with the encoder's, so encoder<O> runs on the same memory.
template <class O>
using network = seq<encoder<O>, projector<O>>;

/// h to Outputs numbers: one logit for two classes, or a regression (LinearHeadModel).
template <int Outputs = 1>
using head = named<"head", linear<Outputs>>;
template <class O, int Outputs = 1>
using downstream = seq<encoder<O>, head<Outputs>>;

/// Input of one volume.
template <class O>
using volume = shape<1, O::crop.d, O::crop.h, O::crop.w>;

}  // namespace insula::neuro_simclr
