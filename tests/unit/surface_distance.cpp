// SPDX-License-Identifier: Apache-2.0
// Surface distances by hand and against the comparison of all pairs.
#include "insula/eval/surface_distance.hpp"

#include <random>

#include "support/catch.hpp"

using namespace insula;

namespace {

using bytes = std::vector<std::uint8_t>;

bytes box(extent n, extent from, extent to) {
  bytes m(std::size_t(n.size()));
  for (index_t d = from.d; d < to.d; ++d)
    for (index_t h = from.h; h < to.h; ++h)
      for (index_t w = from.w; w < to.w; ++w) m[std::size_t((d * n.h + h) * n.w + w)] = 1;
  return m;
}

}  // namespace

TEST_CASE("the surface of a solid cube is its shell, also at the border of the volume") {
  CHECK(detail::surface_of(cube(7), box(cube(7), cube(1), cube(6))).size() == 125 - 27);
  CHECK(detail::surface_of(cube(5), box(cube(5), cube(0), cube(5))).size() == 125 - 27);
  CHECK(detail::surface_of({1, 4, 4}, box({1, 4, 4}, cube(0), {1, 4, 4})).size() == 16);
}

TEST_CASE("two plates three voxels apart are three apart, and by the voxel's edge in millimetres") {
  extent const n{8, 3, 3};
  auto const a = box(n, {1, 0, 0}, {2, 3, 3}), b = box(n, {4, 0, 0}, {5, 3, 3});
  CHECK(hausdorff_distance(n, a, b) == 3);
  CHECK(mean_surface_distance(n, a, b) == 3);
  CHECK(hausdorff_distance(n, a, b, 1, {2.5, 1, 1}) == 7.5);
  CHECK(hausdorff_distance(n, a, a) == 0);
}

TEST_CASE("one stray voxel decides the Hausdorff distance and not its 95th percentile") {
  extent const n{6, 6, 40};
  auto const label = box(n, cube(0), {6, 6, 6});
  auto stray = label;
  stray[39] = 1;
  CHECK(hausdorff_distance(n, stray, label) == 34);
  CHECK(hausdorff_distance(n, stray, label, 0.95) == 0);
  CHECK(mean_surface_distance(n, stray, label) == Approx(34.0 / (216 - 64 + 1)));
  CHECK(mean_surface_distance(n, label, stray) == 0);  // one direction
}

TEST_CASE("quantiles are linear between order statistics") {
  extent const n{1, 1, 12};
  bytes const label{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  bytes const prediction{1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1};  // distances 0, 2, 11
  CHECK(hausdorff_distance(n, prediction, label, 0.5) == 2);
  CHECK(hausdorff_distance(n, prediction, label, 0.25) == 1);
  CHECK(hausdorff_distance(n, prediction, label, 0.0095) == Approx(0.038));  // UMBRA's percentile = 0.95
}

TEST_CASE("distances are those of the comparison of all pairs") {
  std::mt19937 g(1);
  for (int round = 0; round < 12; ++round) {
    extent const n{1 + index_t(g() % 9), 1 + index_t(g() % 9), 1 + index_t(g() % 9)};
    bytes a(std::size_t(n.size())), b(a.size());
    for (auto& v : a) v = g() % 3 == 0;
    for (auto& v : b) v = g() % 7 == 0;
    voxel_edges const edges = round & 1 ? voxel_edges{0.7, 1.9, 3} : voxel_edges{};
    auto const from = detail::surface_of(n, a), to = detail::surface_of(n, b);
    auto const d = surface_distances(n, a, b, edges);
    REQUIRE(d.size() == from.size());
    for (std::size_t i = 0; i < d.size(); ++i) {
      double nearest = std::numeric_limits<double>::infinity();
      for (index_t j : to) {
        double const z = edges.d * double(from[i] / (n.h * n.w) - j / (n.h * n.w)),
                     r = edges.h * double(from[i] / n.w % n.h - j / n.w % n.h),
                     c = edges.w * double(from[i] % n.w - j % n.w);
        nearest = std::min(nearest, std::sqrt(z * z + r * r + c * c));
      }
      CHECK((d[i] == nearest || std::abs(d[i] - nearest) < 1e-12 * nearest));
    }
  }
}

TEST_CASE("empty masks: no number if both are, infinite if one is") {
  bytes const none(27), some = box(cube(3), cube(1), cube(2));
  CHECK(std::isnan(hausdorff_distance(cube(3), none, none)));
  CHECK(std::isinf(hausdorff_distance(cube(3), some, none)));
  CHECK(std::isinf(hausdorff_distance(cube(3), none, some)));
  CHECK(std::isnan(mean_surface_distance(cube(3), none, none)));
  CHECK(std::isinf(mean_surface_distance(cube(3), some, none)));
  CHECK(std::isinf(mean_surface_distance(cube(3), none, some)));
}

TEST_CASE("masks that do not fill the extent and impossible quantiles are refused") {
  CHECK_THROWS_WITH(surface_distances(cube(3), bytes(27), bytes(26)),
                    Catch::Contains("masks of 27 and 26 voxels"));
  CHECK_THROWS_WITH(hausdorff_distance(cube(3), bytes(27), bytes(27), 95), Catch::Contains("quantile is 95"));
}
