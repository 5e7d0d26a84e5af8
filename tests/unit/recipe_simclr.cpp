// SPDX-License-Identifier: Apache-2.0
// The transforms of 3D-Neuro-SimCLR against their published golden numbers, the fused view against its steps, the chains.
#include "insula/data/recipe_simclr.hpp"

#include <limits>

#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/fill.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

volume golden_image() {
  volume x = make_volume({6, 5, 7});
  x.voxels = support::fill<float>(5, 210);
  return x;
}
volume golden_mask() {
  volume m = make_volume({6, 5, 7});
  auto const f = support::fill<float>(6, 210);
  for (std::size_t i = 0; i < f.size(); ++i) m.voxels[i] = f[i] > -0.3f ? 1.0f : 0.0f;
  return m;
}
double sum(volume const& x) {
  double s = 0;
  for (float const v : x.voxels) s += double(v);
  return s;
}

struct golden {
  float first[4];
  index_t at[3];
  double there, total;
};
void check_golden(volume const& y, golden const& g) {
  for (index_t w = 0; w < 4; ++w) {
    INFO("[0,0," << w << "] is " << y.at(0, 0, w));
    CHECK(std::fabs(y.at(0, 0, w) - g.first[w]) < 2e-6f);
  }
  CHECK(std::fabs(double(y.at(g.at[0], g.at[1], g.at[2])) - g.there) < 2e-6);
  CHECK(std::fabs(sum(y) - g.total) < 1e-4);
}

volume random_volume(extent n, std::uint64_t seed) {
  volume x = make_volume(n);
  x.voxels = testing::random_vector<float>(n.size(), seed);
  return x;
}
/// A ball of ones.
volume ball(extent n, double radius) {
  volume m = make_volume(n);
  for (index_t d = 0; d < n.d; ++d)
    for (index_t h = 0; h < n.h; ++h)
      for (index_t w = 0; w < n.w; ++w)
        m.at(d, h, w) = std::hypot(double(d) - double(n.d) / 2, double(h) - double(n.h) / 2,
                                   double(w) - double(n.w) / 2) < radius;
  return m;
}

volume fused_image(volume const& x, resized_view const& v) {
  view_scratch s;
  volume y = make_volume(v.size, std::numeric_limits<float>::quiet_NaN());
  view_image(x, v, s, y.voxels.data());
  return y;
}
volume fused_mask(volume const& x, resized_view const& v) {
  view_scratch s;
  volume y = make_volume(v.size, std::numeric_limits<float>::quiet_NaN());
  CHECK(view_mask(x, v, s, y.voxels.data()));
  return y;
}
resized_view whole(volume const& x, extent size) { return {{{0, 0, 0}, x.size}, size}; }

}  // namespace

TEST_CASE("resizing is MONAI's, in steps and fused") {
  volume const x = golden_image(), m = golden_mask();
  REQUIRE(sum(m) == 133);
  golden const g{{-0.4337919f, -0.3747120f, -0.2622650f, 0.0285926f}, {4, 3, 5}, 0.0989782, -18.471764};
  for (auto const& y : {resize_trilinear(x, {9, 8, 11}), fused_image(x, whole(x, {9, 8, 11}))}) {
    check_golden(y, g);
    CHECK(std::fabs(y.at(8, 7, 10) - -0.2366960f) < 2e-6f);
  }
  CHECK(sum(resize_nearest(m, {9, 8, 11})) == 507);
  CHECK(sum(fused_mask(m, whole(m, {9, 8, 11}))) == 507);
}

TEST_CASE("the nearest rule is the float32 one") {
  CHECK(nearest_index(108, 112, 192) == 62);  // exactly 63
}

TEST_CASE("rotation about axis 0 is MONAI's, in steps and fused") {
  volume const x = golden_image(), m = golden_mask();
  resample_options const nearest{interpolation::nearest, outside::edge};
  struct one {
    double angle;
    golden image;
    double mask;
  };
  for (one const& o :
       {one{0.3,
            {{-0.1158572f, -0.4879340f, -0.4025732f, -0.0232696f}, {3, 2, 4}, 0.4239105, -4.232311},
            131},
        one{0.785,
            {{0.0906888f, -0.2473762f, -0.7498003f, -0.5212433f}, {3, 2, 4}, 0.2940516, -3.641610},
            135}}) {
    check_golden(affine_augment(x, {.rotation = {o.angle, 0, 0}}), o.image);
    CHECK(sum(affine_augment(m, {.rotation = {o.angle, 0, 0}}, nearest)) == o.mask);
    auto v = whole(x, x.size);
    v.angle = o.angle;
    check_golden(fused_image(x, v), o.image);
    CHECK(sum(fused_mask(m, v)) == o.mask);
  }
}

