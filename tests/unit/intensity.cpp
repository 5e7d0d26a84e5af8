// SPDX-License-Identifier: Apache-2.0
// Percentiles, clipping, z-score and min-max against NumPy's numbers and their definitions.
#include "insula/data/intensity.hpp"

#include <limits>

#include "insula/data/nifti.hpp"
#include "insula/testing/compare.hpp"
#include "support/brains.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

bool near(double a, double b, double within) { return std::abs(a - b) <= within; }

/// Half zeros, half random around 100.
volume half_brain(std::uint64_t seed) {
  volume v = make_volume({7, 8, 9});
  auto const r = testing::random_vector<float>(v.count(), seed);
  for (std::size_t i = 0; i < r.size(); ++i) v.voxels[i] = i % 2 ? 100 + 40 * r[i] : 0;
  return v;
}

struct moments {
  double mean = 0, deviation = 0;
};
template <class Chosen>
moments measure(volume const& v, Chosen chosen) {
  double n = 0, s = 0, q = 0;
  for (std::size_t i = 0; i < v.voxels.size(); ++i)
    if (chosen(i)) n += 1, s += double(v.voxels[i]), q += double(v.voxels[i]) * double(v.voxels[i]);
  return {s / n, std::sqrt(q / n - s * s / n / n)};
}

}  // namespace

TEST_CASE("percentiles equal numpy.percentile") {
  std::vector<float> x(997);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(testing::filler(3, i));
  // numpy.percentile of the same 997 floats, in float64
  double const golden[][2] = {{0, -0.9990860223770142},   {0.5, -0.9952338922023773},
                              {25, -0.5030624866485596},  {50, 0.014614293351769447},
                              {63.7, 0.2918451076745987}, {99.5, 0.988507021665573},
                              {100, 0.9979695081710815}};
  for (auto const& g : golden) CHECK(near(percentile(x, g[0]), g[1], 1e-15));
  std::vector<float> one{3};
  CHECK(percentile(one, 99.5) == 3);
}

TEST_CASE("percentile refuses what has none") {
  std::vector<float> none, bad{1, not_a_number}, x{1, 2};
  CHECK_THAT(message_of([&] { percentile(none, 50); }), Contains("no values"));
  CHECK_THAT(message_of([&] { percentile(bad, 50); }), Contains("NaN") && Contains("replace_nonfinite"));
  CHECK_THAT(message_of([&] { percentile(x, 101); }), Contains("101"));
  CHECK_THAT(message_of([&] { percentile(x, -1); }), Contains("-1"));
}

TEST_CASE("clipping measures and changes the non-zero voxels only") {
  volume v = make_volume({1, 1, 12});
  v.voxels = {0, 10, 0, -5, 20, 30, 0, 40, 50, 60, 70, 1000};  // nine are not zero
  clip_percentiles(v, 12.5, 87.5);                             // positions 1 and 7 of the nine
  CHECK(v.voxels == std::vector<float>{0, 10, 0, 10, 20, 30, 0, 40, 50, 60, 70, 70});
  clip_percentiles(v, 0, 100.0 * 10 / 11, voxels_over::all);
  CHECK(v.voxels == std::vector<float>{0, 10, 0, 10, 20, 30, 0, 40, 50, 60, 70, 70});
  clip_percentiles(v, 100.0 * 3 / 11, 100, voxels_over::all);
  CHECK(v.voxels[0] == 10);
  volume zero = make_volume({2, 2, 2});
  clip_percentiles(zero);
  CHECK(zero.voxels == make_volume({2, 2, 2}).voxels);
  CHECK_THAT(message_of([&] { clip_percentiles(v, 60, 40); }), Contains("low is 60"));
}

TEST_CASE("z-score over the non-zero voxels gives them mean 0 and deviation 1 and keeps the zeros") {
  volume v = half_brain(1);
  volume const before = v;
  z_score(v);
  auto const chosen = [&](std::size_t i) { return before.voxels[i] != 0; };
  auto const m = measure(v, chosen);
  CHECK(near(m.mean, 0, 1e-7));
  CHECK(near(m.deviation, 1, 1e-6));
  auto const raw = measure(before, chosen);
  for (std::size_t i = 0; i < v.voxels.size(); ++i)
    REQUIRE(near(double(v.voxels[i]), chosen(i) ? (double(before.voxels[i]) - raw.mean) / raw.deviation : 0,
                 1e-6));
}

TEST_CASE("z-score over all voxels and over a mask") {
  volume v = half_brain(2), mask = make_volume(v.size);
  for (std::size_t i = 0; i < mask.voxels.size(); i += 3) mask.voxels[i] = 2;
  volume all = v;
  z_score(all, voxels_over::all);
  CHECK(near(measure(all, [](std::size_t) { return true; }).mean, 0, 1e-6));
  z_score(v, mask);
  auto const m = measure(v, [&](std::size_t i) { return mask.voxels[i] > 0; });
  CHECK(near(m.mean, 0, 1e-6));
  CHECK(near(m.deviation, 1, 1e-6));
  for (std::size_t i = 0; i < v.voxels.size(); ++i)
    if (i % 3) REQUIRE(v.voxels[i] == 0);
  volume const other = make_volume({1, 2, 3});
  CHECK_THAT(message_of([&] { z_score(v, other); }), Contains("7x8x9") && Contains("1x2x3"));
}

TEST_CASE("a constant brain becomes zero, an empty one stays") {
  volume v = make_volume({2, 2, 2}, 5);
  z_score(v);
  CHECK(v.voxels == std::vector<float>(8, 0.f));
  z_score(v);
  CHECK(v.voxels == std::vector<float>(8, 0.f));
}

TEST_CASE("min-max maps the extremes to the range") {
  volume v = make_volume({1, 1, 4});
  v.voxels = {0, 10, 20, 30};
  volume w = v;
  min_max(v);
  CHECK(v.voxels == std::vector<float>{0, float(1.0 / 3), float(2.0 / 3), 1});
  min_max(w, 1, 3, voxels_over::nonzero);
  CHECK(w.voxels == std::vector<float>{0, 1, 2, 3});
  volume flat = make_volume({2, 1, 1}, 7);
  min_max(flat, -1, 1);
  CHECK(flat.voxels == std::vector<float>{-1, -1});
  CHECK_THAT(message_of([&] { min_max(v, 1, 1); }), Contains("low must be less"));
}

TEST_CASE("voxels that are not finite are refused until they are replaced") {
  volume v = half_brain(3);
  v.voxels[1] = not_a_number, v.voxels[4] = -std::numeric_limits<float>::infinity();
  CHECK_THAT(message_of([&] { z_score(v); }), Contains("replace_nonfinite"));
  CHECK_THAT(message_of([&] { min_max(v); }), Contains("replace_nonfinite"));
  CHECK_THAT(message_of([&] { clip_percentiles(v); }), Contains("replace_nonfinite"));
  CHECK(replace_nonfinite(v, 1) == 2);
  CHECK(v.voxels[1] == 1);
  CHECK(v.voxels[4] == 1);
  CHECK(replace_nonfinite(v) == 0);
  z_score(v);
}

TEST_CASE("clip and z-score of a real brain are NumPy's") {
  volume v = read_nifti(support::brain("sub_2/ses_1/t1.nii.gz")).image;
  std::vector<float> brain = values_of(v, voxels_over::nonzero);
  CHECK(percentile(brain, 0.5) == 6);
  CHECK(percentile(brain, 99.5) == 186);
  clip_percentiles(v);
  z_score(v);
  CHECK(near(double(v.at(60, 70, 50)), 0.8438450248858804, 1e-6));
}
