// SPDX-License-Identifier: Apache-2.0
// Discrete Fourier transforms of any length, sixteen lines at a time.
#pragma once

#include <cmath>
#include <numbers>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/data/elementary.hpp"

namespace insula {

/// Forward transforms X[k] = sum_j x[j] exp(-2 pi i jk / n) of `lanes` lines at once, line l being re[j][l],
/// im[j][l]; n >= 1 of any factorisation. Stockham's self-sorting mixed-radix form (Van Loan, Computational
/// Frameworks for the Fast Fourier Transform, 1992, section 1.7). Swap the roles of re and im for the inverse
/// times n. A line costs about 1 ns per point where scalar libraries need 10 to 60 at lengths such as 148 = 4 * 37.
class line_transform {
 public:
  explicit line_transform(index_t n) : n_(n) {
    check(n >= 1 && n < (index_t{1} << 24), "line_transform: the length is ", n,
          ", it must be 1 to 2^24 - 1");
    for (index_t i = 0; i < n; ++i) {
      double const a = -2 * std::numbers::pi * double(i) / double(n);
      cos_.push_back(float(std::cos(a))), sin_.push_back(float(std::sin(a)));
    }
    index_t rest = n;
    while (rest % 4 == 0) radix_.push_back(4), rest /= 4;
    for (index_t p = 2; rest > 1; ++p)
      while (rest % p == 0) radix_.push_back(p), rest /= p;
  }

  index_t size() const { return n_; }
  /// Floats of workspace that run() needs.
  index_t workspace() const { return 2 * n_ * lanes + 2 * lanes * (radix_.empty() ? 1 : radix_.back() + 4); }

  /// Transforms re and im (n x lanes each) in place.
  void run(float* re, float* im, float* work) const {
    float *from_re = re, *from_im = im, *to_re = work, *to_im = work + n_ * lanes;
    float* const sums = work + 2 * n_ * lanes;
    index_t rest = n_, stride = 1;
    for (index_t const p : radix_) {
      if (p == 4)
        pass4(rest, stride, from_re, from_im, to_re, to_im);
      else if (p == 2)
        pass2(rest, stride, from_re, from_im, to_re, to_im);
      else
        pass_odd(p, rest, stride, from_re, from_im, to_re, to_im, sums);
      rest /= p, stride *= p;
      std::swap(from_re, to_re), std::swap(from_im, to_im);
    }
    if (from_re == re) return;
    std::copy(from_re, from_re + n_ * lanes, re);
    std::copy(from_im, from_im + n_ * lanes, im);
  }

 private:
  // One pass splits transforms of length `rest` into p of length m = rest / p:
  //   y[s (p i + t) + q] = exp(-2 pi i it / rest) sum_r x[s (i + r m) + q] exp(-2 pi i rt / p),  q < s = stride.
  struct complex_ref {
    float *re, *im;
  };
  static void put(float* __restrict yr, float* __restrict yi, float const* ar, float const* ai, float c,
                  float s) {
    for (int l = 0; l < lanes; ++l) yr[l] = ar[l] * c - ai[l] * s, yi[l] = ar[l] * s + ai[l] * c;
  }

  void pass2(index_t rest, index_t stride, float const* xr, float const* xi, float* yr, float* yi) const {
    index_t const m = rest / 2;
    for (index_t i = 0; i < m; ++i) {
      float const c = cos_[std::size_t(i * stride)], s = sin_[std::size_t(i * stride)];
      for (index_t q = 0; q < stride; ++q) {
        index_t const a = (q + stride * i) * lanes, b = a + stride * m * lanes,
                      y = (q + stride * 2 * i) * lanes;
        float dr[lanes], di[lanes], sr[lanes], si[lanes];
        for (int l = 0; l < lanes; ++l)
          sr[l] = xr[a + l] + xr[b + l], si[l] = xi[a + l] + xi[b + l], dr[l] = xr[a + l] - xr[b + l],
          di[l] = xi[a + l] - xi[b + l];
        put(yr + y, yi + y, sr, si, 1, 0);
        put(yr + y + stride * lanes, yi + y + stride * lanes, dr, di, c, s);
      }
    }
  }

