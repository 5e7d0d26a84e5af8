// SPDX-License-Identifier: Apache-2.0
// Crops about labels: where they are, how often of which kind, and at borders.
#include "insula/data/label_crop.hpp"

#include "support/catch.hpp"

using namespace insula;

namespace {

volume label_of(extent n, std::initializer_list<extent> where) {
  volume v = make_volume(n);
  for (auto const& p : where) v.at(p.d, p.h, p.w) = 1;
  return v;
}

}  // namespace

TEST_CASE("a crop of 96 about a voxel starts 48 before it and stays inside") {
  CHECK(corner_about(60, 200, 96) == 12);
  CHECK(corner_about(0, 200, 96) == 0);
  CHECK(corner_about(47, 200, 96) == 0);
  CHECK(corner_about(49, 200, 96) == 1);
  CHECK(corner_about(151, 200, 96) == 103);
  CHECK(corner_about(199, 200, 96) == 104);
  for (index_t c : {0, 50, 95}) CHECK(corner_about(c, 96, 96) == 0);  // hi = 49: one place is left
  for (index_t n = 1; n < 12; ++n)
    for (index_t size = 1; size <= n; ++size)
      for (index_t c = 0; c < n; ++c) {
        index_t const from = corner_about(c, n, size);
        REQUIRE((from >= 0 && from + size <= n));
        REQUIRE((from <= c && c < from + size));
      }
}

TEST_CASE("labelled voxels are centres as often as asked for, each alike") {
  volume const label = label_of({9, 9, 30}, {{4, 4, 10}, {4, 4, 20}});
  int at[2] = {}, elsewhere = 0;
  for (std::uint64_t i = 0; i < 4000; ++i) {
    random_stream random({1, i});
    auto const c = draw_label_corner(label, {3, 3, 3}, 0.5, random);
    if (c == extent{3, 3, 9})
      ++at[0];
    else if (c == extent{3, 3, 19})
      ++at[1];
    else
      ++elsewhere;
  }
  CHECK(std::abs(at[0] - 1000) < 130);  // a few more: crops about unlabelled voxels at the same place
  CHECK(std::abs(at[1] - 1000) < 130);
  CHECK(std::abs(elsewhere - 2000) < 160);
}

TEST_CASE("where a kind is missing, all crops are about the other") {
  volume const none = label_of({5, 5, 5}, {});
  volume all = none;
  for (auto& v : all.voxels) v = 2;
  for (std::uint64_t i = 0; i < 20; ++i) {
    random_stream a({2, i}), b({3, i});
    CHECK_NOTHROW(draw_label_corner(none, {2, 2, 2}, 1, a));
    CHECK_NOTHROW(draw_label_corner(all, {2, 2, 2}, 0, b));
  }
}

TEST_CASE("crops that do not fit and impossible shares are refused") {
  random_stream random({});
  volume const label = label_of({4, 4, 4}, {});
  CHECK_THROWS_WITH(draw_label_corner(label, {4, 5, 4}, 0.5, random),
                    Catch::Contains("axis 1: pad the volume first"));
  CHECK_THROWS_WITH(draw_label_corner(label, {4, 4, 4}, 1.5, random),
                    Catch::Contains("1.5, it must be 0 to 1"));
}