TEST_CASE("rotation about three axes and the affine are MONAI's") {
  volume const x = golden_image(), m = golden_mask();
  affine_parameters const turned{.rotation = {0.2, -0.1, 0.4}};
  check_golden(affine_augment(x, turned),
               {{-0.7360873f, -0.3425282f, 0.4363153f, 0.1552565f}, {3, 2, 4}, 0.3828715, -3.927506});
  CHECK(sum(affine_augment(m, turned, {interpolation::nearest, outside::edge})) == 129);
  affine_parameters const moved{
      .rotation = {0.08, -0.05, 0.1}, .scale = {1.1, 0.9, 1.05}, .translation = {1.2, -0.7, 2.3}};
  check_golden(affine_augment(x, moved, {interpolation::linear, outside::mirror}),
               {{0.1405973f, -0.3483481f, 0.7162406f, -0.8143481f}, {3, 2, 4}, -0.1679790, -3.642288});
  CHECK(sum(affine_augment(m, moved, {interpolation::nearest, outside::mirror})) == 136);
}

TEST_CASE("contrast adjustment is MONAI's; inversion and kept statistics follow their formulas") {
  volume const x = golden_image();
  volume y = x;
  adjust_contrast(y, {.gamma = 0.7});
  float const first[4] = {-0.1742197f, -0.0454168f, 0.3596060f, 0.1392905f};
  for (index_t w = 0; w < 4; ++w) CHECK(std::fabs(y.at(0, 0, w) - first[w]) < 2e-6f);
  CHECK(std::fabs(sum(y) - 33.005053) < 1e-4);

  volume inverted = x;
  adjust_contrast(inverted, {.gamma = 1.4, .invert = true});
  volume expected = x;
  for (auto& v : expected.voxels) v = -v;
  adjust_gamma(expected, 1.4);
  for (auto& v : expected.voxels) v = -v;
  CHECK(inverted.voxels == expected.voxels);

  volume kept = x;
  adjust_contrast(kept, {.gamma = 0.6, .retain_statistics = true});
  auto const before = statistics(x), after = statistics(kept);
  CHECK(after.mean == Approx(before.mean).margin(1e-6));
  CHECK(after.variance == Approx(before.variance).epsilon(1e-5));
  CHECK(testing::relative_error(kept.voxels, x.voxels) > 0.01);
}

TEST_CASE("the masked z-score is the published one") {
  volume y = golden_image();
  auto const s = masked_z_score(y, golden_mask());
  CHECK(std::fabs(s.mean - -0.05353047) < 1e-8);
  CHECK(std::fabs(s.deviation - 0.53017376) < 1e-8);
  CHECK(s.usable);
  float const first[4] = {-0.7172393f, -0.4720823f, 0.3900162f, 0};
  for (index_t w = 0; w < 4; ++w) CHECK(std::fabs(y.at(0, 0, w) - first[w]) < 2e-6f);
}

TEST_CASE("the masked z-score weighs by the mask, leaves the background 0, and tells what is not usable") {
  volume x = random_volume({3, 4, 5}, 1), m = random_volume({3, 4, 5}, 2), y = x;
  for (auto& v : m.voxels) v = v > 0 ? v : 0;
  auto const s = masked_z_score(y, m);
  double n = 0, sum = 0, squares = 0;
  for (std::size_t i = 0; i < x.voxels.size(); ++i) {
    double const v = double(x.voxels[i]) * double(m.voxels[i]);
    n += double(m.voxels[i]), sum += v, squares += v * v;
  }
  double const mean = sum / n, deviation = std::sqrt(squares / n - mean * mean + 1e-12);
  for (std::size_t i = 0; i < x.voxels.size(); ++i)
    CHECK(double(y.voxels[i]) ==
          Approx((double(x.voxels[i]) * double(m.voxels[i]) - mean) / deviation * double(m.voxels[i]))
              .margin(1e-6));
  CHECK(s.usable);
  CHECK(!masked_z_score(y, make_volume(y.size)).usable);
  volume bad = x;
  bad.voxels[17] = std::numeric_limits<float>::quiet_NaN();
  CHECK(!masked_z_score(bad, make_volume(y.size, 1)).usable);
  volume infinite = x;
  infinite.voxels[59] = std::numeric_limits<float>::infinity();
  CHECK(!masked_z_score(infinite, make_volume(y.size, 1)).usable);
  CHECK_THAT(message_of([&] {
               masked_z_score(y, make_volume({3, 4, 4}));
             }),
             Contains("3x4x5") && Contains("3x4x4"));
}

