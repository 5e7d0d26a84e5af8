// SPDX-License-Identifier: Apache-2.0
// The order in which the published modules register their parameters.
#pragma once

#include <algorithm>
#include <string_view>

#include "insula/net/describe.hpp"

namespace insula {

namespace detail {

/// Place of one part of a parameter's name among its siblings in the published modules (MONAI, UMBRA, MAE and timm,
/// 3D-Neuro-SimCLR).
inline int sibling_rank(std::string_view part) {
  struct entry {
    std::string_view name;
    int rank;
  };
  static constexpr entry known[] = {{"cls_token", -10},
                                    {"pos_embed", -9},
                                    {"mask_token", -8},
                                    {"decoder_pos_embed", -7},
                                    {"fusion_weights", -1},
                                    {"encoder", 0},
                                    {"swinViT", 0},
                                    {"feats_decoder", 1},
                                    {"head", 3},
                                    {"fc_norm", 4},
                                    {"decoder_embed", 5},
                                    {"decoder_blocks", 6},
                                    {"decoder_norm", 7},
                                    {"decoder_pred", 8},
                                    {"projector", 9},
                                    {"encoder1", 10},
                                    {"encoder2", 11},
                                    {"encoder3", 12},
                                    {"encoder4", 13},
                                    {"encoder10", 14},
                                    {"decoder5", 20},
                                    {"decoder4", 21},
                                    {"decoder3", 22},
                                    {"decoder2", 23},
                                    {"decoder1", 24},
                                    {"out", 30},
                                    {"patch_embed", 0},
                                    {"mask_token_injector", 1},
                                    {"layers1", 2},
                                    {"layers2", 3},
                                    {"layers3", 4},
                                    {"layers4", 5},
                                    {"layers1c", 6},
                                    {"layers2c", 7},
                                    {"layers3c", 8},
                                    {"layers4c", 9},
                                    {"blocks", 1},
                                    {"reduction", 0},
                                    {"norm", 2},
                                    {"conv1", 10},
                                    {"bn1", 11},
                                    {"conv2", 12},
                                    {"bn2", 13},
                                    {"conv3", 14},
                                    {"bn3", 15},
                                    {"downsample", 16},
                                    {"layer1", 21},
                                    {"layer2", 22},
                                    {"layer3", 23},
                                    {"layer4", 24},
                                    {"norm1", 30},
                                    {"attn", 35},
                                    {"norm2", 40},
                                    {"mlp", 50},
                                    {"lat1", 0},
                                    {"lat2", 1},
                                    {"lat3", 2},
                                    {"lat4", 3},
                                    {"lat5", 4},
                                    {"smooth4", 5},
                                    {"smooth3", 6},
                                    {"smooth2", 7},
                                    {"smooth1", 8},
                                    {"transp_conv", 0},
                                    {"conv_block", 1},
                                    {"weight", 0},
                                    {"bias", 1},
                                    {"running_mean", 2},
                                    {"running_var", 3},
                                    {"num_batches_tracked", 4},
                                    {"relative_position_bias_table", 0},
                                    {"qkv", 1},
                                    {"proj", 2},
                                    {"conv", 0},
                                    {"linear1", 0},
                                    {"linear2", 1},
                                    {"fc1", 0},
                                    {"fc2", 1}};
  if (!part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos) {
    int n = 0;
    for (char c : part) n = 10 * n + (c - '0');
    return n;
  }
  for (auto const& e : known)
    if (e.name == part) return e.rank;
  return 0;
}

inline bool registered_before(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty()) {
    auto const i = std::min(a.find('.'), a.size()), j = std::min(b.find('.'), b.size());
    int const x = sibling_rank(a.substr(0, i)), y = sibling_rank(b.substr(0, j));
    if (x != y) return x < y;
    a.remove_prefix(std::min(i + 1, a.size())), b.remove_prefix(std::min(j + 1, b.size()));
  }
  return false;
}

}  // namespace detail

/// The tensors in the order of the published modules' named_parameters() (spec of the golden numbers and of on-disk
/// state_dicts). Memory order is the order of execution and stays as it is.
inline std::vector<tensor_place> published_order(std::vector<tensor_place> places) {
  std::stable_sort(places.begin(), places.end(), [](tensor_place const& a, tensor_place const& b) {
    return detail::registered_before(a.name, b.name);
  });
  return places;
}

}  // namespace insula
