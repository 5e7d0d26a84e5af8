// SPDX-License-Identifier: Apache-2.0
// The 3D ResNet with MONAI's names, its stem with stride 1 and its shortcuts with bias, as in 3D-Neuro-SimCLR.
#pragma once

#include "insula/layer/batch_norm.hpp"
#include "insula/layer/conv.hpp"

namespace insula::resnet {

enum class block_kind { basic, bottleneck };

/// What a ResNet is made of. Derive and overwrite what differs; pass the type. Defaults: ResNet-18 as 3D-Neuro-SimCLR builds it
/// (simclr/modules/resnet.py, after MONAI monai/networks/nets/resnet.py; He et al. 2016, arXiv 1512.03385).
struct options {
  static constexpr block_kind kind = block_kind::basic;
  static constexpr int blocks[4] = {2, 2, 2, 2};
  static constexpr int widths[4] = {64, 128, 256, 512};  ///< of the 3^3 convolutions
  static constexpr int stem_kernel = 7, stem_stride = 1;
  static constexpr bool projection_bias = true;  ///< of the 1^3 convolution of a shortcut
  static constexpr bool recompute_stem = false;  ///< activation checkpointing of the stem
  static constexpr int recompute_stages = 0;     ///< and of every block of the first stages
};
struct resnet18 : options {};
struct resnet50 : options {
  static constexpr block_kind kind = block_kind::bottleneck;
  static constexpr int blocks[4] = {3, 4, 6, 3};
};

namespace detail {

/// A convolution before a batch norm: no bias, Kaiming normal start with fan_out.
template <int Out, int K, int Stride = 1>
using conv =
    conv3d<Out, cube(K),
           conv_opts{
               .stride = cube(Stride), .pad = cube(K / 2), .bias = false, .weights = start::fan_out_normal}>;

constexpr int expansion(block_kind k) { return k == block_kind::basic ? 1 : 4; }

template <class O, int Width, int Stride>
struct body {  // basic: two 3^3 convolutions, the first with the stride
  using type = seq<named<"conv1", conv<Width, 3, Stride>>, named<"bn1", batch_norm<activation::relu>>,
                   named<"conv2", conv<Width, 3>>>;
};
template <class O, int Width, int Stride>
requires(O::kind ==
         block_kind::bottleneck) struct body<O, Width, Stride> {  // 1^3, 3^3 with the stride, 1^3 to 4 widths
  using type = seq<named<"conv1", conv<Width, 1>>, named<"bn1", batch_norm<activation::relu>>,
                   named<"conv2", conv<Width, 3, Stride>>, named<"bn2", batch_norm<activation::relu>>,
                   named<"conv3", conv<4 * Width, 1>>>;
};

/// relu(bn(...) + shortcut), named bn2 in basic blocks and bn3 in bottlenecks.
template <class O>
using last_norm =
    std::conditional_t<O::kind == block_kind::basic, named<"bn2", batch_norm_add<activation::relu>>,
                       named<"bn3", batch_norm_add<activation::relu>>>;

template <class O, int Out, int Stride>
using projection = named<
    "downsample",
    list<conv3d<Out, cube(1),
                conv_opts{
                    .stride = cube(Stride), .bias = O::projection_bias, .weights = start::fan_out_normal}>,
         batch_norm<>>>;

/// One block from In channels; the shortcut is the identity where shapes allow.
template <class O, int In, int Width, int Stride>
struct block {
  static constexpr int out = Width * expansion(O::kind);
  using body_type = typename body<O, Width, Stride>::type;
  using type = std::conditional_t<Stride == 1 && In == out, residual_with<body_type, last_norm<O>>,
                                  branch<last_norm<O>, body_type, projection<O, out, Stride>>>;
};

template <bool Is, class L>
using recomputed = std::conditional_t<Is, recompute<L>, L>;

template <class O, int Stage, int In, class Indices>
struct stage;
template <class O, int Stage, int In, int... Later>
struct stage<O, Stage, In, std::integer_sequence<int, Later...>> {
  static constexpr int width = O::widths[Stage], out = width * expansion(O::kind);
  static constexpr bool again = Stage < O::recompute_stages;
  template <int>
  using later = recomputed<again, typename block<O, out, width, 1>::type>;
  using type =
      list<recomputed<again, typename block<O, In, width, Stage == 0 ? 1 : 2>::type>, later<Later>...>;
};

}  // namespace detail

/// Channels that a stage gives.
template <class O>
constexpr int channels(int stage) {
  return O::widths[stage] * detail::expansion(O::kind);
}

/// Convolution, batch norm, ReLU and max-pooling (kernel 3, stride 2), the last three in one pass over memory.
template <class O>
using stem =
    detail::recomputed<O::recompute_stem,
                       seq<named<"conv1", detail::conv<O::widths[0], O::stem_kernel, O::stem_stride>>,
                           named<"bn1", batch_norm_pool<activation::relu>>>>;

/// The blocks of stage 0 .. 3; every stage but the first halves the extents.
template <class O, int Stage>
using stage =
    typename detail::stage<O, Stage, Stage == 0 ? O::widths[0] : channels<O>(Stage == 0 ? 0 : Stage - 1),
                           std::make_integer_sequence<int, O::blocks[Stage] - 1>>::type;

/// Volume to the last stage's map.
template <class O>
using trunk = seq<stem<O>, named<"layer1", stage<O, 0>>, named<"layer2", stage<O, 1>>,
                  named<"layer3", stage<O, 2>>, named<"layer4", stage<O, 3>>>;

/// Volume to the mean of the last map over its voxels: 512 numbers for ResNet-18, 2048 for ResNet-50.
template <class O>
using encoder = seq<trunk<O>, global_average>;

}  // namespace insula::resnet
