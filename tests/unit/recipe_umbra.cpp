// SPDX-License-Identifier: Apache-2.0
// UMBRA's pipelines: purity in the key, shared crops, clean targets, probabilities and ranges over many keys.
#include "insula/data/recipe_umbra.hpp"

#if __has_include(<nlohmann/json.hpp>)
#include <nlohmann/json.hpp>
#define INSULA_TEST_JSON 1
#endif

#include "insula/testing/compare.hpp"
#include "support/catch.hpp"

using namespace insula;

namespace {

volume ramp(extent n, float offset = 0) {
  volume x = make_volume(n);
  for (index_t d = 0; d < n.d; ++d)
    for (index_t h = 0; h < n.h; ++h)
      for (index_t w = 0; w < n.w; ++w)
        x.at(d, h, w) = float(d) + 0.1f * float(h) + 0.01f * float(w) + offset;
  return x;
}

volume random_volume(extent n, std::uint64_t seed) {
  volume x = make_volume(n);
  x.voxels = testing::random_vector<float>(n.size(), seed);
  return x;
}

bool same(volume const& a, volume const& b) { return a.size == b.size && a.voxels == b.voxels; }

// Nothing happens but flips, pads and crops.
umbra_recipe quiet() {
  umbra_recipe r;
  r.flip = r.affine = r.contrast = r.noise = r.smooth = r.bias = r.gibbs = r.gamma = r.coarse = 0;
  return r;
}

}  // namespace

TEST_CASE("the contrastive sample is a pure function of its key") {
  volume const a = random_volume({20, 22, 18}, 1), b = random_volume({19, 24, 18}, 2);
  umbra_recipe r;
  r.crop = 16;
  thread_pool pool(3);
  bool differs = false;
  for (std::uint64_t s = 0; s < 20; ++s) {
    random_key const key{.seed = 7, .stream = s};
    auto const one = umbra_contrastive(a, b, r, key), two = umbra_contrastive(a, b, r, key, &pool);
    REQUIRE(one.view1.size == cube(16));
    REQUIRE(one.recon2.size == cube(16));
    CHECK(same(one.view1, two.view1));
    CHECK(same(one.view2, two.view2));
    CHECK(same(one.recon1, two.recon1));
    CHECK(same(one.recon2, two.recon2));
    auto const other = umbra_contrastive(a, b, r, {.seed = 8, .stream = s});
    differs = differs || !same(one.view1, other.view1);
    auto const m = umbra_mae(a, r, key), n = umbra_mae(a, r, key, &pool);
    CHECK(same(m.view, n.view));
    CHECK(same(m.recon, n.recon));
  }
  CHECK(differs);
}

TEST_CASE(
    "without random steps both views are one shared crop, targets equal views, and corners fill their "
    "range") {
  volume const a = ramp({20, 17, 16}), b = ramp({20, 17, 16}, 100);
  umbra_recipe r = quiet();
  r.crop = 16;
  std::array<int, 5> seen{};
  for (std::uint64_t s = 0; s < 300; ++s) {
    auto const c = umbra_contrastive(a, b, r, {.seed = 3, .stream = s});
    CHECK(same(c.view1, c.recon1));
    CHECK(same(c.view2, c.recon2));
    index_t const corner =
        index_t(std::lround(c.view1.to_world[3]));  // the identity affine makes it an index
    ++seen[std::size_t(corner)];
    REQUIRE(c.view1.at(0, 0, 0) == a.at(corner, index_t(std::lround(c.view1.to_world[7])), 0));
    float worst = 0;
    for (std::size_t i = 0; i < c.view1.voxels.size(); ++i)
      worst = std::max(worst, std::fabs(c.view2.voxels[i] - c.view1.voxels[i] - 100));
    CHECK(worst < 1e-4f);
  }
  for (int n : seen) CHECK(std::abs(n - 60) < 28);
}

TEST_CASE("the flip coin is shared by the views and fair; MAE flips axes 0 and 1 by two coins") {
  volume const a = ramp({16, 16, 16});
  umbra_recipe r = quiet();
  r.crop = 16, r.flip = 0.5;
  int flipped = 0;
  std::array<int, 4> both{};
  for (std::uint64_t s = 0; s < 400; ++s) {
    auto const c = umbra_contrastive(a, a, r, {.seed = 4, .stream = s});
    CHECK(same(c.view1, c.view2));
    bool const f = c.view1.at(0, 0, 0) > 8;
    CHECK(same(c.view1, f ? flip(a, 0) : a));
    flipped += f;
    auto const m = umbra_mae(a, r, {.seed = 4, .stream = s});
    volume want = a;
    bool const f0 = m.view.at(0, 0, 0) > 8, f1 = m.view.at(0, 0, 0) - m.view.at(0, 15, 0) > 0;
    if (f0) want = flip(want, 0);
    if (f1) want = flip(want, 1);
    CHECK(same(m.view, want));
    ++both[std::size_t(2 * f0 + f1)];
  }
  CHECK(std::abs(flipped - 200) < 41);
  for (int n : both) CHECK(std::abs(n - 100) < 36);
}

TEST_CASE("targets carry the affine but no intensity step; affines of the views differ") {
  volume const a = random_volume({16, 16, 16}, 5);
  umbra_recipe r;
  r.crop = 16, r.contrast = 1;
  auto const c = umbra_contrastive(a, a, r, {.seed = 6, .stream = 9});
  CHECK_FALSE(same(c.view1, c.recon1));
  CHECK_FALSE(same(c.recon1, c.recon2));
  umbra_recipe clean = quiet();
  clean.crop = 16, clean.affine = 1, clean.flip = 0.5;
  auto const d = umbra_contrastive(a, a, clean, {.seed = 6, .stream = 9});
  CHECK(same(d.recon1, c.recon1));  // intensity settings do not shift the spatial draws
  CHECK(same(d.view2, c.recon2));
}