TEST_CASE("crop, resize, flip and rotation in one pass are the steps one after the other") {
  random_stream random({3, 1});
  volume const x = random_volume({13, 17, 15}, 4), m = ball({13, 17, 15}, 6);
  for (int round = 0; round < 12; ++round) {
    resized_view v;
    v.from = draw_box(x.size, {2, 3, 1}, random);
    v.size = round % 4 == 3 ? extent{1, 9, 8} : extent{14, 18, 16};
    v.flip = round % 2;
    v.angle = round % 3 ? random.uniform(-1, 1) : 0;
    INFO("box " << text(v.from.from, " ", v.from.size) << " flip " << v.flip << " angle " << v.angle);
    volume image = resize_trilinear(crop(x, v.from), v.size), mask = resize_nearest(crop(m, v.from), v.size);
    if (v.flip) image = flip(image, 2), mask = flip(mask, 2);
    if (v.angle != 0) {
      image = affine_augment(image, {.rotation = {v.angle, 0, 0}});
      mask = affine_augment(mask, {.rotation = {v.angle, 0, 0}}, {interpolation::nearest, outside::edge});
    }
    CHECK(testing::relative_error(fused_image(x, v).voxels, image.voxels) < 2e-6);
    view_scratch s;
    volume y = make_volume(v.size, -1);
    bool const any = view_mask(m, v, s, y.voxels.data());
    CHECK(y.voxels == mask.voxels);
    CHECK(any == (sum(mask) > 0));
  }
  resized_view outside{{{0, 0, 1}, x.size}, x.size};
  CHECK_THAT(message_of([&] { fused_image(x, outside); }), Contains("view_image") && Contains("13x17x15"));
}

TEST_CASE("random boxes: sizes from the least to the whole axis, corners that fit, both ends met") {
  random_stream random({1, 9});
  extent const n{5, 6, 7}, least{2, 6, 1};
  std::array<index_t, 8> sizes{};
  index_t touches = 0;
  for (int i = 0; i < 3000; ++i) {
    box const b = draw_box(n, least, random);
    for (int a = 0; a < 3; ++a)
      REQUIRE((b.size[a] >= least[a] && b.from[a] >= 0 && b.from[a] + b.size[a] <= n[a]));
    ++sizes[std::size_t(b.size.w)], touches += b.from.w + b.size.w == n.w;
  }
  for (std::size_t s = 1; s < 8; ++s) CHECK(double(sizes[s]) == Approx(3000.0 / 7).epsilon(0.25));
  CHECK(touches > 0);
  CHECK_THAT(message_of([&] { draw_box(n, {6, 1, 1}, random); }), Contains("6x1x1") && Contains("5x6x7"));
}

TEST_CASE("a view is a function of its key, for every chain; views, epochs and samples differ") {
  extent const n{15, 19, 19};
  volume const x = random_volume(n, 5), m = ball(n, 7);
  for (auto const& chain : {simclr_chain(), mae_chain(), supervised_chain()}) {
    auto const r = for_grid(chain, n);
    simclr_scratch s, other;
    std::vector<float> a(std::size_t(n.size()), NAN), b = a, c = a;
    simclr_view(x, m, r, view_key(1, 2, 3, 0), s, a.data());
    simclr_view(x, m, r, view_key(1, 2, 3, 1), s, c.data());
    simclr_view(x, m, r, view_key(1, 2, 3, 0), other, b.data());
    CHECK(a == b);
    CHECK(a != c);
    for (auto const& key : {view_key(2, 2, 3, 0), view_key(1, 3, 3, 0), view_key(1, 2, 4, 0)}) {
      simclr_view(x, m, r, key, s, c.data());
      CHECK(a != c);
    }
    double sum = 0, squares = 0;
    for (float const v : a) sum += double(v), squares += double(v) * double(v);
    CHECK(std::fabs(sum) < 1e-2);
    CHECK(squares > 10);
  }
}

TEST_CASE("the plain chain is the masked z-score alone") {
  extent const n{6, 5, 7};
  volume expected = golden_image();
  masked_z_score(expected, golden_mask());
  simclr_scratch s;
  std::vector<float> y(210, NAN);
  simclr_view(golden_image(), golden_mask(), for_grid(plain_chain(), n), {}, s, y.data());
  CHECK(y == expected.voxels);
}

TEST_CASE("the intensity shift leaves no trace behind contrast adjustment and z-score") {
  extent const n{15, 19, 19};
  volume const x = random_volume(n, 6), m = ball(n, 7);
  auto with = for_grid(simclr_chain(), n), without = with;
  with.shift = 1, without.shift = 0;
  simclr_scratch s;
  std::vector<float> a(std::size_t(n.size())), b = a;
  for (std::uint32_t view = 0; view < 4; ++view) {
    simclr_view(x, m, with, view_key(1, 0, 0, view), s, a.data());
    simclr_view(x, m, without, view_key(1, 0, 0, view), s, b.data());
    CHECK(testing::relative_error(a, b) < 5e-6);
  }
}

