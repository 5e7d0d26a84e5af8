// SPDX-License-Identifier: Apache-2.0
// Inference by windows against the published numbers and against a volume held as a whole.
#include "insula/eval/sliding_window.hpp"

#include <numeric>
#include <random>

#include "insula/testing/compare.hpp"
#include "support/catch.hpp"

using namespace insula;
using insula::testing::filler;
using insula::testing::random_vector;

namespace {

/// The published predictor: t times a fixed window, and the running sum of t along axis 0.
template <class T>
void published_predictor(T const* t, index_t count, T* y) {
  for (index_t n = 0; n < count; ++n)
    for (index_t p = 0; p < 16 * 16 * 16; ++p) {
      index_t const i = n * 4096 + p;
      y[2 * i] = t[i] * T(filler(5, std::uint64_t(p)));
      y[2 * i + 1] = t[i] + (p < 256 ? T(0) : y[2 * (i - 256) + 1]);
    }
}

template <class T>
void published(double tolerance) {
  extent const n{37, 13, 29};
  std::vector<T> x;
  for (index_t i = 0; i < n.size(); ++i) x.push_back(T(filler(6, std::uint64_t(i))));
  for (index_t batch : {1, 4}) {
    auto const y =
        sliding_window(n, 1, 2, x.data(), {.roi = cube(16), .blend = window_blend::gaussian, .batch = batch},
                       published_predictor<T>);
    index_t const size = 2 * n.size();
    auto const channels_first = [&](index_t i) {
      return double(y[std::size_t(i % n.size() * 2 + i / n.size())]);
    };
    double const expected[] = {-0.3235909, 0.2801298, 0.2846778, -0.5895439, -1.1443915, 2.7369448};
    index_t const at[] = {0, 1, size / 3, size / 2, 2 * size / 3, size - 1};
    for (int i = 0; i < 6; ++i) CHECK(std::abs(channels_first(at[i]) - expected[i]) < tolerance);
    double const mean = std::accumulate(y.begin(), y.end(), 0.0) / double(size);
    CHECK(std::abs(mean + 0.0351358) < tolerance);
  }
}

/// All windows added into a volume that is held as a whole, at most as long as the roi per axis and unpadded.
std::vector<double> whole(extent n, index_t channels, std::vector<double> const& x,
                          sliding_window_options const& o) {
  auto const w = window_weights<double>(o.roi, o.blend);
  std::vector<double> sum(x.size()), total(std::size_t(n.size()));
  for (index_t d : window_starts(n.d, o.roi.d, o.overlap))
    for (index_t h : window_starts(n.h, o.roi.h, o.overlap))
      for (index_t v : window_starts(n.w, o.roi.w, o.overlap)) {
        std::size_t i = 0;
        for (index_t a = 0; a < o.roi.d; ++a)
          for (index_t b = 0; b < o.roi.h; ++b)
            for (index_t c = 0; c < o.roi.w; ++c, ++i) {
              std::size_t const at = std::size_t(((d + a) * n.h + h + b) * n.w + v + c);
              total[at] += w[i];
              for (index_t k = 0; k < channels; ++k) {
                std::size_t const e = at * std::size_t(channels) + std::size_t(k);
                sum[e] += w[i] * (x[e] * x[e] + double(i));  // depends on the place in the window
              }
            }
      }
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] /= total[i / std::size_t(channels)];
  return sum;
}

}  // namespace

TEST_CASE("windows with Gaussian weights give the published numbers") {
  published<double>(6e-8);
  published<float>(1e-5);
}

TEST_CASE("starts: UMBRA's 96 with a quarter of overlap, the last at the border, never beyond") {
  CHECK(window_starts(96, 96, 0.25) == std::vector<index_t>{0});
  CHECK(window_starts(97, 96, 0.25) == std::vector<index_t>{0, 1});
  CHECK(window_starts(168, 96, 0.25) == std::vector<index_t>{0, 72});
  CHECK(window_starts(200, 96, 0.25) == std::vector<index_t>{0, 72, 104});
  CHECK(window_starts(5, 1, 0) == std::vector<index_t>{0, 1, 2, 3, 4});
  CHECK(window_starts(4, 2, 0.99) == std::vector<index_t>{0, 1, 2});
}

TEST_CASE("a few planes in memory give what the whole volume would") {
  std::mt19937 g(1);
  for (int round = 0; round < 12; ++round) {
    extent n, roi;
    for (int a = 0; a < 3; ++a) roi[a] = 1 + index_t(g() % 5), n[a] = roi[a] + index_t(g() % 9);
    index_t const channels = 1 + index_t(g() % 3);
    sliding_window_options const o{.roi = roi,
                                   .overlap = 0.2 * double(g() % 5),
                                   .blend = round & 1 ? window_blend::gaussian : window_blend::constant,
                                   .batch = 1 + index_t(g() % 7)};
    auto const x = random_vector<double>(n.size() * channels, g());
    auto const y =
        sliding_window(n, channels, channels, x.data(), o, [&](double const* t, index_t count, double* out) {
          for (index_t i = 0; i < count * roi.size() * channels; ++i)
            out[i] = t[i] * t[i] + double(i / channels % roi.size());
        });
    CHECK(testing::relative_error(y, whole(n, channels, x, o)) < 1e-14);
  }
}

TEST_CASE("planes come finished, once each and in order, also of a volume smaller than a window") {
  for (extent n : {extent{37, 9, 20}, extent{3, 5, 2}}) {
    auto const x = random_vector<float>(n.size(), 2);
    std::vector<index_t> seen;
    index_t largest = 0;
    sliding_window(
        n, 1, 1, x.data(), {.roi = cube(8), .batch = 3},
        [&](float const* t, index_t count, float* y) {
          largest = std::max(largest, count);
          std::copy(t, t + count * 512, y);
        },
        [&](index_t d, float const* plane) {
          seen.push_back(d);
          float const* expected = x.data() + d * n.h * n.w;
          for (index_t i = 0; i < n.h * n.w; ++i) CHECK(std::abs(plane[i] - expected[i]) < 1e-6f);
        });
    std::vector<index_t> order(std::size_t(n.d));
    std::iota(order.begin(), order.end(), index_t{0});
    CHECK(seen == order);
    CHECK(largest == (n.d == 37 ? 3 : 1));
  }
}

TEST_CASE("options that cannot work are refused with their value") {
  std::vector<float> const x(8);
  auto const nothing = [](float const*, index_t, float*) {};
  auto const run = [&](sliding_window_options o, extent n = cube(2), index_t out = 1) {
    return sliding_window(n, 1, out, x.data(), o, nothing);
  };
  CHECK_THROWS_WITH(run({.roi = cube(2), .overlap = 1}),
                    Catch::Contains("overlap is 1, it must be 0 to below 1"));
  CHECK_THROWS_WITH(run({.roi = cube(2), .overlap = NAN}), Catch::Contains("overlap is nan"));
  CHECK_THROWS_WITH(run({.roi = {2, 0, 2}}), Catch::Contains("at least one voxel per axis"));
  CHECK_THROWS_WITH(run({.roi = cube(2)}, {2, 0, 4}), Catch::Contains("at least one voxel per axis"));
  CHECK_THROWS_WITH(run({.roi = cube(2), .batch = 0}), Catch::Contains("batch is 0"));
  CHECK_THROWS_WITH(run({.roi = cube(2)}, cube(2), 0), Catch::Contains("0 out"));
}
