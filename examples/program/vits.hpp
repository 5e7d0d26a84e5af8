// SPDX-License-Identifier: Apache-2.0
// The vision transformers that the programs of 3D-Neuro-SimCLR train: the published ViT-Tiny, -Base and -Large, and one for two cores.
#pragma once

#include "insula/zoo/mae.hpp"

namespace program {

struct paper_vit : insula::vit::tiny {};
struct paper_base_vit : insula::vit::base {};
struct paper_large_vit : insula::vit::large {};

/// Patches of 8^3 in 32 x 40 x 32 voxels: a head at 5 mm, 80 tokens.
struct small_vit : insula::vit::options {
  static constexpr int width = 96, depth = 4, heads = 3;
  static constexpr insula::extent volume{32, 40, 32}, patch{8, 8, 8};
};

struct paper_mae : insula::mae::options<paper_vit> {};
struct paper_base_mae : insula::mae::options<paper_base_vit> {};
struct paper_large_mae : insula::mae::options<paper_large_vit> {};
struct small_mae : insula::mae::options<small_vit> {
  static constexpr int decoder_width = 64, decoder_depth = 2, decoder_heads = 4;
};

}  // namespace program
