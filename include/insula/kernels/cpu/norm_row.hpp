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
template <scalar T>
INSULA_INLINE row_statistics<T> statistics_of_row(index_t n, T const* x, double eps) {
  pack<T> sum{};
  each_register<T>(n, [&](index_t i, auto lanes) { sum += load(x + i, lanes); });
  T const mean = simd::sum<T>(sum) / T(n);
  pack<T> const center = broadcast(mean);
  pack<T> first{}, second{};
  each_register<T>(n, [&](index_t i, auto lanes) {
    pack<T> d = load(x + i, lanes) - center;
    if constexpr (std::is_same_v<decltype(lanes), int>) {  // lanes beyond the row count as 0
      T kept[width<T>];
      store(kept, d);
      d = load(kept, lanes);
    }
    first += d;
    second = fma(d, d, second);
  });
  double const shift = double(simd::sum<T>(first)) / double(n);
  double const variance = double(simd::sum<T>(second)) / double(n) - shift * shift;
  return {mean, T(shift), T(1 / std::sqrt((variance > 0 ? variance : 0) + eps))};
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
    pack<T> out = unit.rstd * (gu - mean - u * lean);
    if (extra) out += load(extra + i, lanes);
    if (adds) out += load(gx + i, lanes);
    store(gx + i, out, lanes);
  });
}

}  // namespace insula::simd
