// SPDX-License-Identifier: Apache-2.0
// Every layer's gradient against central differences, on the plain and the CPU kernels, in double.
#include "insula/cpu.hpp"
#include "insula/layer/attention.hpp"
#include "insula/layer/batch_norm.hpp"
#include "insula/layer/concat.hpp"
#include "insula/layer/conv.hpp"
#include "insula/layer/linear.hpp"
#include "insula/layer/modalities.hpp"
#include "insula/layer/norm.hpp"
#include "insula/layer/patch.hpp"
#include "insula/layer/patch_embedding.hpp"
#include "insula/layer/pool.hpp"
#include "insula/layer/resample.hpp"
#include "insula/layer/token.hpp"
#include "insula/layer/window_attention.hpp"
#include "insula/plain.hpp"
#include "insula/testing/gradients.hpp"
#include "support/catch.hpp"

using namespace insula;
using insula::testing::check_layer;
using insula::testing::gradient_options;

namespace {

template <class L, class... S>
void check(gradient_options o = {}) {
  context<plain> slow;
  context<cpu> fast(2);
  for (auto const& r : {check_layer<L, S...>(slow, o), check_layer<L, S...>(fast, o)}) {
    INFO("deviates most in " << r.where);
    CHECK(r.worst < 1e-6);
  }
}

using small = shape<3, 5, 4, 6>;
using odd = shape<5, 3, 7, 2>;

}  // namespace

TEST_CASE("convolutions", "[gradient]") {
  check<conv3d<4, cube(3), conv_opts{.pad = cube(1)}>, small, odd>();
  check<conv3d<5, extent{1, 3, 2}, conv_opts{.stride = {1, 2, 1}, .pad = {0, 1, 0}, .bias = false}>, small,
        odd>();
  check<conv3d<6, cube(2), conv_opts{.stride = cube(2)}>, small>();
  check<conv3d<3, cube(3), conv_opts{.pad = cube(1), .groups = 3}>, small>();
  check<conv3d<7, cube(1)>, small, odd>();
  check<conv3d_transpose<4>, small, odd>();
  check<conv3d_transpose<3, extent{1, 2, 3}, true>, small>();
}

TEST_CASE("linear and feed-forward", "[gradient]") {
  check<linear<7>, shape<5>, shape<6, 3>, small>();
  check<linear<4, bias::no>, shape<5>, odd>();
  check<linear_gelu<7>, shape<5>, shape<6, 3>, small>();
  check<residual<seq<layer_norm, linear_gelu<12>, linear<3>>>, shape<5, 3>, small>();
  check<feed_forward<4>, small, shape<9, 24>>();
}

TEST_CASE("norms with their activations and shortcuts", "[gradient]") {
  check<layer_norm, shape<7>, shape<6, 9>, small>();
  check<plain_layer_norm, shape<6, 9>, odd>();
  check<group_norm<3>, small, shape<6, 3, 2, 5>>();
  check<group_norm<1, activation::gelu>, small>();
  check<group_norm<2, activation::leaky_relu>, shape<4, 3, 2, 5>>({.step = 1e-6});
  check<instance_norm<activation::leaky_relu>, small, odd>({.step = 1e-6});
  check<
      residual_with<conv3d<3, cube(1), conv_opts{.bias = false}>, group_norm_add<3, activation::leaky_relu>>,
      small>({.step = 1e-6});
  check<residual_with<conv3d<3, cube(1), conv_opts{.bias = false}>, instance_norm_add<activation::gelu>>,
        small>();
}

TEST_CASE("batch norms in training and in evaluation", "[gradient]") {
  using conv = conv3d<3, cube(1), conv_opts{.bias = false}>;
  using wide = conv3d<5, cube(3), conv_opts{.pad = cube(1), .bias = false}>;
  for (bool training : {true, false}) {
    gradient_options const o{.with = {.training = training}},
        kinks{.step = 1e-5, .with = {.training = training}},
        ties{.step = 1e-6, .with = {.training = training}};
    check<batch_norm<>, small, shape<6, 9>>(o);
    check<batch_norm<activation::gelu, learned::no>, odd>(o);
    check<batch_norm<activation::relu>, small, odd>(kinks);
    check<residual_with<seq<conv, batch_norm<activation::relu>, conv>, batch_norm_add<activation::relu>>,
          small>(kinks);
    check<branch<batch_norm_add<activation::gelu>, seq<wide, batch_norm<>>, seq<wide, batch_norm<>>>, small>(
        o);
    check<seq<conv3d<4, cube(1)>, batch_norm_pool<activation::relu>, conv>, small, odd>(kinks);
    check<batch_norm_pool<activation::gelu,
                          pool_opts{.kernel = {2, 3, 1}, .stride = {1, 2, 1}, .pad = {1, 0, 0}}>,
          small>(ties);
    using stem = seq<wide, batch_norm_pool<activation::relu>>;
    using block =
        residual_with<seq<wide, batch_norm<activation::gelu>, wide>, batch_norm_add<activation::gelu>>;
    check<seq<recompute<stem>, recompute<block>, recompute<block>>, small>(kinks);
    check<seq<wide, residual<recompute<seq<batch_norm<>, frozen<batch_norm<activation::gelu>>>>>>, small>(o);
    check<seq<frozen<stem>, block>, small>(kinks);
  }
  check<max_pool3d<>, small, odd>({.step = 1e-6});
  check<residual<seq<conv, max_pool3d<pool_opts{.kernel = {3, 1, 1}, .stride = cube(1), .pad = {1, 0, 0}}>>>,
        small>({.step = 1e-6});
}

