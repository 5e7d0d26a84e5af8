// SPDX-License-Identifier: Apache-2.0
// The normal distribution function and the exact GELU with its slope, of a whole register.
#pragma once

#include <cmath>
#include <numbers>

#include "insula/kernels/cpu/exp.hpp"
#include "insula/kernels/cpu/stream.hpp"

namespace insula::simd {

namespace detail {

#if defined(INSULA_AVX512)
/// Phi near n step, |n| < 16, as a polynomial in the distance, which is half a step at most: row i has its coefficients of power
/// 4 - i, column n mod 32 those of n. Best in absolute error, 9e-8, found by Remez exchange; 0 around
/// -16 step, 1 at 15.49 step.
struct normal_cdf_pieces {
  static constexpr float step = 0x1.6p-2f;  // 11/32, of which small multiples are exact
  // clang-format off
  static constexpr float c[5][32] = {
      {           0.0f,   0.0153943812f,   0.0226421859f,   0.0194102246f,  0.00985707715f, 0.000364375359f, -0.00505799474f, -0.00613552565f,
       -0.00474773115f, -0.00282932911f,  -0.0013785077f, -0.000564452494f, -0.000197231173f, -5.93714321e-05f, -1.54953104e-05f, -3.49672223e-06f,
                  0.0f, 3.52212737e-06f, 1.54953104e-05f, 5.93714358e-05f, 0.000197231173f, 0.000564452494f,   0.0013785077f,  0.00282932911f,
        0.00474773115f,  0.00613552565f,  0.00505799474f, -0.000364375359f, -0.00985707715f,  -0.0194102246f,  -0.0226421859f,  -0.0153943812f},
      { -0.0661235377f,  -0.0550039373f,  -0.0276459027f,   0.0023186272f,   0.0227830056f,   0.0294962805f,   0.0257243663f,   0.0176236331f,
        0.00998732448f,  0.00479605608f,  0.00197801739f, 0.000706473831f, 0.000219728463f, 5.97439721e-05f, 1.42416447e-05f, 2.96997518e-06f,
                  0.0f, 2.98279519e-06f, 1.42416438e-05f, 5.97439721e-05f, 0.000219728463f, 0.000706473831f,  0.00197801739f,  0.00479605608f,
        0.00998732448f,   0.0176236331f,   0.0257243663f,   0.0294962805f,   0.0227830056f,   0.0023186272f,  -0.0276459027f,  -0.0550039373f},
      {           0.0f,  -0.0646326616f,   -0.108269975f,    -0.12086717f,   -0.106570996f,  -0.0782749355f,  -0.0490408577f,  -0.0265422482f,
        -0.0125037348f, -0.00515201455f, -0.00186290918f, -0.000592530938f, -0.000166070546f, -4.10686698e-05f, -8.97036898e-06f, -1.20973527e-06f,
                  0.0f, 1.73198202e-06f, 8.97036898e-06f, 4.10686698e-05f, 0.000166070546f, 0.000592530938f,  0.00186290918f,  0.00515201455f,
         0.0125037348f,   0.0265422482f,   0.0490408577f,   0.0782749355f,    0.106570996f,     0.12086717f,    0.108269975f,   0.0646326616f},
      {    0.39893958f,    0.376052767f,    0.314973265f,    0.234412774f,    0.155013934f,    0.091083765f,     0.04755437f,   0.0220606048f,
        0.00909325853f,  0.00333038508f,  0.00108377519f, 0.000313365017f, 8.05053569e-05f, 1.83762932e-05f, 3.72688032e-06f, 8.51521065e-07f,
                  0.0f, 6.71556393e-07f, 3.72688032e-06f, 1.83762932e-05f, 8.05053569e-05f, 0.000313365017f,  0.00108377519f,  0.00333038508f,
        0.00909325853f,   0.0220606048f,     0.04755437f,    0.091083765f,    0.155013934f,    0.234412774f,    0.314973265f,    0.376052767f},
      {           0.5f,    0.634482861f,    0.754116118f,    0.848788202f,    0.915434301f,    0.957170069f,    0.980419934f,    0.991941392f,
          0.997020245f,    0.999011755f,    0.999706447f,    0.999921978f,    0.999981463f,    0.999996066f,    0.999999225f,    0.999999881f,
                  0.0f, 1.25975831e-07f, 7.45282364e-07f, 3.93394066e-06f,  1.8536839e-05f, 7.80216433e-05f, 0.000293555669f, 0.000988219981f,
        0.00297976309f,   0.0080586141f,   0.0195800774f,   0.0428299494f,   0.0845657215f,    0.151211798f,    0.245883852f,    0.365517169f}};
  // clang-format on
};
#endif

}  // namespace detail

/// Phi(u) = (1 + erf(u / sqrt 2)) / 2 of N registers at once, so that their polynomials hide each other's latency.
/// float with AVX-512: one of 32 polynomials of degree 4 whose coefficients are looked up in registers, a third fewer instructions;
/// absolute error 1.3e-7; 0 below -5.33, 1 above 5.33; NaN stays NaN.
/// float with AVX2: 1/2 + u R(u^2) for |u| <= 5.5, R a quotient of polynomials of degree 5 (1e-8 off with exact arithmetic, each
/// coefficient rounded before the next was sought), a quarter fewer instructions than below; absolute error 1.7e-7. Beyond 5.5 R is
/// constant and the result held to [0, 1], NaN stays NaN.
/// float elsewhere: the same, R a polynomial of degree 15 in a variable scaled to [-1, 1], where it is well conditioned; absolute
/// error 1.2e-7. A quotient that was tried without fused products erred by 2.1e-7.
/// double: std::erfc per element.
template <scalar T, int N>
INSULA_INLINE void normal_cdf_all(pack<T> const (&u)[N], pack<T> (&out)[N]) {
#if defined(INSULA_AVX512)
  if constexpr (sizeof(T) == 4) {
    using pieces = detail::normal_cdf_pieces;
    pack<T> f[N], p[N];
    __m512i n[N];
    auto const coefficient = [&](int i, int j) {
      return (pack<T>)_mm512_permutex2var_ps((__m512)load(pieces::c[i]), n[j],
                                             (__m512)load(pieces::c[i] + 16));
    };
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) {
      pack<T> const x =
          min(broadcast(15.49f * pieces::step), max(broadcast(-16 * pieces::step), u[j]));  // NaN passes
      constexpr T round = detail::exp_constants<T>::round;  // leaves the nearest integer in the low bits
      pack<T> const t = fma(x, broadcast(1 / pieces::step), broadcast(round));
      n[j] = (__m512i)t;
      f[j] = fnma(t - broadcast(round), broadcast(pieces::step), x);
      p[j] = coefficient(0, j);
    }
#pragma GCC unroll 8
    for (int i = 1; i < 5; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) p[j] = fma(p[j], f[j], coefficient(i, j));
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) out[j] = p[j];
    return;
  }
