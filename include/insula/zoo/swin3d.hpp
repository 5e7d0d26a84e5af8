// SPDX-License-Identifier: Apache-2.0
// The 3D Swin transformer encoder in MONAI's naming, with or without stage-wise residual convolutions.
#pragma once

#include "insula/layer/concat.hpp"
#include "insula/layer/conv.hpp"
#include "insula/layer/linear.hpp"
#include "insula/layer/modalities.hpp"
#include "insula/layer/norm.hpp"
#include "insula/layer/patch.hpp"
#include "insula/layer/pool.hpp"
#include "insula/layer/resample.hpp"
#include "insula/layer/token.hpp"
#include "insula/layer/window_attention.hpp"

namespace insula::swin {

/// What a Swin encoder is made of. Derive and overwrite what differs; pass the type. Defaults: MONAI 1.5
/// monai/networks/nets/swin_unetr.py SwinTransformer(use_v2=True) with feature size 48.
struct options {
  static constexpr int features = 48;             ///< channels after patch embedding; doubled by every stage
  static constexpr int depths[4] = {2, 2, 2, 2};  ///< blocks per stage, even (plain and shifted alternate)
  static constexpr int heads[4] = {3, 6, 12, 24};
  static constexpr int window = 7;
  static constexpr int mlp_ratio = 4;
  static constexpr bool residual_convolutions =
      true;  ///< "v2": a residual convolution block before each stage
  static constexpr int norm_groups =
      0;  ///< of those blocks: 0 = instance norm without weights, else group norm with
  static constexpr bool masks = false;  ///< inject a learnable mask token after patch embedding
  static constexpr op::merge_order order = op::merging;
  static constexpr bool recompute_stages = false;  ///< activation checkpointing of stages 1 and 2
  /// From this stage on (0 .. 3; 4: nowhere) attention that is not shifted keeps q, k, v and outputs for its backward pass. In
  /// every block of stages 2 and 3 that would be a twentieth of a training step's memory, in half of them it is a fortieth.
  static constexpr int keeping_stage = 2;
  static constexpr int modalities = 0;  ///< late fusion of so many; 0: one volume, without fusion weights
  static constexpr bool plain_taps =
      false;  ///< the pyramid's taps are the running tensors, not yet normalised
};

/// O with plain_taps.
template <class O>
struct with_plain_taps : O {
  static constexpr bool plain_taps = true;
};

namespace detail {

template <int Groups, activation Act>
using norm_act = group_norm<Groups, Act, Groups == 0 ? learned::no : learned::yes>;
template <int Groups, activation Act>
using norm_add_act = group_norm_add<Groups, Act, Groups == 0 ? learned::no : learned::yes>;
template <int Out, int K>
using conv_without_bias = conv3d<Out, cube(K), conv_opts{.pad = cube(K / 2), .bias = false}>;

/// Last after Norm, whose result is computed again when Last needs it, unless all around is (Again).
template <bool Again, class Norm, class Last>
struct normalised {
  using type = recompute_before<Norm, Last>;
};
template <class Norm, class Last>
struct normalised<true, Norm, Last> {
  using type = seq<Norm, Last>;
};

}  // namespace detail

/// y = lrelu(norm2(conv2(lrelu(norm1(conv1(x))))) + x), 3^3 convolutions without bias (MONAI UnetResBlock, C to C). Again: the
/// block is inside recompute<>.
template <int C, int Groups, bool Again = false>
using residual_block = residual_with<
    seq<named<"conv1.conv", detail::conv_without_bias<C, 3>>,
        typename detail::normalised<Again, named<"norm1", detail::norm_act<Groups, activation::leaky_relu>>,
                                    named<"conv2.conv", detail::conv_without_bias<C, 3>>>::type>,
    named<"norm2", detail::norm_add_act<Groups, activation::leaky_relu>>>;

/// The same from any number of channels to C: the shortcut is norm(conv3(x)), a 1^3 convolution.
template <int C, int Groups>
using widening_block =
    branch<named<"norm2", detail::norm_add_act<Groups, activation::leaky_relu>>,
           seq<named<"conv1.conv", detail::conv_without_bias<C, 3>>,
               recompute_before<named<"norm1", detail::norm_act<Groups, activation::leaky_relu>>,
                                named<"conv2.conv", detail::conv_without_bias<C, 3>>>>,
           seq<named<"conv3.conv", detail::conv_without_bias<C, 1>>,
               named<"norm3", detail::norm_act<Groups, activation::none>>>>;

namespace detail {

template <class O, int Stage, int Shift>
using attention = window_attention<O::heads[Stage], cube(O::window), cube(Shift),
                                   Stage >= O::keeping_stage && Shift == 0 ? projections::kept
                                                                           : projections::computed_again>;

}  // namespace detail

/// One Swin block: attention half-block and feed-forward half-block, each with its norm and shortcut.
template <class O, int Stage, int Shift>
using block = seq<detail::attention<O, Stage, Shift>, feed_forward<O::mlp_ratio>>;

/// The same right after a residual block, whose result is computed again when the attention needs it.
template <class O, int Stage>
using first_block = seq<recompute_input<detail::norm_add_act<O::norm_groups, activation::leaky_relu>,
                                        detail::attention<O, Stage, 0>>,
                        feed_forward<O::mlp_ratio>>;

/// Patch merging: eight neighbours to channels, LayerNorm(8C), linear 8C -> 2C without bias.
template <class O, int C, bool Again = false>
using merging = seq<gather_patches<O::order>,
                    typename detail::normalised<Again, named<"norm", layer_norm>,
                                                named<"reduction", linear<2 * C, bias::no>>>::type>;

namespace detail {

constexpr int channels(int features, int stage) { return features << stage; }  // stage 0 .. 3

template <int Depth>
struct alternating {  // on its own: some compilers give up a class whose assertion fails
  static_assert(Depth % 2 == 0, "a stage alternates plain and shifted blocks: its depth must be even");
};
template <class O, int Stage>
inline constexpr bool again = O::recompute_stages&& Stage < 2;
template <class O, int Stage>
struct transformer_stage {
  static constexpr bool follows =  // a residual block, and is not repeated
      O::residual_convolutions && !again<O, Stage> && O::depths[Stage] == 2;
  using first = std::conditional_t<follows, first_block<O, Stage>, block<O, Stage, 0>>;
  using type =
      list<seq<named<"blocks", repeat<O::depths[Stage] / 2, list<first, block<O, Stage, O::window / 2>>>>,
               named<"downsample", merging<O, channels(O::features, Stage), again<O, Stage>>>>>;
  static_assert(sizeof(alternating<O::depths[Stage]>));
};
template <class O, int Stage>
struct convolution_stage {
  using type =
      list<named<"layer", residual_block<channels(O::features, Stage), O::norm_groups, again<O, Stage>>>>;
};

template <bool Is, class L>
struct maybe {
  using type = L;
};
template <class L>
struct maybe<false, L> {
  using type = identity;
};

template <class O, int Stage, fixed_string Convolutions, fixed_string Blocks>
struct stage {
  using plain_type =
      seq<typename maybe<O::residual_convolutions,
                         named<Convolutions, typename convolution_stage<O, Stage>::type>>::type,
          named<Blocks, typename transformer_stage<O, Stage>::type>>;
  using type = std::conditional_t<again<O, Stage>, recompute<plain_type>, plain_type>;
};

}  // namespace detail

template <class O>
using stage1 = typename detail::stage<O, 0, "layers1c", "layers1">::type;
template <class O>
using stage2 = typename detail::stage<O, 1, "layers2c", "layers2">::type;
template <class O>
using stage3 = typename detail::stage<O, 2, "layers3c", "layers3">::type;
template <class O>
using stage4 = typename detail::stage<O, 3, "layers4c", "layers4">::type;

namespace detail {

template <class O, fixed_string Name>
using patches_of_two =
    recompute_before<pad_to_multiple<cube(2)>,
                     named<Name, conv3d<O::features, cube(2), conv_opts{.stride = cube(2)}>>>;

}  // namespace detail

/// Zero padding to even extents, then a 2^3 convolution with stride 2; with a mask token the names nest once more, as in
/// UMBRA's wrapper. The padded volume is made again when the convolution needs it.
template <class O>
using patch_embedding = std::conditional_t<O::masks,
                                           seq<detail::patches_of_two<O, "patch_embed.patch_embed.proj">,
                                               named<"patch_embed.mask_token_injector", mask_token>>,
                                           detail::patches_of_two<O, "patch_embed.proj">>;

inline constexpr int fusion_tap = 6;  ///< where a late-fusion network keeps its modality_weights

namespace detail {

template <class O, int Level, bool Fused = (O::modalities > 0)>
struct level {
  using type = std::conditional_t<O::plain_taps, identity, plain_layer_norm>;
};
template <class O, int Level>
struct level<O, Level, true> {
  using type = branch<fuse_modalities<Level + 1>, plain_layer_norm, recall<fusion_tap>>;
};
template <class O, int Level>
using tapped_level = tap<Level, typename level<O, Level>::type>;

template <class O>
using four_stages = seq<patch_embedding<O>, tapped_level<O, 0>, stage1<O>, tapped_level<O, 1>, stage2<O>,
                        tapped_level<O, 2>, stage3<O>, tapped_level<O, 3>, stage4<O>>;

template <class O, bool Fused = (O::modalities > 0)>
struct pyramid {
  using type = seq<four_stages<O>, tapped_level<O, 4>>;
};
template <class O>
struct pyramid<O, true> {
  using type = modalities<O::modalities, seq<four_stages<O>, typename level<O, 4>::type, tap<4>>>;
};

}  // namespace detail

/// The encoder with its five normalised feature maps as taps 0 .. 4 (F..16F channels at 1/2 .. 1/32). Each tap is a layer
/// norm without weights of the running tensor, which itself passes on un-normalised; with O::plain_taps they are that tensor. With O::modalities the taps are sums
/// over modalities, by rows 1 .. 5 of the weights at fusion_tap, and the last is also the result.
template <class O>
using pyramid = typename detail::pyramid<O>::type;

/// The same encoder without the pyramid: its result is the last map f5 (16F channels at 1/32).
template <class O>
using encoder = seq<patch_embedding<O>, stage1<O>, stage2<O>, stage3<O>, stage4<O>, plain_layer_norm>;

namespace detail {

template <class O, int C, fixed_string Name, int Tap, class Skip>
struct up_block {
  using type = seq<branch<concat, named<Name, named<"transp_conv.conv", conv3d_transpose<C>>>, Skip>,
                   named<Name, named<"conv_block", widening_block<C, 0>>>>;
};
template <int C, fixed_string Name, int Tap>
using skip_block = seq<recall<Tap>, named<Name, named<"layer", residual_block<C, 0>>>>;

}  // namespace detail

/// SwinUNETR (Hatamizadeh et al. 2022, arXiv 2201.01266; MONAI SwinUNETR): the encoder and a convolutional decoder
/// with skip connections. Tap 5 is the full-resolution branch. Extents must be multiples of 32.
template <class O, int Out>
using unetr =
    seq<tap<5, named<"encoder1.layer", widening_block<O::features, 0>>>, named<"swinViT", pyramid<O>>,
        recall<4>, named<"encoder10.layer", residual_block<16 * O::features, 0>>,
        typename detail::up_block<O, 8 * O::features, "decoder5", 3, recall<3>>::type,
        typename detail::up_block<O, 4 * O::features, "decoder4", 2,
                                  detail::skip_block<4 * O::features, "encoder4", 2>>::type,
        typename detail::up_block<O, 2 * O::features, "decoder3", 1,
                                  detail::skip_block<2 * O::features, "encoder3", 1>>::type,
        typename detail::up_block<O, O::features, "decoder2", 0,
                                  detail::skip_block<O::features, "encoder2", 0>>::type,
        typename detail::up_block<O, O::features, "decoder1", 5, recall<5>>::type,
        named<"out.conv.conv", conv3d<Out, cube(1)>>>;

}  // namespace insula::swin