TEST_CASE("activations and joins", "[gradient]") {
  check<seq<linear<6>, relu>, shape<5, 3>>({.step = 1e-6});  // small steps: few cross the kink
  check<seq<linear<6>, leaky_relu>, shape<5, 3>>({.step = 1e-6});
  check<seq<linear<6>, gelu>, shape<5, 3>>();
  check<residual<linear<3>>, shape<5, 3>>();
  check<residual<seq<layer_norm, linear<12>, gelu, linear<3>>>, shape<5, 3>, small>();
  check<residual<feed_forward<2>>, shape<5, 3>>();
  check<residual_with<linear<3>, drop_path<300>>, shape<5, 3>>(
      {.with = {.training = true, .key = {5, 6, 7}}});
  check<skip<conv3d<4, cube(3), conv_opts{.pad = cube(1)}>>, small>();
  check<branch<add, linear<4>, linear<4>>, shape<5, 3>>();
  check<branch<add, identity, identity>, shape<5, 3>>();
}

TEST_CASE("window attention", "[gradient]") {
  check<window_attention<2, cube(3), cube(1)>, shape<4, 5, 3, 7>>();
  check<window_attention<3, extent{2, 3, 2}>, shape<6, 4, 5, 2>>();
  check<window_attention<1, cube(7), cube(3)>, shape<3, 3, 2, 4>>();
}

TEST_CASE("patches, resizing, pooling, tokens", "[gradient]") {
  check<gather_patches<>, small, odd>();
  check<gather_patches<op::merging_before_1_5>, odd>();
  check<voxel_shuffle<>, shape<16, 2, 3, 2>>();
  check<voxel_shuffle<extent{1, 2, 3}>, shape<12, 2, 3, 2>>();
  check<pad_to_multiple<cube(4)>, small, odd>();
  check<resize_to<extent{7, 3, 11}>, small, odd>();
  check<resize_to<extent{10, 8, 12}>, small>();
  check<resize_to<extent{7, 3, 11}, resizing::nearest>, small>();
  check<seq<tap<0>, conv3d<3, cube(2), conv_opts{.stride = cube(2)}>,
            branch<resize_add<>, identity, recall<0>>>,
        small>();
  check<global_average, small, shape<6, 5>>();
  check<l2_normalise, shape<9>, shape<4, 5>>();
  std::vector<std::uint8_t> mask(3 * 120);
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % 3 == 0;
  check<mask_token, small>({.with = {.mask = mask.data()}});
  check<mask_token, small>();
}

TEST_CASE("one network shared by modalities, and their weighted sums", "[gradient]") {
  using conv = conv3d<3, cube(3), conv_opts{.pad = cube(1)}>;
  using fused = seq<tap<0, modality_weights<3, 2>>,
                    modalities<2, seq<conv, tap<1, branch<fuse_modalities<2>, gelu, recall<0>>>,
                                      branch<fuse_modalities<0>, feed_forward<2>, recall<0>>>>,
                    branch<concat, identity, recall<1>>>;
  check<fused, shape<2, 3, 4, 2>, shape<6, 2, 3, 3>>();
  check<seq<tap<0, modality_weights<1, 3>>,
            modalities<3, seq<recompute<seq<group_norm<1, activation::gelu>, conv>>,
                              branch<fuse_modalities<0>, identity, recall<0>>>>>,
        shape<3, 2, 3, 2>>();
  check<seq<tap<0, modality_weights<1, 1>>, modalities<1, branch<fuse_modalities<0>, conv, recall<0>>>>,
        small>();
}

