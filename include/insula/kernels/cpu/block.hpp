// SPDX-License-Identifier: Apache-2.0
// The register-tiled product of small matrices that fit the cache: the building block of the CPU kernels.
#pragma once

#include <utility>

#include "insula/kernels/cpu/register_tile_avx2.hpp"
#include "insula/kernels/cpu/register_tile_avx512.hpp"

namespace insula::simd {

namespace detail {

/// C[0..R)[0..V*width) (+)= A B, accumulated in registers over k. `last` elements are valid in the last register.
template <scalar T, int R, int V, bool Adds, bool Full>
INSULA_INLINE void tile(index_t depth, T const* a, index_t a_row, index_t a_col, T const* b, index_t b_row,
                        T* c, index_t c_row, int last) {
  constexpr int w = width<T>;
  pack<T> sum[R][V];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      if constexpr (Adds)
        sum[r][v] = Full || v + 1 < V ? load(c + r * c_row + v * w) : load(c + r * c_row + v * w, last);
      else
        sum[r][v] = zero<T>();
    }
  for (index_t k = 0; k < depth; ++k) {
    pack<T> row[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      row[v] = Full || v + 1 < V ? load(b + k * b_row + v * w) : load(b + k * b_row + v * w, last);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      pack<T> const x = broadcast(a[r * a_row + k * a_col]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = fma(x, row[v], sum[r][v]);
    }
  }
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      if (Full || v + 1 < V)
        store(c + r * c_row + v * w, sum[r][v]);
      else
        store(c + r * c_row + v * w, sum[r][v], last);
    }
}

template <scalar T, int R, int V, bool Adds>
void rows(index_t m, index_t depth, T const* a, index_t a_row, index_t a_col, T const* b, index_t b_row, T* c,
          index_t c_row, int last) {
  bool const full = last == width<T>;
  for (; m >= R; m -= R, a += R * a_row, c += R * c_row)
    full ? tile<T, R, V, Adds, true>(depth, a, a_row, a_col, b, b_row, c, c_row, last)
         : tile<T, R, V, Adds, false>(depth, a, a_row, a_col, b, b_row, c, c_row, last);
  if constexpr (R > 1)
    if (m > 0) rows<T, R / 2, V, Adds>(m, depth, a, a_row, a_col, b, b_row, c, c_row, last);
}

/// The same where rows of B follow each other without gaps.
template <scalar T, int R, int V, bool Adds>
void packed_rows(index_t m, index_t depth, T const* a, index_t a_row, index_t a_col, T const* b, T* c,
                 index_t c_row, int last) {
#ifdef INSULA_WHOLE_TILES_IN_ASSEMBLER
  if constexpr (has_whole_tile<T, R, V> && register_count == 16)
    if (last == width<T> && (a_col == 1 || a_row == 1)) {
      alignas(register_bytes) static constexpr float none[V * width<T>]{};
      for (; m >= R; m -= R, a += R * a_row, c += R * c_row) {
        tile_results const to{Adds ? c : none, Adds ? c_row : 0, c, c_row};
        a_col == 1 ? whole_tile<R, V, false>(depth, a, a_row, b, to, {})
                   : whole_tile<R, V, true>(depth, a, a_col, b, to, {});
      }
    }
#endif
  rows<T, R, V, Adds>(m, depth, a, a_row, a_col, b, V * width<T>, c, c_row, last);
}

/// Rows of A from which a copy of what they all meet in B costs little, and the bytes of that copy: half an L1 cache.
inline constexpr index_t many_rows = 24, copy_bytes = 16384;

/// The same of many rows: they meet the V registers of B in a copy without gaps, since rows of B that are some powers of
/// two apart would push each other out of the L1 cache.
template <scalar T, int R, int V, bool Adds>
__attribute__((noinline)) void copied_rows(index_t m, index_t depth, T const* a, index_t a_row, index_t a_col,
                                           T const* b, index_t b_row, T* c, index_t c_row, int last) {
  constexpr index_t w = width<T>, most = copy_bytes / index_t(sizeof(T)) / (V * w);
  alignas(V * register_bytes) T copy[most * V * w];
  for (index_t k = 0; k < depth; k += most) {
    index_t const n = depth - k < most ? depth - k : most;
    for (index_t i = 0; i < n; ++i)
      for (int v = 0; v < V; ++v)
        store(copy + (i * V + v) * w, v + 1 < V || last == w ? load(b + (k + i) * b_row + v * w)
                                                             : load(b + (k + i) * b_row + v * w, last));
    if (Adds || k > 0)
      packed_rows<T, R, V, true>(m, n, a + k * a_col, a_row, a_col, copy, c, c_row, last);
    else
      packed_rows<T, R, V, false>(m, n, a, a_row, a_col, copy, c, c_row, last);
  }
}

}  // namespace detail

