// SPDX-License-Identifier: Apache-2.0
// Loops over contiguous elements in whole registers with one partial register at the end, and work split in chunks.
#pragma once

#include <type_traits>

#include "insula/device/cpu.hpp"
#include "insula/kernels/cpu/simd.hpp"

namespace insula::simd {

/// All lanes of a register, where a number of lanes could stand: load(p, whole{}) is load(p).
struct whole {};
template <scalar T>
INSULA_INLINE pack<T> load(T const* p, whole) {
  return load(p);
}
template <scalar T>
INSULA_INLINE void store(T* p, pack<T> v, whole) {
  store(p, v);
}

/// Calls f(i, lanes) for i = 0, w, 2w, ... below n; lanes is `whole`, at the end an int in 1 .. w - 1.
template <scalar T, class F>
INSULA_INLINE void each_register(index_t n, F f) {
  constexpr index_t w = width<T>;
  index_t i = 0;
  for (; i + w <= n; i += w) f(i, whole{});
  if (i < n) f(i, int(n - i));
}

/// Asks for what lies two kilobytes behind each place (nothing is read, it may be past the end), which a loop over rows from memory will
/// reach. With AVX-512, whose registers are whole lines, that takes up to three tenths off such loops; elsewhere nothing is asked for
/// (docs/decisions/0059).
template <class... P>
INSULA_INLINE void ask_ahead(P const*... at) {
  constexpr index_t distance = 2048;  // bytes
  if constexpr (register_count == 32) (__builtin_prefetch(at + distance / index_t(sizeof(P))), ...);
}

/// Calls f(c, registers, lanes) for all channels: `Most` whole registers at a time, 4 or fewer, then what whole ones are left, then
/// a part of one.
template <scalar T, int Most = 4, class F>
INSULA_INLINE void each_columns(index_t channels, F f) {
  constexpr index_t w = width<T>;
  index_t c = 0;
  for (; c + Most * w <= channels; c += Most * w) f(c, std::integral_constant<int, Most>{}, whole{});
  index_t const left = (channels - c) / w;
  if constexpr (Most > 3)
    if (left == 3) f(c, std::integral_constant<int, 3>{}, whole{});
  if constexpr (Most > 2)
    if (left == 2) f(c, std::integral_constant<int, 2>{}, whole{});
  if constexpr (Most > 1)
    if (left == 1) f(c, std::integral_constant<int, 1>{}, whole{});
  if (index_t const part = channels % w) f(channels - part, std::integral_constant<int, 1>{}, int(part));
}

/// Registers of one line of the cache, which is written as one if they follow each other.
template <scalar T>
inline constexpr int line_registers = int(cache_line) / int(sizeof(pack<T>));

/// y = x
template <scalar T>
INSULA_INLINE void copy(index_t n, T const* x, T* y) {
  each_register<T>(n, [=](index_t i, auto lanes) { store(y + i, load(x + i, lanes), lanes); });
}
/// y += x
template <scalar T>
INSULA_INLINE void accumulate(index_t n, T const* x, T* y) {
  each_register<T>(
      n, [=](index_t i, auto lanes) { store(y + i, load(y + i, lanes) + load(x + i, lanes), lanes); });
}
/// y (+)= x
template <scalar T>
INSULA_INLINE void assign(bool adds, index_t n, T const* x, T* y) {
  adds ? accumulate(n, x, y) : copy(n, x, y);
}
/// y = 0
template <scalar T>
INSULA_INLINE void clear(index_t n, T* y) {
  each_register<T>(n, [=](index_t i, auto lanes) { store(y + i, zero<T>(), lanes); });
}

/// width<double> elements, or the first `lanes` of them and 0, as doubles: sums of floats are kept in double. In
/// instructions of their own: g++ 12 converts such vectors in halves.
template <scalar T>
INSULA_INLINE pack<double> load_double(T const* p, whole) {
  if constexpr (sizeof(T) == sizeof(double)) {
    return load(p);
  } else {
#if defined(INSULA_AVX512)
    return (pack<double>)_mm512_maskz_cvtps_pd(__mmask8(-1), _mm256_loadu_ps(p));
#elif defined(INSULA_AVX2)
    return (pack<double>)_mm256_cvtps_pd(_mm_loadu_ps(p));
#else
    typedef float half __attribute__((vector_size(register_bytes / 2)));
    half v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, pack<double>);
#endif
  }
}
template <scalar T>
INSULA_INLINE pack<double> load_double(T const* p, int lanes) {
  pack<double> v{};
  for (int i = 0; i < lanes; ++i) v[i] = double(p[i]);
  return v;
}

/// Bytes of the first lanes of a register of small integers. For floats in instructions of their own: compilers convert such
/// vectors lane by lane. (Zero-masking forms: g++ 12 warns about the operand that plain ones leave undefined.)
template <scalar T>
INSULA_INLINE void store_bytes(std::uint8_t* p, mask<T> v, whole) {
#if defined(INSULA_AVX512)
  if constexpr (sizeof(T) == 4) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(__mmask16(-1), (__m512i)v));
    return;
  }
#elif defined(INSULA_AVX2)
  if constexpr (sizeof(T) == 4) {
    __m128i const pairs =
        _mm_packus_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(pairs, pairs));
    return;
  }
#endif
  typedef std::uint8_t bytes __attribute__((vector_size(register_bytes / sizeof(T))));
  bytes const b = __builtin_convertvector(v, bytes);
  std::memcpy(p, &b, sizeof b);
}
template <scalar T>
INSULA_INLINE void store_bytes(std::uint8_t* p, mask<T> v, int lanes) {
  for (int i = 0; i < lanes; ++i) p[i] = std::uint8_t(v[i]);
}
template <scalar T>
INSULA_INLINE mask<T> load_bytes(std::uint8_t const* p, whole) {
#if defined(INSULA_AVX512)
  if constexpr (sizeof(T) == 4)
    return (mask<T>)_mm512_maskz_cvtepu8_epi32(__mmask16(-1),
                                               _mm_loadu_si128(reinterpret_cast<__m128i const*>(p)));
#elif defined(INSULA_AVX2)
  if constexpr (sizeof(T) == 4)
    return (mask<T>)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<__m128i const*>(p)));
#endif
  typedef std::uint8_t bytes __attribute__((vector_size(register_bytes / sizeof(T))));
  bytes b;
  std::memcpy(&b, p, sizeof b);
  return __builtin_convertvector(b, mask<T>);
}
template <scalar T>
INSULA_INLINE mask<T> load_bytes(std::uint8_t const* p, int lanes) {
  mask<T> b{};
  for (int i = 0; i < lanes; ++i) b[i] = p[i];
  return b;
}

}  // namespace insula::simd

namespace insula {

/// Elements one task of a memory-bound kernel handles. A constant: chunks never depend on the number of threads.
inline constexpr index_t chunk_elements = index_t{1} << 14;

/// Rows of `width` elements that make one chunk, at least one.
constexpr index_t chunk_rows(index_t width) {
  return width <= 0 || width >= chunk_elements ? 1 : chunk_elements / width;
}
constexpr index_t chunk_count(index_t n, index_t each) { return (n + each - 1) / each; }

/// Calls f(begin, end, chunk, worker) in parallel for the chunks [0, each), [each, 2 each), ... of [0, n).
template <class F>
void run_chunks(context<cpu>& cx, index_t n, index_t each, F const& f) {
  cx.pool.run(chunk_count(n, each), [&](index_t t, int worker) {
    f(t * each, (t + 1) * each < n ? (t + 1) * each : n, t, worker);
  });
}

}  // namespace insula
