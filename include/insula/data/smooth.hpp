// SPDX-License-Identifier: Apache-2.0
// Separable Gaussian smoothing with taps integrated over voxels.
#pragma once

#include <array>
#include <cmath>
#include <vector>

#include "insula/base/random.hpp"
#include "insula/data/voxels.hpp"

namespace insula {

/// Taps -tail..tail, tail = int(max(4 sigma, 0.5) + 0.5):
/// w[u] = max(0, (erf(k (u + 1/2)) - erf(k (u - 1/2))) / 2), k = 0.70710678 / sigma; not renormalised. sigma > 0.
/// Project-MONAI/MONAI, monai/networks/layers/convutils.py: gaussian_1d, approx "erf".
inline std::vector<double> gaussian_taps(double sigma) {
  check(sigma > 0 && sigma < 1e4, "gaussian_taps: sigma is ", sigma,
        " voxels, it must be above 0 and below 1e4");
  int const tail = int(std::max(4 * sigma, 0.5) + 0.5);
  double const k = 0.70710678 / sigma;
  std::vector<double> taps;
  for (int u = -tail; u <= tail; ++u)
    taps.push_back(std::max(0.0, 0.5 * (std::erf(k * (u + 0.5)) - std::erf(k * (u - 0.5)))));
  return taps;
}

namespace detail {
/// y[l] += w x[l] over `count` floats; x and y do not overlap.
inline void add_scaled(float* __restrict y, float const* __restrict x, float w, index_t count) {
  index_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int l = 0; l < lanes; ++l) y[i + l] += w * x[i + l];
  for (; i < count; ++i) y[i] += w * x[i];
}

/// Convolves `lines` neighbouring lines of n values, line stride 1 and value stride `stride`, with zeros outside.
inline void convolve_lines(float const* x, float* y, index_t n, index_t stride, index_t lines,
                           std::vector<double> const& taps) {
  index_t const tail = index_t(taps.size() / 2);
  for (index_t i = 0; i < n; ++i) {
    float* const row = y + i * stride;
    std::fill(row, row + lines, 0.0f);
    for (index_t u = std::max<index_t>(-tail, -i); u <= std::min(tail, n - 1 - i); ++u)
      add_scaled(row, x + (i + u) * stride, float(taps[std::size_t(u + tail)]), lines);
  }
}
}  // namespace detail

/// x convolved along each axis with gaussian_taps(sigma[axis]), zeros outside, same size; an axis with sigma 0 is
/// left as it is.
inline volume smooth(volume const& x, std::array<double, 3> const& sigma, thread_pool* pool = nullptr) {
  extent const n = x.size;
  volume y = x;
  auto const taps = [&](int a) {
    return sigma[std::size_t(a)] > 0 ? gaussian_taps(sigma[std::size_t(a)]) : std::vector<double>{1.0};
  };
  auto const td = taps(0), th = taps(1), tw = taps(2);
  index_t const tail = index_t(tw.size() / 2);
  for_tasks(pool, n.d, [&](index_t d) {  // along h, then along w, inside one plane
    float* const plane = y.voxels.data() + d * n.h * n.w;
    std::vector<float> rows(std::size_t(n.h * n.w)), padded(std::size_t(n.w + 2 * tail), 0.0f);
    detail::convolve_lines(plane, rows.data(), n.h, n.w, n.w, th);
    for (index_t h = 0; h < n.h; ++h) {
      std::copy(rows.data() + h * n.w, rows.data() + (h + 1) * n.w, padded.data() + tail);
      float* const row = plane + h * n.w;
      std::fill(row, row + n.w, 0.0f);
      for (index_t u = 0; u <= 2 * tail; ++u)
        detail::add_scaled(row, padded.data() + u, float(tw[std::size_t(u)]), n.w);
    }
  });
  if (td.size() == 1 && td[0] == 1.0) return y;
  for_tasks(pool, n.h, [&](index_t h) {  // along d, one row of w at a time
    std::vector<float> in(std::size_t(n.d * n.w)), out(in.size());
    for (index_t d = 0; d < n.d; ++d) std::copy_n(&y.at(d, h, 0), n.w, in.data() + d * n.w);
    detail::convolve_lines(in.data(), out.data(), n.d, n.w, n.w, td);
    for (index_t d = 0; d < n.d; ++d) std::copy_n(out.data() + d * n.w, n.w, &y.at(d, h, 0));
  });
  return y;
}

/// Three independent widths U(low, high) in voxels.
inline std::array<double, 3> draw_widths(double low, double high, random_stream& random) {
  return {random.uniform(low, high), random.uniform(low, high), random.uniform(low, high)};
}

}  // namespace insula
