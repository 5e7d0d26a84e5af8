// SPDX-License-Identifier: Apache-2.0
// Loops over contiguous elements in whole registers with one partial register at the end, and work split in chunks.
#pragma once

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

/// width<double> elements, or the first `lanes` of them and 0, as doubles: sums of floats are kept in double.
template <scalar T>
INSULA_INLINE pack<double> load_double(T const* p, whole) {
  if constexpr (sizeof(T) == sizeof(double)) {
    return load(p);
  } else {
    typedef float half __attribute__((vector_size(register_bytes / 2)));
    half v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, pack<double>);
  }
}
template <scalar T>
INSULA_INLINE pack<double> load_double(T const* p, int lanes) {
  pack<double> v{};
  for (int i = 0; i < lanes; ++i) v[i] = double(p[i]);
  return v;
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
