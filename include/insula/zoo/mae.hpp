// SPDX-License-Identifier: Apache-2.0
// Masked autoencoders over patches of volumes: the encoder sees the kept tokens only, a small decoder the whole grid.
#pragma once

#include "insula/zoo/vit.hpp"

namespace insula::mae {

/// Adds a decoder to a vision transformer's options; the decoder is the same for all encoders ("dec512d8b" of
/// facebookresearch/mae models_mae.py).
template <class Encoder>
struct options : Encoder {
  static constexpr int decoder_width = 512, decoder_depth = 8, decoder_heads = 16;
  /// Tokens that the encoder has room for; the published number, a quarter. A pass may keep fewer.
  static constexpr index_t keep = vit::patches<Encoder> / 4;
};
using tiny = options<vit::tiny>;
using base = options<vit::base>;
using large = options<vit::large>;

/// Start of every tensor of a masked autoencoder (models_mae.py initialize_weights): linear weights and the patches' weight,
/// seen as a matrix, Xavier uniform; biases of linear layers zero; the bias of the patches by the convolution's rule.
struct xavier_start {
  static void revise(tensor_place& t) {
    if (t.how != start::fan_uniform) return;
    if (t.shape.rank > 1) t.how = start::xavier_uniform;
    if (t.shape.rank == 1 && !t.name.ends_with("patch_embed.proj.bias")) t.how = start::zeros;
  }
};

/// The encoder on kept tokens: volume to (1 + keep, width), in the random order of pass_options::order.
template <class O>
using masked_encoder = vit::encoder<O, O::keep>;

/// Volume to the predicted patches (patches, voxels of a patch x channels) of all tokens, as op::patchify orders them. Give
/// the kept tokens by pass_options::order. The weight range begins with the encoder's, so vit::encoder<O>, which sees all
/// tokens, runs on the same weights.
template <class O>
using autoencoder =
    started_by<xavier_start, seq<masked_encoder<O>, named<"decoder_embed", linear<O::decoder_width>>,
                                 restore_tokens<position_opts{.grid = vit::grid<O>, .axes = O::axes}>,
                                 named<"decoder_blocks", vit::blocks<O::decoder_width, O::decoder_depth,
                                                                     O::decoder_heads, O::mlp_ratio>>,
                                 named<"decoder_norm", vit::norm>, drop_class_token,
                                 named<"decoder_pred", linear<int(O::patch.size()) * O::channels>>>>;

/// A network for two cores: 4 x 5 x 5 patches of 8^3 voxels.
struct small_encoder : vit::options {
  static constexpr int width = 96, depth = 4, heads = 3;
  static constexpr extent volume{32, 40, 40}, patch{8, 8, 8};
};
struct small : options<small_encoder> {
  static constexpr int decoder_width = 64, decoder_depth = 2, decoder_heads = 4;
};

}  // namespace insula::mae