  void pass4(index_t rest, index_t stride, float const* xr, float const* xi, float* yr, float* yi) const {
    index_t const m = rest / 4, apart = stride * m * lanes, next = stride * lanes;
    for (index_t i = 0; i < m; ++i)
      for (index_t q = 0; q < stride; ++q) {
        float const *const r = xr + (q + stride * i) * lanes, *const j = xi + (q + stride * i) * lanes;
        float e[2][lanes], f[2][lanes], g[2][lanes], h[2][lanes];
        for (int l = 0; l < lanes; ++l) {
          float const ar = r[l] + r[2 * apart + l], ai = j[l] + j[2 * apart + l];
          float const br = r[l] - r[2 * apart + l], bi = j[l] - j[2 * apart + l];
          float const cr = r[apart + l] + r[3 * apart + l], ci = j[apart + l] + j[3 * apart + l];
          float const dr = r[apart + l] - r[3 * apart + l], di = j[apart + l] - j[3 * apart + l];
          e[0][l] = ar + cr, e[1][l] = ai + ci, f[0][l] = br + di, f[1][l] = bi - dr;
          g[0][l] = ar - cr, g[1][l] = ai - ci, h[0][l] = br - di, h[1][l] = bi + dr;
        }
        index_t const y = (q + stride * 4 * i) * lanes;
        auto const w = [&](index_t t) { return std::size_t(t * i * stride); };
        put(yr + y, yi + y, e[0], e[1], 1, 0);
        put(yr + y + next, yi + y + next, f[0], f[1], cos_[w(1)], sin_[w(1)]);
        put(yr + y + 2 * next, yi + y + 2 * next, g[0], g[1], cos_[w(2)], sin_[w(2)]);
        put(yr + y + 3 * next, yi + y + 3 * next, h[0], h[1], cos_[w(3)], sin_[w(3)]);
      }
  }

  // Odd p: outputs t and p - t share sums of inputs r and differences of inputs r and p - r.
  void pass_odd(index_t p, index_t rest, index_t stride, float const* xr, float const* xi, float* yr,
                float* yi, float* sums) const {
    index_t const m = rest / p, half = (p - 1) / 2, apart = stride * m * lanes, next = stride * lanes;
    index_t const turn = n_ / p;  // exp(-2 pi i k / p) is entry k * turn
    float *const plus_re = sums, *const plus_im = plus_re + half * lanes,
                 *const minus_re = plus_im + half * lanes, *const minus_im = minus_re + half * lanes;
    for (index_t i = 0; i < m; ++i)
      for (index_t q = 0; q < stride; ++q) {
        float const *const r0 = xr + (q + stride * i) * lanes, *const j0 = xi + (q + stride * i) * lanes;
        float total_re[lanes], total_im[lanes];
        for (int l = 0; l < lanes; ++l) total_re[l] = r0[l], total_im[l] = j0[l];
        for (index_t r = 1; r <= half; ++r)
          for (int l = 0; l < lanes; ++l) {
            float const ar = r0[r * apart + l], ai = j0[r * apart + l];
            float const br = r0[(p - r) * apart + l], bi = j0[(p - r) * apart + l];
            index_t const at = (r - 1) * lanes + l;
            plus_re[at] = ar + br, plus_im[at] = ai + bi, minus_re[at] = ar - br, minus_im[at] = ai - bi;
            total_re[l] += ar + br, total_im[l] += ai + bi;
          }
        index_t const y = (q + stride * p * i) * lanes;
        put(yr + y, yi + y, total_re, total_im, 1, 0);
        for (index_t t = 1; t <= half; ++t) {
          float even_re[lanes], even_im[lanes], odd_re[lanes] = {}, odd_im[lanes] = {};
          for (int l = 0; l < lanes; ++l) even_re[l] = r0[l], even_im[l] = j0[l];
          for (index_t r = 1, k = t; r <= half; ++r, k = k + t >= p ? k + t - p : k + t) {
            float const c = cos_[std::size_t(k * turn)], s = sin_[std::size_t(k * turn)];
            index_t const at = (r - 1) * lanes;
            for (int l = 0; l < lanes; ++l) {
              even_re[l] += c * plus_re[at + l], even_im[l] += c * plus_im[at + l];
              odd_re[l] -= s * minus_im[at + l], odd_im[l] += s * minus_re[at + l];
            }
          }
          float a[2][lanes], b[2][lanes];
          for (int l = 0; l < lanes; ++l) {
            a[0][l] = even_re[l] + odd_re[l], a[1][l] = even_im[l] + odd_im[l];
            b[0][l] = even_re[l] - odd_re[l], b[1][l] = even_im[l] - odd_im[l];
          }
          auto const w = [&](index_t k) { return std::size_t(k * i * stride); };
          put(yr + y + t * next, yi + y + t * next, a[0], a[1], cos_[w(t)], sin_[w(t)]);
          put(yr + y + (p - t) * next, yi + y + (p - t) * next, b[0], b[1], cos_[w(p - t)], sin_[w(p - t)]);
        }
      }
  }

  index_t n_;
  std::vector<index_t> radix_;
  std::vector<float> cos_, sin_;  // of -2 pi i / n
};

}  // namespace insula
