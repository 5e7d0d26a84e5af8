// SPDX-License-Identifier: Apache-2.0
// Effective rank: published numbers, cases with a known answer, errors.
#include "insula/eval/effective_rank.hpp"

#include <limits>
#include <vector>

#include "insula/testing/compare.hpp"
#include "support/catch.hpp"

using namespace insula;

namespace {

/// r(stream) as rows x columns with columns of unit length, in float; or its transpose.
std::vector<float> unit_columns(std::uint32_t stream, index_t rows, index_t columns, bool transposed) {
  std::vector<float> out(std::size_t(rows * columns));
  for (index_t c = 0; c < columns; ++c) {
    double square = 0;
    for (index_t r = 0; r < rows; ++r) {
      double const v = testing::filler(stream, std::uint64_t(r * columns + c));
      square += v * v;
    }
    for (index_t r = 0; r < rows; ++r)
      out[std::size_t(transposed ? c * rows + r : r * columns + c)] =
          float(testing::filler(stream, std::uint64_t(r * columns + c)) / std::sqrt(square));
  }
  return out;
}

}  // namespace

TEST_CASE("the effective rank reproduces the published numbers") {
  auto const rank = [](std::uint32_t stream, index_t rows, index_t columns) {
    return effective_rank(unit_columns(stream, rows, columns, false).data(), rows, columns);
  };
  auto const of_transpose = [](std::uint32_t stream, index_t rows, index_t columns) {
    return effective_rank(unit_columns(stream, rows, columns, true).data(), columns, rows);
  };
  CHECK(std::abs(rank(302, 6, 10) - 4.78365) < 6e-6);
  CHECK(std::abs(of_transpose(302, 6, 10) - 5.65103) < 6e-6);
  CHECK(std::abs(rank(303, 8, 40) - 6.84674) < 6e-6);
  CHECK(std::abs(of_transpose(303, 8, 40) - 7.80707) < 6e-6);  // 40 rows > 4 x 8 columns: by the covariance
}

TEST_CASE("vectors along k orthogonal directions of equal length have effective rank k") {
  // Columns sum to 0; the singular values are equal: sqrt 2 each.
  std::vector<float> const x{1, 0, 0, -1, 0, 0, 0, 1, 0, 0, -1, 0, 0, 0, 1, 0, 0, -1};
  CHECK(effective_rank(x.data(), 6, 3) == Approx(3).margin(2e-5));
  std::vector<float> wide(6 * 20), tall(60 * 3);
  for (std::size_t i = 0; i < 6; ++i)
    for (std::size_t j = 0; j < 3; ++j) wide[i * 20 + 5 * j] = x[i * 3 + j];
  CHECK(effective_rank(wide.data(), 6, 20) == Approx(3).margin(4e-4));  // the floor adds 3 values of 1e-6
  for (std::size_t i = 0; i < tall.size(); ++i) tall[i] = x[i % x.size()];
  CHECK(effective_rank(tall.data(), 60, 3) == Approx(3).margin(2e-5));
}

TEST_CASE("one direction with two singular values 3 and 1 has the entropy of (3/4, 1/4)") {
  std::vector<float> const x{3, 0, -3, 0, 0, 1, 0, -1};
  double const h = -0.75 * std::log(0.75) - 0.25 * std::log(0.25);
  CHECK(effective_rank(x.data(), 4, 2) == Approx(std::exp(h)).margin(1e-5));
}

TEST_CASE("equal vectors have effective rank 0") {
  std::vector<float> const x(30, 2.5f);
  CHECK(effective_rank(x.data(), 5, 6) == 0);
  CHECK(effective_rank(x.data(), 30, 1) == 0);
}

TEST_CASE("the effective rank of one vector, or of none, or of numbers that are none, is an error") {
  std::vector<float> x(12, 1);
  CHECK_THROWS_WITH(effective_rank(x.data(), 1, 12), Catch::Contains("is 1 x 12"));
  CHECK_THROWS_WITH(effective_rank(x.data(), 0, 0), Catch::Contains("is 0 x 0"));
  CHECK_THROWS_WITH(effective_rank(x.data(), 4, 0), Catch::Contains("is 4 x 0"));
  x[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(effective_rank(x.data(), 4, 3), Catch::Contains("not finite"));
}
