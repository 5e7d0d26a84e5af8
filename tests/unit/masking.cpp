// SPDX-License-Identifier: Apache-2.0
// Random masks: how many cells, which, and what they cover.
#include "insula/ssl/masking.hpp"

#include <numeric>

#include "support/catch.hpp"

using namespace insula;

TEST_CASE("the grids of a 96^3 crop are 48^3 tokens and 3^3 cells, odd ones round up") {
  mask_grid const g{cube(96)};
  CHECK(g.tokens() == cube(48));
  CHECK(g.cells() == cube(3));
  mask_grid const odd{{32, 48, 66}};
  CHECK(odd.tokens() == extent{16, 24, 33});
  CHECK(odd.cells() == extent{1, 2, 3});
}

TEST_CASE("14 to 20 of 27 cells are masked, every cell alike, one ratio for each sample") {
  mask_grid const g{cube(96)};
  std::vector<int> counts(28), of_cell(27);
  int const draws = 20000;
  std::vector<std::uint8_t> cells(27);
  for (int i = 0; i < draws; ++i) {
    draw_cells(g, {}, {1, std::uint64_t(i)}, cells.data());
    ++counts[std::size_t(std::accumulate(cells.begin(), cells.end(), 0))];
    for (std::size_t c = 0; c < 27; ++c) of_cell[c] += cells[c];
  }
  for (int k = 0; k < 28; ++k) CHECK((counts[std::size_t(k)] > 0) == (k >= 14 && k <= 20));
  // k = round(27 rho), rho uniform in [0.5, 0.75): 14 takes rho up to 14.5/27, 20 from 19.5/27 on, the others 1/27 each
  double const each = draws / 27.0 / 0.25;
  for (int k = 15; k <= 19; ++k) CHECK(std::abs(counts[std::size_t(k)] - each) < 6 * std::sqrt(each));
  CHECK(std::abs(counts[20] - 0.75 * each) < 6 * std::sqrt(each));
  double const mean = double(std::accumulate(of_cell.begin(), of_cell.end(), 0)) / 27;
  for (int n : of_cell) CHECK(std::abs(n - mean) < 6 * std::sqrt(mean));
}

TEST_CASE("half of two cells is one: ratios round half to even") {
  std::vector<std::uint8_t> cells(2);
  draw_cells({{32, 32, 64}}, {0.25, 0.25}, {1, 1}, cells.data());  // 0.5 of a cell
  CHECK(cells[0] + cells[1] == 0);
  draw_cells({{32, 32, 64}}, {0.75, 0.75}, {1, 1}, cells.data());  // 1.5 cells
  CHECK(cells[0] + cells[1] == 2);
}

TEST_CASE("a masked cell covers its tokens and their voxels") {
  mask_batch m({cube(96)}, 2);
  std::vector<std::uint8_t> cells(27);
  cells[0] = cells[26] = 1;
  m.set(1, cells);
  CHECK(m.masked_voxels() == 2 * 32 * 32 * 32);
  auto const voxel = [&](index_t n, index_t d, index_t h, index_t w) {
    return m.voxels()[((n * 96 + d) * 96 + h) * 96 + w];
  };
  CHECK(voxel(1, 31, 31, 31) == 1);
  CHECK(voxel(1, 32, 31, 31) == 0);
  CHECK(voxel(1, 63, 64, 64) == 0);
  CHECK(voxel(1, 64, 64, 64) == 1);
  CHECK(voxel(0, 0, 0, 0) == 0);
  CHECK(m.tokens()[0] == 0);  // sample 0 stays unmasked
  CHECK(m.tokens()[((48 + 15) * 48 + 15) * 48 + 15] == 1);
}

TEST_CASE("grids that are no multiple take the nearest cell by a product in float32") {
  mask_grid const g{{32, 32, 28}, cube(2), 0};  // 14 tokens
  CHECK(detail::nearest_cell(6, 12, 14) == 5);  // 6 x float32(12 / 14) rounds above 5 and below 6
  std::vector<std::uint8_t> cells(std::size_t(g.cells().size())), tokens(std::size_t(g.tokens().size()));
  cells[5] = 1;
  cells_to_tokens(g, cells.data(), tokens.data());
  CHECK(tokens == cells);  // no halving: the identity
}

TEST_CASE("masks are a function of their key, and differ between samples") {
  mask_batch a({cube(96)}, 3), b({cube(96)}, 3);
  a.draw({}, {1, 2}), b.draw({}, {1, 2});
  std::vector<std::uint8_t> const first(a.tokens(), a.tokens() + 3 * 48 * 48 * 48),
      second(b.tokens(), b.tokens() + 3 * 48 * 48 * 48);
  CHECK(first == second);
  CHECK(!std::equal(a.tokens(), a.tokens() + 48 * 48 * 48, a.tokens() + 48 * 48 * 48));
  b.draw({}, {1, 3});
  CHECK(!std::equal(first.begin(), first.end(), b.tokens()));
}

TEST_CASE("an input that is no multiple of the patch, and a wrong number of cells, are refused") {
  CHECK_THROWS_WITH(mask_batch({{32, 33, 32}}, 1), Catch::Contains("is no multiple of the patch"));
  mask_batch m({cube(64)}, 1);
  CHECK_THROWS_WITH(m.set(0, {1, 0}), Catch::Contains("2 cells given, the grid has 8"));
}