#elif defined(INSULA_AVX2)
  if constexpr (sizeof(T) == 4) {
    constexpr T above[6] = {T(2.45892249e-08f), T(6.90707384e-06f), T(0.000184764562f),
                            T(0.0050868215f),   T(0.0368963666f),   T(0.43311128f)};
    constexpr T below[6] = {T(1.29770388e-06f), T(8.04338633e-05f), T(0.00205419702f),
                            T(0.0311822593f),   T(0.273426056f),    T(1.08564913f)};
    pack<T> s[N], p[N], q[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) {
      s[j] = min(u[j] * u[j], broadcast(T(5.5 * 5.5)));
      p[j] = broadcast(above[0]), q[j] = broadcast(below[0]);
    }
#pragma GCC unroll 8
    for (int i = 1; i < 6; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j)
        p[j] = fma(p[j], s[j], broadcast(above[i])), q[j] = fma(q[j], s[j], broadcast(below[i]));
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j)
      out[j] = min(broadcast(T(1)), max(zero<T>(), fma(u[j], p[j] / q[j], broadcast(T(0.5)))));
    return;
  }
#endif
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

/// u Phi(u) of N registers at once.
template <scalar T, int N>
INSULA_INLINE void gelu_all(pack<T> (&u)[N]) {
  pack<T> p[N];
  normal_cdf_all<T>(u, p);
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) u[j] *= p[j];
}
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

