// SPDX-License-Identifier: Apache-2.0
// Resampling, the brain's box, cropping and padding.
#include "insula/data/spatial.hpp"

#include <limits>

#include "insula/data/nifti.hpp"
#include "insula/data/orientation.hpp"
#include "insula/testing/compare.hpp"
#include "support/brains.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

affine const oblique{1.35, -0.6, 0.5, -90, 0.375, 1.6, 1.25, 12.5, -0.45, -0.9, 2.125, 33, 0, 0, 0, 1};

/// A linear function of the place in the world: trilinear interpolation reproduces it.
double ramp(point const& p) { return 0.3 * p[0] - 0.2 * p[1] + 0.11 * p[2] + 5; }

template <class F>
volume sampled(extent e, affine const& a, F f) {
  volume v = make_volume(e, 0, a);
  for (index_t d = 0; d < e.d; ++d)
    for (index_t h = 0; h < e.h; ++h)
      for (index_t w = 0; w < e.w; ++w)
        v.at(d, h, w) = float(f(map_point(a, {double(d), double(h), double(w)})));
  return v;
}

point centre(volume const& v) {
  return map_point(v.to_world,
                   {double(v.size.d - 1) / 2, double(v.size.h - 1) / 2, double(v.size.w - 1) / 2});
}

/// Largest |voxel - ramp(its place)| over voxels whose place lies inside the centres of `from`, `margin` voxels off its border.
double worst_inside(volume const& out, volume const& from, double margin = 0) {
  affine const m = multiply(inverse(from.to_world), out.to_world);
  double worst = 0;
  int seen = 0;
  for (index_t d = 0; d < out.size.d; ++d)
    for (index_t h = 0; h < out.size.h; ++h)
      for (index_t w = 0; w < out.size.w; ++w) {
        point const i{double(d), double(h), double(w)}, p = map_point(m, i);
        bool inside = true;
        for (int a = 0; a < 3; ++a)
          inside =
              inside && p[std::size_t(a)] >= margin && p[std::size_t(a)] <= double(from.size[a] - 1) - margin;
        if (inside)
          worst = std::max(worst, std::abs(double(out.at(d, h, w)) - ramp(map_point(out.to_world, i)))),
          ++seen;
      }
  return seen > 100 ? worst : 1e300;
}

}  // namespace

TEST_CASE(
    "resampling a linear image gives its value at every new voxel's place, on an oblique sheared grid") {
  volume const v = sampled({9, 11, 13}, oblique, ramp);
  for (point const& target : {point{1, 1, 1}, point{0.7, 1.9, 2.5}, point{2, 0.6, 1.1}}) {
    volume const r = resample_to_spacing(v, target);
    point const s = spacing(r.to_world), o = spacing(v.to_world), before = centre(v), after = centre(r);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(std::abs(s[i] - target[i]) < 1e-12);
      CHECK(std::abs(before[i] - after[i]) < 1e-12);
      CHECK(r.size[int(i)] == std::lround(double(v.size[int(i)]) * o[i] / target[i]));
    }
    CHECK(worst_inside(r, v) < 1e-5);
  }
}

TEST_CASE("resampling to the same voxel size changes nothing") {
  volume v = sampled({5, 6, 7}, oblique, ramp);
  v.voxels[3] = std::numeric_limits<float>::infinity();
  volume const r = resample_to_spacing(v, spacing(oblique));
  CHECK(r.voxels == v.voxels);
  CHECK(r.to_world == v.to_world);
}

TEST_CASE("halving the voxel size puts samples at quarter points and repeats the border") {
  volume v = make_volume({1, 1, 3});
  v.voxels = {0, 4, 8};
  volume const r = resample_to_spacing(v, {1, 1, 0.5});
  CHECK(r.voxels == std::vector<float>{0, 1, 3, 5, 7, 8});
  CHECK(r.to_world[11] == -0.25);
  volume const back = resample_to_spacing(r, {1, 1, 1});
  CHECK(back.voxels == std::vector<float>{0.5, 4, 7.5});
  CHECK(back.to_world[11] == 0);
}

TEST_CASE("nearest resampling invents no label") {
  volume v = make_volume({6, 7, 8}, 0, oblique);
  for (std::size_t i = 0; i < v.voxels.size(); ++i) v.voxels[i] = float(i * 7 % 5 * 100);
  volume const r = resample_to_spacing(v, {0.9, 1.1, 1.3}, interpolation::nearest);
  CHECK(std::all_of(r.voxels.begin(), r.voxels.end(), [](float x) { return std::fmod(x, 100.f) == 0; }));
  volume const same = resample_onto(r, v.size, v.to_world, interpolation::nearest);
  index_t differ = 0;
  for (std::size_t i = 0; i < v.voxels.size(); ++i) differ += same.voxels[i] != v.voxels[i];
  CHECK(differ == 0);  // every old voxel is wider than a new one, so its centre falls into a copy of it
}

TEST_CASE("a sample on a voxel's centre takes nothing from its neighbours, whatever the rounding") {
  for (index_t const n : {20, 31, 62, 63}) {
    volume v = make_volume({1, 1, n});
    v.to_world[10] = 3;  // thirds are no binary fractions
    v.at(0, 0, 7) = 1e30f;
    volume const r = resample_to_spacing(v, {1, 1, 1});
    index_t touched = 0;
    for (float const x : r.voxels) touched += x != 0;
    CHECK(touched == 5);  // 1/3, 2/3, 1, 2/3, 1/3
  }
}