TEST_CASE("probabilities and ranges are the published ones over many keys") {
  auto const r = simclr_chain();
  auto const b = supervised_chain();
  double flips = 0, turns = 0, most_angle = 0, shifts = 0, gammas = 0, least_gamma = 9, most_gamma = 0,
         affines = 0, noises = 0, most_sigma = 0, offsets = 0;
  constexpr int draws = 4000;
  for (int i = 0; i < draws; ++i) {
    auto const p = draw_view(r, {150, 192, 192}, view_key(7, 0, i, 0));
    flips += p.spatial.flip, turns += p.spatial.angle != 0, shifts += p.offset != 0, gammas += p.gamma != 1;
    most_angle = std::max(most_angle, std::fabs(p.spatial.angle));
    least_gamma = std::min(least_gamma, p.gamma), most_gamma = std::max(most_gamma, p.gamma);
    CHECK(!p.turned);
    auto const q = draw_view(b, {150, 192, 192}, view_key(7, 0, i, 0));
    affines += q.turned, noises += q.sigma > 0, most_sigma = std::max(most_sigma, q.sigma),
                                                offsets += q.offset != 0;
    REQUIRE((q.spatial.from.size.d >= 90 && q.spatial.from.size.h >= 115 && q.spatial.angle == 0 &&
             q.gamma == 1));
    for (double const t : q.pose.translation) REQUIRE(std::fabs(t) <= 5);
    for (double const v : q.pose.rotation) REQUIRE(std::fabs(v) <= 0.1);
    for (double const v : q.pose.scale) REQUIRE(std::fabs(v - 1) <= 0.15);
  }
  for (auto const& [seen, p] : {std::pair{flips, 0.5},
                                {turns, 0.5},
                                {shifts, 0.8},
                                {gammas, 0.8},
                                {affines, 0.7},
                                {noises, 0.2},
                                {offsets, 0.5}})
    CHECK(seen / draws == Approx(p).margin(4 * std::sqrt(p * (1 - p) / draws)));
  CHECK((most_angle <= 0.785 && most_angle > 0.77));
  CHECK((least_gamma >= 0.5 && least_gamma < 0.52 && most_gamma < 1.5 && most_gamma > 1.48));
  CHECK((most_sigma <= 0.1 && most_sigma > 0.09));
}

TEST_CASE("a view is drawn again until it shows brain, and an empty mask is an error that ends") {
  extent const n{12, 14, 13};
  volume const x = random_volume(n, 8);
  volume corner = make_volume(n);
  for (index_t d = 0; d < 5; ++d)
    for (index_t h = 0; h < 5; ++h)
      for (index_t w = 0; w < 5; ++w) corner.at(d, h, w) = 1;
  auto r = for_grid(simclr_chain(), n);
  simclr_scratch s;
  std::vector<float> y(std::size_t(n.size()));
  index_t first_tries = 0;
  for (index_t i = 0; i < 20; ++i) {
    simclr_view(x, corner, r, view_key(1, 0, i, 0), s, y.data());
    float most = 0;
    for (float const v : y) most = std::isfinite(v) ? std::max(most, std::fabs(v)) : NAN;
    CHECK(most > 0);
    first_tries += detail::try_view(x, corner, draw_view(r, n, view_key(1, 0, i, 0)), s, y.data());
  }
  CHECK(first_tries < 20);
  r.attempts = 7;
  CHECK_THAT(message_of([&] { simclr_view(x, make_volume(n), r, {}, s, y.data()); }),
             Contains("none of 7 views") && Contains("mask empty"));
  CHECK_THAT(message_of([&] {
               simclr_view(x, make_volume({12, 14, 12}), r, {}, s, y.data());
             }),
             Contains("12x14x13") && Contains("12x14x12"));
  volume nan = x;
  for (auto& v : nan.voxels) v = NAN;
  CHECK_THAT(message_of([&] { simclr_view(nan, make_volume(n, 1), r, {}, s, y.data()); }),
             Contains("not finite"));
  r.gamma_low = 2;
  CHECK_THAT(message_of([&] { simclr_view(x, corner, r, {}, s, y.data()); }), Contains("gamma_low is 2"));
}

TEST_CASE("recipes have names for all their numbers and fit other grids") {
  simclr_recipe r;
  set_field(r, "rotation", 0.1);
  set_field(r, "crop_d", 12);
  CHECK((r.rotation == 0.1 && r.crop_d == 12));
  CHECK_THAT(message_of([&] { set_field(r, "rotatoin", 0.1); }), Contains("\"rotation\""));
  CHECK(json_text(r).find("\"gamma_high\": 1.5") != std::string::npos);
  auto const small = for_grid(supervised_chain(), {75, 96, 96});
  CHECK(
      (small.size() == extent{75, 96, 96} && small.crop_d == 45 && small.crop_h == 58 && small.crop_w == 58));
  CHECK(small.affine_translation == 2.5);
}