/// gelu'(u) = Phi(u) + u phi(u) of N registers at once, where the value itself is not needed.
/// float: 1/2 + u R(u^2) for |u| <= 5.75 as in normal_cdf, of degree 17, in pairs of powers: a short chain of products, and
/// little cancels where u is large; absolute error 3e-7, beyond 5.75 exactly 0 or 1 (1.5e-7 off).
template <scalar T, int N>
INSULA_INLINE void gelu_slope_all(pack<T> const (&u)[N], pack<T> (&slope)[N]) {
  if constexpr (sizeof(T) == 4) {
    constexpr T edge = T(5.75 * 5.75);
    constexpr T c[18] = {T(-0.002445365724), T(0.006217060152), T(-0.002832293171), T(0.001062143954),
                         T(-0.01622025063),  T(0.03169308436),  T(-0.03492847735),  T(0.04316300003),
                         T(-0.05935922299),  T(0.06938505864),  T(-0.07057823465),  T(0.06675459107),
                         T(-0.05952444231),  T(0.05170648699),  T(-0.04729423592),  T(0.04936722443),
                         T(-0.06228140767),  T(0.1230718241)};
    pack<T> t[N], square[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) {
      t[j] = fma(min(u[j] * u[j], broadcast(edge)), broadcast(T(2 / (5.75 * 5.75))), broadcast(T(-1)));
      square[j] = t[j] * t[j];
      slope[j] = fma(broadcast(c[0]), t[j], broadcast(c[1]));
    }
#pragma GCC unroll 8
    for (int i = 2; i < 18; i += 2)
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j)
        slope[j] = fma(slope[j], square[j], fma(broadcast(c[i]), t[j], broadcast(c[i + 1])));
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) {
      pack<T> const limit = u[j] > zero<T>() ? broadcast(T(1)) : zero<T>();
      slope[j] = u[j] * u[j] > broadcast(edge) ? limit : fma(u[j], slope[j], broadcast(T(0.5)));
    }
  } else {
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) slope[j] = fma(u[j], normal_density<T>(u[j]), normal_cdf<T>(u[j]));
  }
}
template <scalar T>
INSULA_INLINE pack<T> gelu_slope(pack<T> u) {
  pack<T> const one[1] = {u};
  pack<T> out[1];
  gelu_slope_all<T>(one, out);
  return out[0];
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

/// y = gelu(x) of a row, past the cache if Past, see put. y may be x.
template <bool Past = false, scalar T>
void gelu_of_row(index_t n, T const* x, T* y) {
  constexpr int w = width<T>, at_once = 4;
  index_t i = 0;
  for (; i + at_once * w <= n; i += at_once * w) {
    pack<T> u[at_once];
#pragma GCC unroll 8
    for (int j = 0; j < at_once; ++j) {
      ask_ahead(x + i + j * w);
      if constexpr (!Past) ask_ahead(y + i + j * w);
      u[j] = load(x + i + j * w);
    }
    gelu_all<T>(u);
#pragma GCC unroll 8
    for (int j = 0; j < at_once; ++j) put<Past>(y + i + j * w, u[j], whole{});
  }
  each_register<T>(n - i,
                   [=](index_t j, auto lanes) { store(y + i + j, gelu<T>(load(x + i + j, lanes)), lanes); });
}

}  // namespace insula::simd
