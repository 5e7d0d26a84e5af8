// SPDX-License-Identifier: Apache-2.0
// Layer normalisation of one row, forward and backward: shared by the norm kernels and the fused feed-forward block.
#pragma once

#include <cmath>

#include "insula/kernels/cpu/row.hpp"

namespace insula::simd {

/// Mean (the rounded `mean` plus a small `shift`) and 1 / sqrt(var + eps) of a row. The second pass sums differences
/// from the first pass's mean, so a mean far larger than the deviation costs no digits.
template <scalar T>
struct row_statistics {
  T mean, shift, rstd;
};

/// Statistics of N rows at once, out[j] of the row x[j]: their sums, divisions and roots do not wait for each other.
template <int N, scalar T>
INSULA_INLINE void statistics_of_rows(index_t n, T const* const (&x)[N], double eps, row_statistics<T>* out) {
  constexpr int w = width<double>, lanes_of_all = (N + w - 1) / w * w;
  pack<T> sum[N]{}, center[N], first[N]{}, second[N]{};
  each_register<T>(n, [&](index_t i, auto lanes) {
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) ask_ahead(x[j] + i), sum[j] += load(x[j] + i, lanes);
  });
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) center[j] = broadcast(out[j].mean = simd::sum<T>(sum[j]) / T(n));
  each_register<T>(n, [&](index_t i, auto lanes) {
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      pack<T> d = load(x[j] + i, lanes) - center[j];
      if constexpr (std::is_same_v<decltype(lanes), int>) {  // lanes beyond the row count as 0
        T kept[width<T>];
        store(kept, d);
        d = load(kept, lanes);
      }
      first[j] += d;
      second[j] = fma(d, d, second[j]);
    }
  });
  double shift[lanes_of_all]{}, rstd[lanes_of_all]{};
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j)
    shift[j] = double(simd::sum<T>(first[j])), rstd[j] = double(simd::sum<T>(second[j]));
  for (int j = 0; j < N; j += w) {
    auto const count = broadcast(double(n)), s = load(shift + j) / count,
               variance = load(rstd + j) / count - s * s;
    store(shift + j, s);
    store(rstd + j, broadcast(1.0) / simd::sqrt<double>(max(variance, zero<double>()) + broadcast(eps)));
  }
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) out[j].shift = T(shift[j]), out[j].rstd = T(rstd[j]);
}
template <scalar T>
INSULA_INLINE row_statistics<T> statistics_of_row(index_t n, T const* x, double eps) {
  T const* const rows[1] = {x};
  row_statistics<T> s;
  statistics_of_rows(n, rows, eps, &s);
  return s;
}
/// Calls f(row, its statistics) for rows [begin, end), one behind the other.
template <scalar T, class F>
INSULA_INLINE void each_statistics(index_t begin, index_t end, index_t n, T const* x, double eps, F f) {
  constexpr int at_once = 4;
  index_t r = begin;
  for (; r + at_once <= end; r += at_once) {
    T const* const rows[at_once] = {x + r * n, x + (r + 1) * n, x + (r + 2) * n, x + (r + 3) * n};
    row_statistics<T> s[at_once];
    statistics_of_rows(n, rows, eps, s);
    for (int j = 0; j < at_once; ++j) f(r + j, s[j]);
  }
  for (; r < end; ++r) f(r, statistics_of_row(n, x + r * n, eps));
}

/// (x - mean) rstd
template <scalar T>
struct row_normaliser {
  pack<T> mean, shift, rstd;
  INSULA_INLINE explicit row_normaliser(row_statistics<T> s)
      : mean(broadcast(s.mean)), shift(broadcast(s.shift)), rstd(broadcast(s.rstd)) {}
  INSULA_INLINE pack<T> operator()(pack<T> x) const { return ((x - mean) - shift) * rstd; }
};

/// y = (x - mean) rstd w + b; w and b may be null.
template <scalar T>
INSULA_INLINE void normalise_row(index_t n, T const* x, row_statistics<T> s, T const* w, T const* b, T* y) {
  row_normaliser<T> const unit(s);
  each_register<T>(n, [&](index_t i, auto lanes) {
    ask_ahead(y + i);
    pack<T> v = unit(load(x + i, lanes));
    if (w) v = v * load(w + i, lanes);
    if (b) v = v + load(b + i, lanes);
    store(y + i, v, lanes);
  });
}

/// Gradient of normalise_row:  gx (+)= (extra +) rstd (g w - mean(g w) - unit mean(g w unit)),
/// gw += g unit, gb += g. w, extra, gx, gw and gb may be null. gx may be g or extra.
template <scalar T>
INSULA_INLINE void normalise_row_grad(index_t n, T const* x, row_statistics<T> s, T const* w, T const* g,
                                      T const* extra, bool adds, T* gx, T* gw, T* gb) {
  row_normaliser<T> const unit(s);
  pack<T> total{}, slope{};
  each_register<T>(n, [&](index_t i, auto lanes) {
    ask_ahead(g + i, x + i);
    pack<T> const gy = load(g + i, lanes), u = unit(load(x + i, lanes));
    if (gw) store(gw + i, fma(gy, u, load(gw + i, lanes)), lanes);
    if (gb) store(gb + i, load(gb + i, lanes) + gy, lanes);
    pack<T> const gu = w ? gy * load(w + i, lanes) : gy;  // lanes beyond the row are 0 because gy is
    total += gu;
    slope = fma(gu, u, slope);
  });
  if (!gx) return;
  pack<T> const mean = broadcast(simd::sum<T>(total) / T(n)), lean = broadcast(simd::sum<T>(slope) / T(n));
  each_register<T>(n, [&](index_t i, auto lanes) {
    pack<T> const gy = load(g + i, lanes), u = unit(load(x + i, lanes));
    pack<T> const gu = w ? gy * load(w + i, lanes) : gy;
    ask_ahead(gx + i);
    pack<T> out = unit.rstd * (gu - mean - u * lean);
    if (extra) out += load(extra + i, lanes);
    if (adds) out += load(gx + i, lanes);
    store(gx + i, out, lanes);
  });
}

}  // namespace insula::simd