TEST_CASE("an axis never vanishes") {
  volume const r = resample_to_spacing(sampled({3, 3, 3}, identity_affine, ramp), {100, 100, 100});
  CHECK(r.size == extent{1, 1, 1});
  CHECK(std::abs(double(r.voxels[0]) - ramp({1, 1, 1})) < 1e-6);
}

TEST_CASE("resampling onto another grid goes through the world, and is constant outside") {
  volume const v = sampled({12, 13, 14}, oblique, ramp);
  affine other{-1.1, 0.1, 0, -84, 0.1, 1.2, 0.2, 25, 0.05, -0.1, 1.4, 38, 0, 0, 0, 1};
  volume const r = resample_onto(v, {10, 9, 8}, other, interpolation::linear, -7);
  CHECK(r.to_world == other);
  CHECK(worst_inside(r, v) < 1e-5);
  other[3] = 500;
  volume const away = resample_onto(v, {10, 9, 8}, other, interpolation::linear, -7);
  CHECK(std::all_of(away.voxels.begin(), away.voxels.end(), [](float x) { return x == -7; }));
  volume const self = resample_onto(v, v.size, v.to_world);
  CHECK(self.voxels == v.voxels);
}

TEST_CASE("a prediction on the preprocessed grid returns to the grid of the scan") {
  volume const scan = sampled({12, 13, 14}, oblique, ramp);
  volume const seen = resample_to_spacing(reorient(scan, "RAS"), {1, 1, 1});
  volume const back = resample_onto(seen, scan.size, scan.to_world);
  CHECK(back.size == scan.size);
  CHECK(worst_inside(back, scan, 1) < 1e-5);
}

TEST_CASE("resampling refuses impossible sizes") {
  volume const v = make_volume({2, 2, 2});
  CHECK_THAT(message_of([&] { resample_to_spacing(v, {1, 0, 1}); }), Contains("axis 1 is 0 mm"));
  CHECK_THAT(message_of([&] { resample_to_spacing(v, {1, 1, -2}); }), Contains("-2"));
  CHECK_THAT(message_of([&] {
               resample_to_spacing(v, {1, 1, std::numeric_limits<double>::quiet_NaN()});
             }),
             Contains("positive"));
  CHECK_THAT(message_of([&] { resample_to_spacing(v, {1e-6, 1e-6, 1e-6}); }), Contains("choose larger"));
  CHECK_THAT(message_of([&] { resample_to_spacing(volume{}, {1, 1, 1}); }), Contains("no voxels"));
}

TEST_CASE("the brain's box holds every voxel that is neither zero nor NaN") {
  volume v = make_volume({10, 11, 12}, 0, oblique);
  v.at(2, 9, 5) = 1, v.at(7, 3, 4) = -1, v.at(9, 10, 11) = std::numeric_limits<float>::quiet_NaN();
  CHECK(brain_box(v) == box{{2, 3, 4}, {6, 7, 2}});
  CHECK(brain_box(v, 1) == box{{1, 2, 3}, {8, 9, 4}});
  CHECK(brain_box(v, 100) == box{{0, 0, 0}, {10, 11, 12}});
  volume const c = crop_to_brain(v, 1);
  CHECK(c.size == extent{8, 9, 4});
  CHECK(c.at(1, 7, 2) == 1);
  CHECK(c.at(6, 1, 1) == -1);
  CHECK(testing::relative_error(map_point(c.to_world, {0, 0, 0}), map_point(v.to_world, {1, 2, 3})) < 1e-15);
  volume const none = make_volume({3, 3, 3});
  CHECK_THAT(message_of([&] { brain_box(none); }), Contains("all 27 voxels are zero"));
  CHECK_THAT(message_of([&] { brain_box(v, -1); }), Contains("margin is -1"));
}

TEST_CASE("the box of a real brain is nibabel's and numpy's") {
  volume const v = reorient(read_nifti(support::brain("sub_3/ses_1/t1.nii.gz")).image, "RAS");
  CHECK(brain_box(v) == box{{34, 2, 25}, {65, 59, 70}});
}

TEST_CASE("cropping to at most a size takes the middle and leaves short axes") {
  volume const v = sampled({9, 4, 6}, oblique, ramp);
  volume const c = crop_to_most(v, {4, 10, 3});
  CHECK(c.size == extent{4, 4, 3});
  CHECK(c.at(0, 0, 0) == v.at(2, 0, 2));
  CHECK(testing::relative_error(map_point(c.to_world, {0, 0, 0}), map_point(v.to_world, {2, 0, 2})) < 1e-15);
  CHECK(crop_to_most(v, {9, 4, 6}).voxels == v.voxels);
}

TEST_CASE("padding and cropping back gives the volume again, in its place") {
  volume const v = sampled({5, 6, 7}, oblique, ramp);
  volume const p = pad(v, {8, 6, 10}, padding::zero);
  CHECK(p.size == extent{8, 6, 10});
  volume const back = crop(p, box{{1, 0, 1}, v.size});
  CHECK(back.voxels == v.voxels);
  CHECK(testing::relative_error(back.to_world, v.to_world) < 1e-15);
}
