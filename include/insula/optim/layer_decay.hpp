// SPDX-License-Identifier: Apache-2.0
// Groups of a vision transformer that is fine-tuned: the deeper a layer, the closer to its pretrained weights it stays.
#pragma once

#include <charconv>
#include <cmath>

#include "insula/base/check.hpp"
#include "insula/optim/parameter_groups.hpp"

namespace insula {

/// Number of the layer that a tensor of a vision transformer belongs to, by its published name: 0 for the class token,
/// positions and patches, i + 1 for blocks.i, depth + 1 for everything behind the blocks. Throws error if there are more than
/// `depth` blocks.
inline int transformer_layer(std::string_view name, int depth) {
  if (name == "cls_token" || name == "pos_embed" || name.starts_with("patch_embed.")) return 0;
  std::string_view const blocks = "blocks.";
  if (!name.starts_with(blocks)) return depth + 1;
  int i = -1;
  std::from_chars(name.data() + blocks.size(), name.data() + name.size(), i);
  check(i >= 0 && i < depth, "layer_decay: ", name, " is no tensor of a transformer of ", depth, " blocks");
  return i + 1;
}

/// The learning rate of layer i is multiplied by rate_decay^(depth + 1 - i). Vectors, biases, class token and positions are
/// not decayed, everything else by `decay`. facebookresearch/mae util/lr_decay.py; Clark et al. 2020 (arXiv 2003.10555).
///   adamw<float> optimizer(size, layer_decay(places, 12, 0.75, 0.05), {.beta2 = 0.999});
inline std::vector<parameter_group> layer_decay(std::vector<tensor_place> places, int depth,
                                                double rate_decay, double decay) {
  return group_tensors(std::move(places), [=](tensor_place const& t) {
    bool const plain = is_vector_or_bias(t) || t.name == "cls_token" || t.name == "pos_embed";
    return group_settings{plain ? 0 : decay,
                          std::pow(rate_decay, depth + 1 - transformer_layer(t.name, depth))};
  });
}

}  // namespace insula