TEST_CASE("intensity steps occur with the published probabilities and ranges") {
  int const n = 20000;
  double scaled = 0, noisy = 0, first[4] = {}, second[3] = {};
  double low[6], high[6];
  for (int i = 0; i < 6; ++i) low[i] = 1e9, high[i] = -1e9;
  auto const see = [&](int i, double v) { low[i] = std::min(low[i], v), high[i] = std::max(high[i], v); };
  umbra_recipe const r;
  for (int k = 0; k < n; ++k) {
    random_stream random({.seed = 1, .stream = std::uint64_t(k)});
    auto const v = draw_intensity(r, random);
    scaled += v.scaled, noisy += v.noisy, ++first[int(v.first)], ++second[int(v.second)];
    if (v.scaled) see(0, v.factor);
    if (v.noisy) see(1, v.sigma);
    if (v.first == umbra_intensity::artefact::smooth)
      for (double w : v.widths) see(2, w);
    if (v.first == umbra_intensity::artefact::bias)
      for (double c : v.bias) REQUIRE((c >= 0 && c < 0.05));
    if (v.first == umbra_intensity::artefact::gibbs) see(3, v.alpha);
    if (v.second == umbra_intensity::tone::gamma) see(4, v.gamma);
    if (v.second == umbra_intensity::tone::coarse) see(5, v.zoom);
  }
  auto const near = [&](double count, double p) {
    return std::fabs(count / n - p) < 4 * std::sqrt(p * (1 - p) / n);
  };
  CHECK(near(scaled, 0.8));
  CHECK(near(noisy, 0.3));
  CHECK(near(first[0], 0.3));
  for (int i = 1; i < 4; ++i) CHECK(near(first[i], 7.0 / 30));
  CHECK(near(second[0], 0.25));
  CHECK(near(second[1], 0.5));
  CHECK(near(second[2], 0.25));
  double const from[6] = {-0.1, 0, 0.5, 0.2, 0.9, 0.8}, to[6] = {0.1, 0.01, 1, 0.4, 1.1, 1};
  for (int i = 0; i < 6; ++i) {
    double const tail = 0.01 * (to[i] - from[i]);
    CHECK((low[i] >= from[i] && low[i] < from[i] + tail));
    CHECK((high[i] <= to[i] && high[i] > to[i] - tail));
  }
}

TEST_CASE("volumes smaller than the crop are padded, unequal views to a common size, constants stay finite") {
  umbra_recipe r;
  r.crop = 12;
  volume const a = make_volume({5, 30, 7}, 2), b = make_volume({9, 4, 8}, 0);
  for (std::uint64_t s = 0; s < 60; ++s) {
    auto const c = umbra_contrastive(a, b, r, {.seed = 2, .stream = s});
    for (volume const* v : {&c.view1, &c.view2, &c.recon1, &c.recon2}) {
      REQUIRE(v->size == cube(12));
      for (float x : v->voxels) REQUIRE(std::isfinite(x));
    }
    for (float x : c.recon1.voxels) REQUIRE(std::fabs(x - 2) < 1e-5f);
    auto const m = umbra_mae(b, r, {.seed = 2, .stream = s});
    REQUIRE(m.view.size == cube(12));
    for (float x : m.view.voxels) REQUIRE(std::isfinite(x));
  }
}

TEST_CASE("validation pads and crops the centre without chance") {
  volume const a = ramp({14, 20, 7}), b = ramp({10, 20, 9});
  umbra_recipe r;
  r.crop = 12;
  auto const c = umbra_contrastive_validation(a, b, r);
  CHECK(same(c.view1, c.recon1));
  CHECK(c.view1.at(0, 0, 5) == a.at(1, 4, 3));  // axis 2: 7 -> 9 (one before) -> 12 (one before)
  CHECK(c.view2.at(5, 0, 5) == b.at(4, 4, 4));  // axis 0: 10 -> 14 (two before), corner 1
  auto const m = umbra_mae_validation(a, r);
  CHECK(m.view.at(0, 0, 5) == a.at(1, 4, 3));
  CHECK(same(m.view, m.recon));
  r.crop = 0;
  CHECK_THROWS_WITH(umbra_mae_validation(a, r), Catch::Contains("crop is 0"));
}

TEST_CASE("the recipe is readable and writable by name") {
  umbra_recipe r;
  CHECK(json_text(r).find("\"crop\": 96, \"flip\": 0.5, ") == 1);
  CHECK(json_text(r).find("\"gibbs_high\": 0.4") != std::string::npos);
  set_field(r, "gibbs_high", 0.5);
  CHECK(r.gibbs_high == 0.5);
  set_field(r, "crop", 64);
  CHECK(r.crop == 64);
  CHECK_THROWS_WITH(set_field(r, "gibs_high", 0.5), Catch::Contains("gibbs_high"));
  CHECK_THROWS_WITH(set_field(r, "crop", 64.5), Catch::Contains("whole"));
#ifdef INSULA_TEST_JSON
  nlohmann::json const j = r;
  CHECK(j.size() == 29);
  CHECK(nlohmann::json::parse(json_text(r)) == j);
  umbra_recipe other;
  nlohmann::json::parse(R"({"noise": 0.25})").get_to(other);
  CHECK(other.noise == 0.25);
  CHECK(other.crop == 96);
  CHECK_THROWS_AS(nlohmann::json::parse(R"({"nois": 0.25})").get_to(other), error);
#endif
}
