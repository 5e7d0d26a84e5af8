// SPDX-License-Identifier: Apache-2.0
// One body per op, run on every backend, scalar and number of threads, and compared.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "insula/device/cpu.hpp"
#include "insula/op/kernel.hpp"
#include "insula/testing/compare.hpp"
#include "support/catch.hpp"

namespace insula::testing {

using outputs = std::vector<std::vector<double>>;

/// Random numbers that float holds exactly, so that float and double runs get equal inputs.
template <class T>
std::vector<T> input(index_t n, std::uint64_t seed) {
  auto const v = random_vector<float>(n, seed);
  return std::vector<T>(v.begin(), v.end());
}

/// What an output holds before the kernel runs: noise where it is added to, else NaN.
template <class T>
std::vector<T> target(bool adds, index_t n, std::uint64_t seed) {
  return adds ? input<T>(n, seed) : poisoned<T>(n);
}

template <class T>
std::vector<double> widened(std::vector<T> const& v) {
  return std::vector<double>(v.begin(), v.end());
}

inline bool same_bits(outputs const& a, outputs const& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!a[i].empty() && std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(double)) != 0)
      return false;
  return a.size() == b.size();
}

template <class T, class F>
void check_scalar(F& body, outputs const& reference, double tolerance) {
  outputs first;
  for (int threads = 1; threads <= 3; ++threads) {
    context<cpu> cx(threads);
    outputs const out = body.template operator()<cpu, T>(cx);
    auto const allocations = host_memory().calls.load();
    outputs const again = body.template operator()<cpu, T>(cx);
    INFO("threads " << threads << ", bytes per scalar " << sizeof(T));
    if (threads == 1) first = out;
    REQUIRE(out.size() == reference.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      double const error = relative_error(out[i], reference[i]);
      INFO("output " << i << ", relative error in units of the tolerance " << error / tolerance);
      CHECK(error < tolerance);
    }
    CHECK(same_bits(first, out));
    CHECK(same_bits(first, again));
    // One worker sees every task, so its scratch is complete after the first call.
    if (threads == 1) CHECK(host_memory().calls.load() == allocations);
  }
}

/// body.operator()<B, T>(cx) prepares equal inputs of type T, runs the op on B and returns what it wrote. The CPU
/// backend must agree with the reference in double, be the same bits for 1, 2, 3 threads and twice in a row, and
/// allocate nothing the second time.
template <class F>
void check_parity(F body, double float_tolerance = 1e-6, double double_tolerance = 1e-14) {
  context<plain> reference;
  outputs const expected = body.template operator()<plain, double>(reference);
  check_scalar<float>(body, expected, float_tolerance);
  check_scalar<double>(body, expected, double_tolerance);
}

/// Relative error of `gradient` against central differences of loss(x), element by element of x.
template <class F>
double difference_error(std::vector<double> x, std::vector<double> const& gradient, F loss,
                        double step = 1e-4) {
  std::vector<double> numeric(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    double const was = x[i];
    x[i] = was + step;
    double const up = loss(x);
    x[i] = was - step;
    numeric[i] = (up - loss(x)) / (2 * step);
    x[i] = was;
  }
  return relative_error(gradient, numeric);
}

inline double dot(std::vector<double> const& a, std::vector<double> const& b) {
  double s = 0;
  for (std::size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}

/// One of the awkward numbers, drawn from a seeded generator.
template <class Generator>
index_t pick(Generator& g, std::initializer_list<index_t> from) {
  return from.begin()[g() % from.size()];
}
template <class Generator>
extent pick_extent(Generator& g) {
  return {pick(g, {1, 2, 3, 5, 7}), pick(g, {1, 2, 3, 5, 7}), pick(g, {1, 2, 3, 5, 7})};
}

}  // namespace insula::testing
