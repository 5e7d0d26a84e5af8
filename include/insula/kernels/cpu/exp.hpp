// SPDX-License-Identifier: Apache-2.0
// exp of a whole register, float and double, without calling the maths library.
#pragma once

#include <limits>
#include <numbers>

#include "insula/kernels/cpu/simd.hpp"

namespace insula::simd {

/// e^x by x = n ln 2 + r, |r| <= ln 2 / 2: a polynomial in r, then n added to the exponent bits.
/// Relative error: float 2e-7, double 4e-16. Results below the smallest normal number are 0, too large ones are
/// infinity, NaN stays NaN.
template <scalar T>
INSULA_INLINE pack<T> exp(pack<T> x) {
  constexpr bool single = sizeof(T) == 4;
  constexpr T round =
      single ? T(12582912.0) : T(6755399441055744.0);  // 1.5 2^23 or 2^52: + and - round to integer
  constexpr T high = single ? T(0.693359375) : T(0x1.62e42fee00000p-1);  // ln 2 in two parts, n high is exact
  constexpr T low = single ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
  constexpr T least = single ? T(-87.33654) : T(-708.3964185322641);
  constexpr T most = single ? T(88.72283) : T(709.782712893384);

  pack<T> const shifted = fma(x, broadcast(T(std::numbers::log2e)), broadcast(round));
  pack<T> const n = shifted - broadcast(round);
  pack<T> const r = fnma(n, broadcast(low), fnma(n, broadcast(high), x));
  pack<T> p;
  if constexpr (single) {  // (e^r - 1 - r) / r^2, minimax, 1e-8
    p = broadcast(T(0.001392617687));
    p = fma(p, r, broadcast(T(0.008363173672)));
    p = fma(p, r, broadcast(T(0.04166655466)));
    p = fma(p, r, broadcast(T(0.1666657702)));
    p = fma(p, r, broadcast(T(0.5)));
  } else {  // the Taylor series to r^13
    p = broadcast(T(1.0 / 6227020800.0));
    p = fma(p, r, broadcast(T(1.0 / 479001600.0)));
    p = fma(p, r, broadcast(T(1.0 / 39916800.0)));
    p = fma(p, r, broadcast(T(1.0 / 3628800.0)));
    p = fma(p, r, broadcast(T(1.0 / 362880.0)));
    p = fma(p, r, broadcast(T(1.0 / 40320.0)));
    p = fma(p, r, broadcast(T(1.0 / 5040.0)));
    p = fma(p, r, broadcast(T(1.0 / 720.0)));
    p = fma(p, r, broadcast(T(1.0 / 120.0)));
    p = fma(p, r, broadcast(T(1.0 / 24.0)));
    p = fma(p, r, broadcast(T(1.0 / 6.0)));
    p = fma(p, r, broadcast(T(0.5)));
  }
  p = fma(p * r, r, r) + broadcast(T(1));

  // The low bits of `shifted` hold n, the rest of it leaves through the top.
  mask<T> const scaled = (mask<T>)p + ((mask<T>)shifted << (single ? 23 : 52));
  pack<T> y = (pack<T>)scaled;
  y = x < broadcast(least) ? zero<T>() : y;
  return x > broadcast(most) ? broadcast(std::numeric_limits<T>::infinity()) : y;
}

}  // namespace insula::simd
