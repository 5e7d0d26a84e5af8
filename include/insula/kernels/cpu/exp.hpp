// SPDX-License-Identifier: Apache-2.0
// Exponentials of whole registers.
#pragma once

#include "insula/kernels/cpu/simd.hpp"

namespace insula::simd {

namespace detail {

/// Constants of 2^x and e^x. Adding `round` to a small number leaves its nearest integer in the low bits.
/// ln2_high has so few bits that its product with an exponent is exact. The polynomials 1 + f (c[0] + f (c[1] + ...))
/// are the best in relative error on |f| <= 1/2 (base 2) and |f| <= ln(2)/2 (base e), found by Remez exchange:
/// 2.6e-9 for float, 1.8e-17 for double.
template <scalar T>
struct exp_constants;
template <>
struct exp_constants<float> {
  typedef std::uint32_t bits __attribute__((vector_size(register_bytes)));  // unsigned: sums may wrap around
  static constexpr int mantissa = 23, bias = 127, degree = 6;
  static constexpr float round = 0x1.8p23f, least_2 = -127, most_2 = 128;
  static constexpr float log2e = 0x1.715476p0f, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
  static constexpr float least_e = -87.33654f, most_e = 88.72283f;  // ln 2^-126 and ln 2^128, rounded inwards
  static constexpr float base_2[] = {0.693147214989836107f,   0.240226527842211525f,
                                     0.0555031050845586231f,  0.00961769278191116402f,
                                     0.00134066594868515851f, 0.000155947234583931503f};
  static constexpr float base_e[] = {1.00000004967183271f,  0.500000043465459073f,   0.166663653135214976f,
                                     0.041664776461407625f, 0.00837902090076053878f, 0.00140612817863906432f};
};
template <>
struct exp_constants<double> {
  typedef std::uint64_t bits __attribute__((vector_size(register_bytes)));
  static constexpr int mantissa = 52, bias = 1023, degree = 11;
  static constexpr double round = 0x1.8p52, least_2 = -1023, most_2 = 1024;
  static constexpr double log2e = 0x1.71547652b82fep0;
  static constexpr double ln2_high = 0x1.62e42fefap-1, ln2_low = 0x1.cf79abc9e3b39p-40;
  static constexpr double least_e = -708.396418532264, most_e = 709.782712893383;
  static constexpr double base_2[] = {
      0.693147180559945697,   0.24022650695910098,     0.055504108664790393,     0.00961812910760700465,
      0.00133335581534404192, 0.000154035304415694499, 0.0000152527273847404966, 1.32154426765539335e-6,
      1.01806478447742743e-7, 7.07257022064028682e-9,  4.0780451108401166e-10};
  static constexpr double base_e[] = {
      1.00000000000000056,    0.500000000000000558,  0.166666666666572944,    0.0416666666665735713,
      0.00833333333771837986, 0.0013888888932364442, 0.000198412614874498851, 0.0000248015044802209637,
      2.7564256826273949e-6,  2.762630960359886e-7,  2.29811640278962782e-8};
};

#if defined(INSULA_AVX512)
/// The nearest integer to a, and p 2^n. (All lanes are named in the masked intrinsics because g++ 12 warns about the
/// undefined operand of the others.)
template <scalar T>
INSULA_INLINE pack<T> nearest_integer(pack<T> a) {
  constexpr int nearest = 8;  // to nearest even, no exception
  if constexpr (sizeof(T) == 4)
    return (pack<T>)_mm512_maskz_roundscale_ps(__mmask16(-1), (__m512)a, nearest);
  else
    return (pack<T>)_mm512_maskz_roundscale_pd(__mmask8(-1), (__m512d)a, nearest);
}
template <scalar T>
INSULA_INLINE pack<T> scaled(pack<T> p, pack<T> n) {
  if constexpr (sizeof(T) == 4)
    return (pack<T>)_mm512_maskz_scalef_ps(__mmask16(-1), (__m512)p, (__m512)n);
  else
    return (pack<T>)_mm512_maskz_scalef_pd(__mmask8(-1), (__m512d)p, (__m512d)n);
}
#endif

/// 1 + f q(f). Several registers at once: their chains of dependent products hide each other's latency.
template <scalar T, int N>
INSULA_INLINE void polynomials(pack<T> const (&f)[N], T const* c, pack<T> (&p)[N]) {
  constexpr int degree = exp_constants<T>::degree;
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) p[j] = broadcast(c[degree - 1]);
#pragma GCC unroll 12
  for (int i = degree - 2; i >= 0; --i)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) p[j] = fma(p[j], f[j], broadcast(c[i]));
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) p[j] = fma(p[j], f[j], broadcast(T(1)));
}

}  // namespace detail

