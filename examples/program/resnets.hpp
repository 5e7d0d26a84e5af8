// SPDX-License-Identifier: Apache-2.0
// The ResNets that the programs of 3D-Neuro-SimCLR train: the published one, and one for two cores.
#pragma once

#include "insula/zoo/neuro_simclr.hpp"

namespace program {

/// The published network; memory of the backward pass is traded for time in its first stages.
struct paper_resnet : insula::neuro_simclr::paper_in_16_gb {};

/// An eighth of the widths, a stem of 3^3, and 32 x 40 x 32 voxels: a head at 5 mm.
struct small_resnet : insula::neuro_simclr::paper {
  static constexpr int widths[4] = {8, 16, 32, 64};
  static constexpr int stem_kernel = 3;
  static constexpr int projection_width = 32;
  static constexpr insula::extent crop{32, 40, 32};
};

}  // namespace program
