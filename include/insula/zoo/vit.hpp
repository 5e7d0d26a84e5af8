// SPDX-License-Identifier: Apache-2.0
// Vision transformers over patches of volumes and images, in timm's naming: encoder, classifier, how they start.
#pragma once

#include "insula/layer/attention.hpp"
#include "insula/layer/batch_norm.hpp"
#include "insula/layer/linear.hpp"
#include "insula/layer/norm.hpp"
#include "insula/layer/patch_embedding.hpp"
#include "insula/layer/pool.hpp"
#include "insula/layer/token.hpp"
#include "insula/net/describe.hpp"

namespace insula::vit {

/// What a vision transformer is made of. Derive and overwrite what differs; pass the type. Defaults: the ViT-Base of MAE
/// (facebookresearch/mae models_mae.py) over patches of 25 x 16 x 16 of a brain in the template's frame.
struct options {
  static constexpr int width = 768, depth = 12, heads = 12;
  static constexpr int mlp_ratio = 4;
  static constexpr int channels = 1;
  static constexpr extent volume{150, 192, 192};  ///< voxels of a sample; an image has one plane
  static constexpr extent patch{25, 16, 16};      ///< divides `volume`
  static constexpr bool planar = false;           ///< one plane, and weights on disk as of 2D networks
  static constexpr position_axes axes = position_axes::zyx;
  static constexpr bool trained_positions = false;
  static constexpr bool drops_paths = false;  ///< pass_options::drop_path counts; a block is then not fused
};
/// ViT-Base, -Large (MAE) and -Tiny (Touvron et al. 2021, arXiv 2012.12877).
struct base : options {};
struct large : options {
  static constexpr int width = 1024, depth = 24, heads = 16;
};
struct tiny : options {
  static constexpr int width = 192, heads = 3;
};

/// Patches per axis, and of a sample.
template <class O>
inline constexpr extent grid{O::volume.d / O::patch.d, O::volume.h / O::patch.h, O::volume.w / O::patch.w};
template <class O>
inline constexpr index_t patches = grid<O>.size();
/// Input of one sample.
template <class O>
using input = shape<O::channels, O::volume.d, O::volume.h, O::volume.w>;

using norm = layer_norm_with<learned::yes, norm_eps::six>;

namespace detail {

template <int Width, int Heads>
using attend = seq<named<"norm1", norm>, named<"attn.qkv", linear<3 * Width>>, attention<Heads>,
                   named<"attn.proj", linear<Width>>>;
template <int Width, int Ratio>
using feed =
    seq<named<"norm2", norm>, named<"mlp.fc1", linear_gelu<Ratio * Width>>, named<"mlp.fc2", linear<Width>>>;

template <int Width, int Heads, int Ratio, bool Drops>
struct block {
  using type = seq<residual<attend<Width, Heads>>, feed_forward<Ratio, timm_names>>;
};
template <int Width, int Heads, int Ratio>
struct block<Width, Heads, Ratio, true> {
  using type = seq<residual_with<attend<Width, Heads>, drop_path_by_depth>,
                   residual_with<feed<Width, Ratio>, drop_path_by_depth>>;
};

template <class O>
inline constexpr position_opts positions{.grid = grid<O>, .axes = O::axes, .trained = O::trained_positions};

}  // namespace detail

/// Depth blocks x + attention(norm1 x), x + mlp(norm2 x): pre-norm, LayerNorm eps 1e-6, exact GELU, qkv with bias and rows
/// q, k, v, each head-major (timm 0.3.2 vision_transformer.py). With Drops every branch is followed by drop path.
template <int Width, int Depth, int Heads, int Ratio, bool Drops = false>
using blocks = repeat<Depth, typename detail::block<Width, Heads, Ratio, Drops>::type>;

/// Volume to (1 + tokens, width): patches, class token, positions. Keep: see patch_opts.
template <class O, index_t Keep = 0>
using embedding =
    seq<named<"patch_embed.proj",
              patch_embedding<O::width, patch_opts{.patch = O::patch, .keep = Keep, .planar = O::planar}>>,
        class_token_and_positions<detail::positions<O>>>;

/// Volume to (1 + tokens, width) features, class token first, before the last norm.
template <class O, index_t Keep = 0>
using trunk = seq<embedding<O, Keep>,
                  named<"blocks", blocks<O::width, O::depth, O::heads, O::mlp_ratio, O::drops_paths>>>;

/// Volume to normalised features: the encoder of MAE, and that of a linear probe.
template <class O, index_t Keep = 0>
using encoder = seq<trunk<O, Keep>, named<"norm", norm>>;

/// The class token of the encoder's features: (width).
template <class O>
using class_feature = seq<encoder<O>, take_class_token>;
/// Mean of the patch tokens, normalised: (width). Names as in facebookresearch/mae models_vit.py with global_pool.
template <class O>
using mean_feature = seq<trunk<O>, drop_class_token, global_average, named<"fc_norm", norm>>;

/// The options of a network that is trained for a task: positions are trained too, paths may be dropped.
template <class O>
struct downstream : O {
  static constexpr bool trained_positions = true;
  static constexpr bool drops_paths = true;
};

/// How a classifier makes one vector of a sequence.
enum class pooling { mean, class_token };

/// Volume to Outputs numbers: `head` is linear on mean_feature or class_feature. Trained by fine-tuning or from scratch. Its
/// tensors are those of a published fine-tuned vision transformer.
template <class O, int Outputs, pooling P = pooling::mean>
using classifier =
    seq<std::conditional_t<P == pooling::mean, mean_feature<downstream<O>>, class_feature<downstream<O>>>,
        named<"head", linear<Outputs>>>;

/// A classifier on the class token of a frozen encoder: only `head` learns.
template <class O, int Outputs>
using linear_probe = seq<frozen<class_feature<O>>, named<"head", linear<Outputs>>>;
/// The same in the form of facebookresearch/mae main_linprobe.py: a batch norm without weights (eps 1e-6) before the linear
/// layer. Its head starts with weights N(0, 0.01^2): initialise_normal().
template <class O, int Outputs>
using normalised_probe =
    seq<frozen<class_feature<O>>,
        named<"head", list<batch_norm<activation::none, learned::no, norm_eps::six>, linear<Outputs>>>>;

/// Start of a network trained from scratch (timm 0.3.2 VisionTransformer._init_weights): linear weights, class token and
/// positions N(0, 0.02^2), biases zero, the patches' convolution by its own rule.
///   initialise(timm_start(model::places()), w, key)
inline std::vector<tensor_place> timm_start(std::vector<tensor_place> places) {
  for (auto& t : places) {
    if (t.name.find("patch_embed.proj.") != std::string::npos) continue;
    if (t.how == start::table) t.how = start::small_normal;
    if (t.how == start::fan_uniform) t.how = t.shape.rank > 1 ? start::small_normal : start::zeros;
  }
  return places;
}

}  // namespace insula::vit