/// Rows of a register tile that is V registers wide, so that accumulators and one row of B fit the register file.
template <int V>
inline constexpr int tile_rows = register_count == 32 ? (V >= 3   ? 8
                                                         : V == 2 ? 12
                                                                  : 24)
                                                      : (V >= 2 ? 6 : 8);

/// C (m x n) = A (m x depth) B (depth x n), or += if Adds. Element (i, k) of A is a[i a_row + k a_col], so a transposed
/// A costs nothing; rows of B and C are contiguous. One thread, no packing: B should fit the L2 cache.
template <scalar T, bool Adds>
void multiply(index_t m, index_t n, index_t depth, T const* a, index_t a_row, index_t a_col, T const* b,
              index_t b_row, T* c, index_t c_row) {
  constexpr int w = width<T>, most = register_count == 32 ? 3 : 2;
  for (index_t j = 0; j < n;) {
    index_t const left = (n - j + w - 1) / w;  // registers
    int const v = int(left >= most && left != most + 1 ? most : left > 1 ? 2 : 1);
    int const last = int(n - j - (v - 1) * w < w ? n - j - (v - 1) * w : w);
    if (v == 3) {
      if constexpr (most == 3)
        detail::rows<T, tile_rows<3>, 3, Adds>(m, depth, a, a_row, a_col, b + j, b_row, c + j, c_row, last);
    } else if (v == 2) {
      if (register_count == 16 && m >= detail::many_rows)
        detail::copied_rows<T, tile_rows<2>, 2, Adds>(m, depth, a, a_row, a_col, b + j, b_row, c + j, c_row,
                                                      last);
      else
        detail::rows<T, tile_rows<2>, 2, Adds>(m, depth, a, a_row, a_col, b + j, b_row, c + j, c_row, last);
    } else {
      detail::rows<T, tile_rows<1>, 1, Adds>(m, depth, a, a_row, a_col, b + j, b_row, c + j, c_row, last);
    }
    j += v * w;
  }
}

namespace detail {

/// First and second half of the elements of a and b, taken in turns.
template <scalar T, int First, int... I>
INSULA_INLINE pack<T> interleave(pack<T> a, pack<T> b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (First + I / 2 + I % 2 * width<T>)...);
}

/// A square of width x width elements in registers: each of log2(width) perfect shuffles moves one bit of the row
/// number to the column number.
template <scalar T>
INSULA_INLINE void transpose_square(pack<T> (&rows)[width<T>]) {
  constexpr int w = width<T>;
  using lanes = std::make_integer_sequence<int, w>;
#pragma GCC unroll 4
  for (int step = 1; step < w; step *= 2) {
    pack<T> next[w];
#pragma GCC unroll 8
    for (int i = 0; i < w / 2; ++i) {
      next[2 * i] = interleave<T, 0>(rows[i], rows[i + w / 2], lanes{});
      next[2 * i + 1] = interleave<T, w / 2>(rows[i], rows[i + w / 2], lanes{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < w; ++i) rows[i] = next[i];
  }
}

}  // namespace detail

/// B (columns x rows) = transpose of A (rows x columns).
template <scalar T>
void transpose(index_t rows, index_t columns, T const* a, index_t a_row, T* b, index_t b_row) {
  constexpr int w = width<T>;
  for (index_t i = 0; i < rows; i += w)
    for (index_t j = 0; j < columns; j += w) {
      int const m = rows - i < w ? int(rows - i) : w, n = columns - j < w ? int(columns - j) : w;
      T const* from = a + i * a_row + j;
      T* to = b + j * b_row + i;
      pack<T> square[w];
      if (m == w && n == w) {
#pragma GCC unroll 16
        for (int r = 0; r < w; ++r) square[r] = load(from + r * a_row);
        detail::transpose_square<T>(square);
#pragma GCC unroll 16
        for (int r = 0; r < w; ++r) store(to + r * b_row, square[r]);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < w; ++r) square[r] = r < m ? load(from + r * a_row, n) : zero<T>();
        detail::transpose_square<T>(square);
#pragma GCC unroll 16
        for (int r = 0; r < w; ++r)
          if (r < n) store(to + r * b_row, square[r], m);
      }
    }
}

}  // namespace insula::simd
