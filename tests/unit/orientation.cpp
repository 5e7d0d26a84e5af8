// SPDX-License-Identifier: Apache-2.0
// Orientation letters and turning volumes without interpolation.
#include "insula/data/orientation.hpp"

#include <algorithm>

#include "insula/data/nifti.hpp"
#include "insula/testing/compare.hpp"
#include "support/brains.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

affine with_axes(std::array<double, 9> const& r, point const& origin = {0, 0, 0}) {
  return {r[0], r[1], r[2], origin[0], r[3], r[4], r[5], origin[1], r[6], r[7], r[8], origin[2], 0, 0, 0, 1};
}

std::vector<std::string> all_orientations() {
  std::vector<std::string> all;
  std::string axes = "012";
  do
    for (int flips = 0; flips < 8; ++flips) {
      std::string s;
      for (int j = 0; j < 3; ++j) s += (flips >> j & 1 ? "LPI" : "RAS")[axes[std::size_t(j)] - '0'];
      all.push_back(s);
    }
  while (std::next_permutation(axes.begin(), axes.end()));
  return all;
}

affine const oblique = with_axes({0.9, -0.6, 0.5, 0.25, 1.6, 1.25, -0.3, -0.9, 2.125}, {-90, 12.5, 33});

volume random_volume(extent e, affine const& a) {
  return {e, a, testing::random_vector<float>(e.size(), 11)};
}

}  // namespace

TEST_CASE("orientation letters agree with nibabel's aff2axcodes, however oblique or sheared") {
  CHECK(orientation_letters(identity_affine) == "RAS");
  CHECK(orientation_letters(with_axes({-1, -1.625, -0.25, 0.5, 1.375, 0.125, -0.75, -1, 0.875})) == "LAS");
  CHECK(orientation_letters(with_axes({2, 0.375, -1.5, -1.25, 2, 0.25, -2.125, -0.125, -1.5})) == "IAL");
  CHECK(orientation_letters(with_axes({-0.75, -0.625, -0.875, 0.75, -0.125, -0.75, 0.5, 1, -2})) == "ASL");
  CHECK(orientation_letters(with_axes({-0.375, -1.25, -0.25, -1.625, 0, 0, -0.375, -1.25, -0.5})) == "PLI");
  CHECK(orientation_letters(with_axes({-1.375, -1.75, 0.25, -1.375, 1.5, 0.875, -2.5, 0.375, -1.375})) ==
        "ILA");
  CHECK(orientation_letters(with_axes({0, 0, -2.5, -0.25, -0.375, 1.25, -1.5, 0.875, -1.375})) == "IPL");
  CHECK(orientation_letters(oblique) == "RAS");
}

TEST_CASE("all 48 orientations parse to themselves, anything else is refused") {
  CHECK(all_orientations().size() == 48);
  for (auto const& s : all_orientations()) CHECK(orientation_letters(parse_orientation(s)) == s);
  for (auto const bad : {"", "RA", "RASS", "ras", "RRS", "RLS", "XYZ", "R S"})
    CHECK_THAT(message_of([&] { parse_orientation(bad); }),
               Contains("'" + std::string(bad) + "'") && Contains("such as RAS"));
}

TEST_CASE("reorient moves every voxel to another index and to no other place in the world") {
  volume const v = random_volume({3, 4, 5}, oblique);
  for (auto const& letters : all_orientations()) {
    volume const r = reorient(v, letters);
    INFO(letters);
    REQUIRE(orientation_letters(r.to_world) == letters);
    REQUIRE(r.count() == v.count());
    affine const back = multiply(inverse(v.to_world), r.to_world);
    int wrong = 0;
    for (index_t d = 0; d < r.size.d; ++d)
      for (index_t h = 0; h < r.size.h; ++h)
        for (index_t w = 0; w < r.size.w; ++w) {
          point const p = map_point(back, {double(d), double(h), double(w)});
          wrong += r.at(d, h, w) != v.at(std::lround(p[0]), std::lround(p[1]), std::lround(p[2]));
          for (double const x : p) wrong += std::abs(x - std::round(x)) > 1e-12;
        }
    CHECK(wrong == 0);
  }
}

TEST_CASE("reorient there and back is the same volume, bit for bit, for a grid on whole numbers") {
  volume const v = random_volume({3, 4, 5}, with_axes({0, -2, 0, 3, 0, 0, 0, 0, 2.5}, {100, -20, 7.5}));
  std::string const from = orientation_letters(v.to_world);
  for (auto const& letters : all_orientations()) {
    volume const back = reorient(reorient(v, letters), from);
    CHECK(back.size == v.size);
    CHECK(back.to_world == v.to_world);
    CHECK(back.voxels == v.voxels);
  }
}

TEST_CASE("a real LSA scan turned to RAS has nibabel's affine and voxels") {
  volume const v = reorient(read_nifti(support::brain("sub_3/ses_1/t1.nii.gz")).image, "RAS");
  CHECK(v.size == extent{128, 62, 128});
  CHECK(v.to_world == affine{2, 0, 0, -254, 0, 3, 0, -254, 0, 0, 2, 0, 0, 0, 0, 1});
  CHECK(v.at(60, 40, 70) == 121);
  CHECK(v.at(30, 20, 70) == 0);
}

TEST_CASE("a singular affine has no orientation") {
  affine a = identity_affine;
  a[10] = 0;
  CHECK_THAT(message_of([&] { orientation_letters(a); }), Contains("singular"));
}

TEST_CASE("rotation is orthonormal and leaves a rotation alone, inverse inverts") {
  affine const r = rotation(oblique);
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) {
      double dot = 0;
      for (std::size_t k = 0; k < 3; ++k) dot += r[k * 4 + i] * r[k * 4 + j];
      CHECK(std::abs(dot - (i == j)) < 1e-14);
    }
  CHECK(testing::relative_error(rotation(r), r) < 1e-15);
  CHECK(testing::relative_error(multiply(oblique, inverse(oblique)), identity_affine) < 1e-13);
}
