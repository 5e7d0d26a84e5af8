// SPDX-License-Identifier: Apache-2.0
// Stores past the cache, for results that no cache would keep: lines of the destination are not read before they are written.
#pragma once

#include <cstdint>

#include "insula/kernels/cpu/row.hpp"

namespace insula::simd {

/// Bytes of a result from which on it is written past the cache.
inline constexpr index_t stream_bytes = 8 << 20;

/// Whether whole registers may be stored past the cache one behind the other from y on.
template <scalar T>
bool can_stream(T const* y) {
#if defined(INSULA_AVX512)
  return reinterpret_cast<std::uintptr_t>(y) % register_bytes == 0;
#else
  return (void)y, false;
#endif
}
/// One register, where can_stream. Other threads see it after end_stream.
template <scalar T>
INSULA_INLINE void stream(T* y, pack<T> v) {
#if defined(INSULA_AVX512)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(y), (__m512i)v);
#else
  store(y, v);
#endif
}
inline void end_stream() {
#if defined(INSULA_AVX512)
  _mm_sfence();
#endif
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
