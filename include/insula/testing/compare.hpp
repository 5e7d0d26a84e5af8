// SPDX-License-Identifier: Apache-2.0
// Comparing arrays in tests: relative error, random and poisoned contents.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "insula/base/random.hpp"

namespace insula::testing {

/// ||out - ref||_2 / ||ref||_2 in double; ||out|| if ref is all zero; NaN if any difference is NaN.
template <class Out, class Ref>
double relative_error(Out const& out, Ref const& ref) {
  double difference = 0, norm = 0;
  auto r = std::begin(ref);
  for (auto const& o : out) {
    double const d = double(o) - double(*r);
    difference += d * d, norm += double(*r) * double(*r), ++r;
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

/// Uniform in [-1, 1), a function of (seed, index) alone.
template <class T>
std::vector<T> random_vector(index_t n, std::uint64_t seed) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = T(2 * uniform_at({seed, 77}, std::uint32_t(i)) - 1);
  return v;
}

/// An output that no kernel has written yet: NaN everywhere, so that a missed element shows.
template <class T>
std::vector<T> poisoned(index_t n) {
  return std::vector<T>(static_cast<std::size_t>(n), std::numeric_limits<T>::quiet_NaN());
}

/// The deterministic filler of the published golden numbers: element i of stream k, in [-1, 1).
constexpr double filler(std::uint32_t k, std::uint64_t i) {
  std::uint32_t h = std::uint32_t(i) * 2654435761u + k * 2246822519u + 374761393u;
  h ^= h >> 15;
  h *= 2246822519u;
  h ^= h >> 13;
  h *= 3266489917u;
  h ^= h >> 16;
  return 2.0 * h / 4294967296.0 - 1.0;
}

}  // namespace insula::testing
