// SPDX-License-Identifier: Apache-2.0
// One vector register as a value: AVX-512, AVX2 + FMA or portable, chosen at compile time.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "insula/base/config.hpp"
#include "insula/base/scalar.hpp"

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && defined(__AVX512BW__)
#define INSULA_AVX512 1
#include <immintrin.h>
#elif defined(__AVX2__) && defined(__FMA__)
#define INSULA_AVX2 1
#include <immintrin.h>
#endif

// Kernels written in assembler are for what checks no memory: sanitizers cannot look inside.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INSULA_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define INSULA_SANITIZED 1
#endif
#endif
#if defined(__x86_64__) && !defined(INSULA_SANITIZED)
#define INSULA_ASSEMBLER 1
#endif

/// For what must not become a call. Functions that only prefetch need it: g++ takes them for functions without effect, and drops calls
/// of them.
#define INSULA_INLINE inline __attribute__((always_inline))

namespace insula::simd {

#if defined(INSULA_AVX512)
inline constexpr int register_bytes = 64, register_count = 32;
inline constexpr char const* instruction_set = "AVX-512";
#elif defined(INSULA_AVX2)
inline constexpr int register_bytes = 32, register_count = 16;
inline constexpr char const* instruction_set = "AVX2";
#else
inline constexpr int register_bytes = 16, register_count = 16;
inline constexpr char const* instruction_set = "portable";
#endif

namespace detail {
template <class T>
struct native;
template <>
struct native<float> {
  typedef float type __attribute__((vector_size(register_bytes)));
  typedef std::int32_t mask __attribute__((vector_size(register_bytes)));
};
template <>
struct native<double> {
  typedef double type __attribute__((vector_size(register_bytes)));
  typedef std::int64_t mask __attribute__((vector_size(register_bytes)));
};
}  // namespace detail

/// Elements per register.
template <scalar T>
inline constexpr int width = register_bytes / int(sizeof(T));

/// A register of `width<T>` elements with element-wise + - * / and comparisons (GCC and clang vector types).
template <scalar T>
using pack = typename detail::native<T>::type;
/// What a comparison of packs gives: all bits set where true.
template <scalar T>
using mask = typename detail::native<T>::mask;

template <scalar T>
INSULA_INLINE pack<T> broadcast(T v) {
  return v - pack<T>{};
}
template <scalar T>
INSULA_INLINE pack<T> zero() {
  return pack<T>{};
}
/// Unaligned load and store of a whole register.
template <scalar T>
INSULA_INLINE pack<T> load(T const* p) {
  pack<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <scalar T>
INSULA_INLINE void store(T* p, pack<T> v) {
  std::memcpy(p, &v, sizeof v);
}
/// Keeps a loaded register where it is: g++ else repeats the load in each of a few products that use it.
template <scalar T>
INSULA_INLINE void keep(pack<T>& v) {
#if defined(INSULA_AVX512)
  asm("" : "+v"(v));
#elif defined(INSULA_AVX2)
  asm("" : "+x"(v));
#else
  (void)v;
#endif
}
/// The first n elements, 0 <= n <= width; the others read as 0 and their memory is not touched.
template <scalar T>
INSULA_INLINE pack<T> load(T const* p, int n) {
#if defined(INSULA_AVX512)
  if constexpr (sizeof(T) == 4)
    return (pack<T>)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1u), p);
  else
    return (pack<T>)_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1u), p);
#else
  pack<T> v{};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}
template <scalar T>
INSULA_INLINE void store(T* p, pack<T> v, int n) {
#if defined(INSULA_AVX512)
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1u), (__m512)v);
  else
    _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1u), (__m512d)v);
#else
  for (int i = 0; i < n; ++i) p[i] = v[i];
#endif
}
/// a * b + c in one rounding where the machine has it.
template <class P>
INSULA_INLINE P fma(P a, P b, P c) {
#if defined(INSULA_AVX512)
  if constexpr (sizeof(a[0]) == 4)
    return (P)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  else
    return (P)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(INSULA_AVX2)
  if constexpr (sizeof(a[0]) == 4)
    return (P)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  else
    return (P)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
  return a * b + c;
#endif
}
/// c - a * b
template <class P>
INSULA_INLINE P fnma(P a, P b, P c) {
  return fma(-a, b, c);
}
/// a > b ? a : b and a < b ? a : b, so b if either is NaN. (Written that way compilers make two instructions of it.)
template <class P>
INSULA_INLINE P max(P a, P b) {
#if defined(INSULA_AVX2)
  if constexpr (sizeof(a[0]) == 4)
    return (P)_mm256_max_ps((__m256)a, (__m256)b);
  else
    return (P)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
  return a > b ? a : b;
#endif
}
template <class P>
INSULA_INLINE P min(P a, P b) {
#if defined(INSULA_AVX2)
  if constexpr (sizeof(a[0]) == 4)
    return (P)_mm256_min_ps((__m256)a, (__m256)b);
  else
    return (P)_mm256_min_pd((__m256d)a, (__m256d)b);
#else
  return a < b ? a : b;
#endif
}
template <scalar T>
INSULA_INLINE pack<T> sqrt(pack<T> a) {
#if defined( \
    INSULA_AVX512)  // the zero-masking form: g++ 12 warns about the operand the plain form leaves undefined
  if constexpr (sizeof(T) == 4)
    return (pack<T>)_mm512_maskz_sqrt_ps(__mmask16(-1), (__m512)a);
  else
    return (pack<T>)_mm512_maskz_sqrt_pd(__mmask8(-1), (__m512d)a);
#elif defined(INSULA_AVX2)
  if constexpr (sizeof(T) == 4)
    return (pack<T>)_mm256_sqrt_ps((__m256)a);
  else
    return (pack<T>)_mm256_sqrt_pd((__m256d)a);
#else
  for (int i = 0; i < width<T>; ++i) a[i] = std::sqrt(a[i]);
  return a;
#endif
}
namespace detail {
/// Element i becomes element (i + Half) mod width.
template <int Half, scalar T, int... Lane>
INSULA_INLINE pack<T> rotate(pack<T> a, std::integer_sequence<int, Lane...>) {
  return __builtin_shufflevector(a, a, ((Lane + Half) % width<T>)...);
}
template <int Half, scalar T, class F>
INSULA_INLINE pack<T> fold(pack<T> a, F f) {
  if constexpr (Half > 0)
    return fold<Half / 2, T>(f(a, rotate<Half, T>(a, std::make_integer_sequence<int, width<T>>{})), f);
  else
    return a;
}
}  // namespace detail

/// Sum and largest of the elements, in a fixed order: halves are folded onto each other.
template <scalar T>
INSULA_INLINE T sum(pack<T> a) {
  return detail::fold<width<T> / 2, T>(a, [](pack<T> x, pack<T> y) { return x + y; })[0];
}
template <scalar T>
INSULA_INLINE T largest(pack<T> a) {
  return detail::fold<width<T> / 2, T>(a, [](pack<T> x, pack<T> y) { return max(x, y); })[0];
}

}  // namespace insula::simd
