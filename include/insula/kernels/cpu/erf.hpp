// SPDX-License-Identifier: Apache-2.0
// The normal distribution function and the exact GELU with its slope, of a whole register.
#pragma once

#include <cmath>
#include <numbers>

#include "insula/kernels/cpu/exp.hpp"
#include "insula/kernels/cpu/row.hpp"

namespace insula::simd {

/// Phi(u) = (1 + erf(u / sqrt 2)) / 2 of N registers at once, so that their polynomials hide each other's latency.
/// float: 1/2 + u R(u^2) for |u| <= 5.5, R a polynomial of degree 15 in a variable scaled to [-1, 1], where it is
/// well conditioned; absolute error 1.2e-7. Beyond 5.5 R is constant and the result held to [0, 1], NaN stays NaN.
/// double: std::erfc per element.
template <scalar T, int N>
INSULA_INLINE void normal_cdf_all(pack<T> const (&u)[N], pack<T> (&out)[N]) {
  if constexpr (sizeof(T) == 4) {
    constexpr T edge = T(5.5 * 5.5);
    constexpr T c[16] = {T(-0.0002740660155), T(0.0006551481797), T(-0.0004001957678), T(0.000643707784),
                         T(-0.002593710551),  T(0.004718356385),  T(-0.006700172242),  T(0.01016775549),
                         T(-0.01504235102),   T(0.02038357138),   T(-0.02604036884),   T(0.03206742816),
                         T(-0.03879340558),   T(0.04773778316),   T(-0.064172325),     T(0.1285519295)};
    pack<T> t[N], p[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) {
      t[j] = fma(min(u[j] * u[j], broadcast(edge)), broadcast(T(2 / (5.5 * 5.5))), broadcast(T(-1)));
      p[j] = broadcast(c[0]);
    }
#pragma GCC unroll 16
    for (int i = 1; i < 16; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) p[j] = fma(p[j], t[j], broadcast(c[i]));
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j)
      out[j] = min(broadcast(T(1)), max(zero<T>(), fma(u[j], p[j], broadcast(T(0.5)))));
  } else {
    for (int j = 0; j < N; ++j)
      for (int i = 0; i < width<T>; ++i)
        out[j][i] = T(0.5) * std::erfc(-u[j][i] * T(std::numbers::sqrt2 / 2));
  }
}
template <scalar T>
INSULA_INLINE pack<T> normal_cdf(pack<T> u) {
  pack<T> const one[1] = {u};
  pack<T> out[1];
  normal_cdf_all<T>(one, out);
  return out[0];
}

/// u Phi(u)
template <scalar T>
INSULA_INLINE pack<T> gelu(pack<T> u) {
  return u * normal_cdf<T>(u);
}

/// phi(u) = exp(-u^2 / 2) / sqrt(2 pi)
template <scalar T>
INSULA_INLINE pack<T> normal_density(pack<T> u) {
  constexpr T norm = T(std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2);
  return exp<T>(u * u * broadcast(T(-0.5))) * broadcast(norm);
}

/// gelu'(u) = Phi(u) + u phi(u), where the value itself is not needed.
/// float: 1/2 + u R(u^2) for |u| <= 5.75 as in normal_cdf, of degree 17, in pairs of powers: a short chain of products, and
/// little cancels where u is large; absolute error 3e-7, beyond 5.75 exactly 0 or 1 (1.5e-7 off).
template <scalar T>
INSULA_INLINE pack<T> gelu_slope(pack<T> u) {
  if constexpr (sizeof(T) == 4) {
    constexpr T edge = T(5.75 * 5.75);
    pack<T> const s = u * u;
    pack<T> const t = fma(min(s, broadcast(edge)), broadcast(T(2 / (5.75 * 5.75))), broadcast(T(-1)));
    constexpr T c[18] = {T(-0.002445365724), T(0.006217060152), T(-0.002832293171), T(0.001062143954),
                         T(-0.01622025063),  T(0.03169308436),  T(-0.03492847735),  T(0.04316300003),
                         T(-0.05935922299),  T(0.06938505864),  T(-0.07057823465),  T(0.06675459107),
                         T(-0.05952444231),  T(0.05170648699),  T(-0.04729423592),  T(0.04936722443),
                         T(-0.06228140767),  T(0.1230718241)};
    pack<T> const square = t * t;
    pack<T> p = fma(broadcast(c[0]), t, broadcast(c[1]));
#pragma GCC unroll 8
    for (int i = 2; i < 18; i += 2) p = fma(p, square, fma(broadcast(c[i]), t, broadcast(c[i + 1])));
    pack<T> const limit = u > zero<T>() ? broadcast(T(1)) : zero<T>();
    return s > broadcast(edge) ? limit : fma(u, p, broadcast(T(0.5)));
  } else {
    return fma(u, normal_density<T>(u), normal_cdf<T>(u));
  }
}

/// gelu(u) and its derivative Phi(u) + u phi(u) of N registers at once.
template <scalar T, int N>
struct gelu_pairs {
  pack<T> value[N], slope[N];
};
template <scalar T, int N>
INSULA_INLINE gelu_pairs<T, N> gelu_with_slope_all(pack<T> const (&u)[N]) {
  constexpr T norm = T(std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2);
  pack<T> p[N], density[N];
  normal_cdf_all<T>(u, p);
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) density[j] = u[j] * u[j] * broadcast(T(-0.5));
  exp_all<T>(density);
  gelu_pairs<T, N> out;
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j)
    out.value[j] = u[j] * p[j], out.slope[j] = fma(u[j] * broadcast(norm), density[j], p[j]);
  return out;
}
template <scalar T>
struct gelu_pair {
  pack<T> value, slope;
};
template <scalar T>
INSULA_INLINE gelu_pair<T> gelu_with_slope(pack<T> u) {
  pack<T> const one[1] = {u};
  auto const g = gelu_with_slope_all<T>(one);
  return {g.value[0], g.slope[0]};
}

/// y = gelu(x) of a row. y may be x.
template <scalar T>
void gelu_of_row(index_t n, T const* x, T* y) {
  constexpr int w = width<T>, at_once = register_count / 4;
  index_t i = 0;
  for (; i + at_once * w <= n; i += at_once * w) {
    pack<T> u[at_once], p[at_once];
#pragma GCC unroll 8
    for (int j = 0; j < at_once; ++j) u[j] = load(x + i + j * w);
    normal_cdf_all<T>(u, p);
#pragma GCC unroll 8
    for (int j = 0; j < at_once; ++j) store(y + i + j * w, u[j] * p[j]);
  }
  each_register<T>(n - i,
                   [=](index_t j, auto lanes) { store(y + i + j, gelu<T>(load(x + i + j, lanes)), lanes); });
}

}  // namespace insula::simd