/// x <- 2^x of N registers. Relative error below 2e-7 (float), 5e-16 (double). Below 2^-126 (2^-1022) the result is 0
/// or not more than that, from 2^128 (2^1024) on it is infinite, and may be from 2^127.5 (2^1023.5) on; NaN stays NaN.
template <scalar T, int N>
INSULA_INLINE void exp2_all(pack<T> (&x)[N]) {
  using constants = detail::exp_constants<T>;
  pack<T> f[N], n[N], p[N];
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) {
#if defined(INSULA_AVX512)  // x minus its nearest integer in one instruction, 0 if x is infinite
    if constexpr (sizeof(T) == 4)
      f[j] = (pack<T>)_mm512_maskz_reduce_ps(__mmask16(-1), (__m512)x[j], 8);
    else
      f[j] = (pack<T>)_mm512_maskz_reduce_pd(__mmask8(-1), (__m512d)x[j], 8);
    n[j] = detail::nearest_integer<T>(x[j]);
#else  // the low bits of n are the exponent field of 2^(the nearest integer)
    constexpr T round = constants::round + T(constants::bias);
    pack<T> const y =
        min(broadcast(constants::most_2), max(broadcast(constants::least_2), x[j]));  // NaN passes
    n[j] = y + broadcast(round);
    f[j] = y - (n[j] - broadcast(round));
#endif
  }
  detail::polynomials<T>(f, constants::base_2, p);
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j)
#if defined(INSULA_AVX512)
    x[j] = detail::scaled<T>(p[j], n[j]);
#else
    x[j] = p[j] * (pack<T>)((typename constants::bits)n[j] << constants::mantissa);
#endif
}
template <scalar T>
INSULA_INLINE pack<T> exp2(pack<T> x) {
  pack<T> one[1] = {x};
  exp2_all<T>(one);
  return one[0];
}

/// x <- e^x of N registers. Relative error below 2e-7 (float), 5e-16 (double). Zero below 2^-126 (2^-1022), infinite
/// beyond the largest number; NaN stays NaN.
template <scalar T, int N>
INSULA_INLINE void exp_all(pack<T> (&x)[N]) {
  using constants = detail::exp_constants<T>;
  pack<T> f[N], n[N], p[N];
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) {
#if defined(INSULA_AVX512)
    n[j] = detail::nearest_integer<T>(x[j] * broadcast(constants::log2e));
    pack<T> const whole = n[j];
#else
    n[j] = fma(x[j], broadcast(constants::log2e), broadcast(constants::round));
    pack<T> const whole = n[j] - broadcast(constants::round);
#endif
    f[j] = fnma(whole, broadcast(constants::ln2_low), fnma(whole, broadcast(constants::ln2_high), x[j]));
  }
  detail::polynomials<T>(f, constants::base_e, p);
#if defined(INSULA_AVX512)
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) p[j] = detail::scaled<T>(p[j], n[j]);
#else  // added to the exponent, which holds up to the largest number
  using bits = typename constants::bits;
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) {
    bits const scaled = (bits)p[j] + ((bits)n[j] << constants::mantissa);
    p[j] = (pack<T>)(scaled | (bits)(f[j] != f[j]));  // what a NaN carries is no exponent: it stays NaN
  }
#endif
  pack<T> const infinite = broadcast(T(INFINITY));
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j)
    x[j] = x[j] < broadcast(constants::least_e)  ? zero<T>()
           : x[j] > broadcast(constants::most_e) ? infinite
                                                 : p[j];
}
template <scalar T>
INSULA_INLINE pack<T> exp(pack<T> x) {
  pack<T> one[1] = {x};
  exp_all<T>(one);
  return one[0];
}

}  // namespace insula::simd
