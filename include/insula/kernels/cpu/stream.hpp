// SPDX-License-Identifier: Apache-2.0
// Stores past the cache, for results that no cache would keep: lines of the destination are not read before they are written.
#pragma once

#include <cstdint>
#include <type_traits>

#include "insula/kernels/cpu/row.hpp"

namespace insula::simd {

/// Bytes of a result from which on it is written past the cache where that costs nothing.
inline constexpr index_t stream_bytes = 8 << 20;

/// The same for what the next op reads: so much that little of it would still be in a last cache when that begins.
inline constexpr index_t far_bytes = 32 << 20;

/// Whether registers may be stored past the cache one by one, in any order, from y on: each must be a line of its own.
template <scalar T>
bool can_stream(T const* y) {
#if defined(INSULA_AVX512)
  return reinterpret_cast<std::uintptr_t>(y) % register_bytes == 0;
#else
  return (void)y, false;
#endif
}
/// Whether they may be one behind the other: halves of a line meet on their way.
template <scalar T>
bool can_stream_in_order(T const* y) {
#if defined(INSULA_AVX512) || defined(INSULA_AVX2)
  return reinterpret_cast<std::uintptr_t>(y) % cache_line == 0;
#else
  return (void)y, false;
#endif
}
/// One register, where that may be. Other threads see it after end_stream.
template <scalar T>
INSULA_INLINE void stream(T* y, pack<T> v) {
#if defined(INSULA_AVX512)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(y), (__m512i)v);
#elif defined(INSULA_AVX2)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(y), (__m256i)v);
#else
  store(y, v);
#endif
}
inline void end_stream() {
#if defined(INSULA_AVX512) || defined(INSULA_AVX2)
  _mm_sfence();
#endif
}

/// y = v, past the cache if Past: whole registers then, one behind the other, where can_stream_in_order.
template <bool Past, scalar T>
INSULA_INLINE void put(T* y, pack<T> v, whole lanes) {
  if constexpr (Past)
    stream(y, v);
  else
    store(y, v, lanes);
}
template <bool Past, scalar T>
INSULA_INLINE void put(T* y, pack<T> v, int lanes) {
  store(y, v, lanes);
}

/// Calls f(past), a constant: whether a result y of n elements in rows of `row` is so large that it is written past the cache.
/// Not what is read before, `reads`: it is in the cache then.
template <scalar T, class F>
void with_far(T const* y, index_t n, index_t row, bool reads, F&& f) {
  bool const past =
      !reads && n * index_t(sizeof(T)) >= far_bytes && row % width<T> == 0 && can_stream_in_order(y);
  past ? f(std::true_type{}) : f(std::false_type{});
}

/// y = x, past the cache where the machine can.
template <scalar T>
void stream(index_t n, T const* x, T* y) {
#if defined(INSULA_AVX512) || defined(INSULA_AVX2)
  auto const behind = index_t(reinterpret_cast<std::uintptr_t>(y) % register_bytes / sizeof(T));
  index_t i = behind == 0 ? 0 : width<T> - behind < n ? width<T> - behind : n;
  for (index_t j = 0; j < i; ++j) y[j] = x[j];
  for (; i + width<T> <= n; i += width<T>) {
#if defined(INSULA_AVX512)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(y + i), (__m512i)load(x + i));
#else
    _mm256_stream_si256(reinterpret_cast<__m256i*>(y + i), (__m256i)load(x + i));
#endif
  }
  for (; i < n; ++i) y[i] = x[i];
  _mm_sfence();  // other threads will read y
#else
  copy(n, x, y);
#endif
}

}  // namespace insula::simd