TEST_CASE("composition: taps, recall, recompute, frozen", "[gradient]") {
  using block = residual_with<
      seq<conv3d<3, cube(3), conv_opts{.pad = cube(1)}>, group_norm<3, activation::gelu>, conv3d<3, cube(1)>>,
      group_norm_add<1, activation::gelu>>;
  check<repeat<3, block>, small>();
  check<repeat<2, recompute<block>>, small>();
  check<seq<block, recompute<seq<feed_forward<2>, feed_forward<3>>>, block>, small>();
  using thrifty = residual_with<seq<conv3d<3, cube(3), conv_opts{.pad = cube(1)}>,
                                    recompute_before<group_norm<3, activation::gelu>, conv3d<3, cube(1)>>>,
                                group_norm_add<1, activation::gelu>>;
  check<repeat<3, thrifty>, small>();
  check<repeat<2, seq<thrifty, recompute_input<group_norm_add<1, activation::gelu>, feed_forward<2>>>>,
        small>();
  check<seq<feed_forward<2>, recompute_before<seq<layer_norm, gelu>, linear<5>>, feed_forward<2>>, small>();
  check<inner_taps<seq<tap<0>, feed_forward<2>, tap<1>, feed_forward<2>,
                       branch<concat, recompute_before<layer_norm, linear<3>>, recall<0>>,
                       branch<concat, identity, seq<recall<1>, recompute_before<layer_norm, linear<3>>>>>>,
        small>();
  check<seq<feed_forward<2>, frozen<feed_forward<2>>, linear<5>>, small>();
  check<seq<frozen<conv3d<4, cube(1)>>, feed_forward<2>>, small>();
  check<seq<tap<0, linear<4>>, feed_forward<2>, tap<1>, feed_forward<2>, branch<concat, identity, recall<1>>,
            tap<2>, branch<concat, recall<0>, seq<recall<2>, gelu>>>,
        small>();
  check<residual<seq<feed_forward<2>, window_attention<1, cube(3), cube(1)>>>, small>();
}

TEST_CASE("layers of vision transformers", "[gradient]") {
  using volume = shape<2, 4, 6, 6>;
  constexpr extent patch{2, 3, 2}, grid{2, 2, 3};
  check<patch_embedding<5, patch_opts{.patch = patch}>, volume>();
  check<patch_embedding<5, patch_opts{.patch = {1, 3, 2}, .planar = true}>, shape<3, 1, 6, 4>>();
  check<attention<2>, shape<5, 18>, shape<1, 6>>();
  check<residual<seq<layer_norm_with<learned::yes, norm_eps::six>, linear<24>, attention<2>, linear<8>>>,
        shape<7, 8>>();
  check<feed_forward<2, timm_names>, shape<7, 8>>();
  check<seq<linear<6>, drop_class_token>, shape<5, 3>>();
  check<seq<linear<6>, take_class_token>, shape<5, 3>>();
  check<repeat<3, residual_with<linear<3>, drop_path_by_depth>>, shape<5, 3>>(
      {.with = {.training = true, .key = {5, 6, 7}, .drop_path = 0.6}});
  check<seq<linear<6>, class_token_and_positions<position_opts{.grid = grid, .trained = true}>>,
        shape<12, 3>>();
  check<class_token_and_positions<position_opts{.grid = grid}>, shape<12, 6>>();
  check<restore_tokens<position_opts{.grid = grid}>, shape<13, 6>>();

  std::vector<std::int32_t> shuffle, restore(36);  // three samples, rotated and reversed
  for (int n = 0; n < 3; ++n)
    for (int k = 0; k < 12; ++k) shuffle.push_back((12 + n - k) % 12);
  for (int n = 0; n < 3; ++n)
    for (int k = 0; k < 12; ++k) restore[std::size_t(n * 12 + shuffle[std::size_t(n * 12 + k)])] = k;
  using masked =
      seq<patch_embedding<6, patch_opts{.patch = patch, .keep = 5}>,
          class_token_and_positions<position_opts{.grid = grid, .trained = true}>,
          repeat<2, seq<residual<seq<linear<18>, attention<2>, linear<6>>>, feed_forward<2, timm_names>>>,
          linear<7>, restore_tokens<position_opts{.grid = grid, .trained = true}>, drop_class_token,
          linear<3>>;
  check<masked, volume>({.with = {.order = {shuffle.data(), restore.data(), 0}}});
  check<masked, volume>(
      {.with = {.order = {shuffle.data(), restore.data(), 3}}});  // fewer than there is room for
  check<recompute<masked>, volume>({.with = {.order = {shuffle.data(), restore.data(), 4}}});
}
