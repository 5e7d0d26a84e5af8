// SPDX-License-Identifier: Apache-2.0
// The register tile of the convolutions: a small matrix product whose depth is a list of stretches of memory.
#pragma once

#include "insula/kernels/cpu/simd.hpp"

namespace insula::detail::conv {

/// Offsets of one stretch of the depth in A and in B.
struct stretch {
  index_t a, b;
};

/// C (rows x columns) = rest + sum over stretches s and k < depth of
///   A[s.a + row a_row + k a_col] B[s.b + k b_row + column].
/// rest: C itself if `adds`, else the vector `bias` or zero. Rows of B are whole registers (padded where need be);
/// `last` is how many columns of the last register exist in C.
template <scalar T>
struct product {
  stretch const* at;
  index_t count, depth;
  T const* a;
  index_t a_row, a_col;
  T const* b;
  index_t b_row;
  T const* bias;
  bool adds;
  index_t c_row;
  int last;
};

template <scalar T, int R, int V>
void tile(product<T> const& p, T const* a_at, T* c) {
  constexpr int w = simd::width<T>;
  simd::pack<T> sum[R][V];
  index_t const a_row = p.a_row, a_col = p.a_col, b_row = p.b_row, depth = p.depth, c_row = p.c_row;
  int const last = p.last;
  bool const full = last == w;

#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = simd::zero<T>();

  // accumulate
  for (index_t s = 0; s < p.count; ++s) {
    T const* a = a_at + p.at[s].a;
    T const* b = p.b + p.at[s].b;
    for (index_t k = 0; k < depth; ++k, a += a_col, b += b_row) {
      simd::pack<T> row[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) row[v] = simd::load(b + v * w);
#pragma GCC unroll 32
      for (int r = 0; r < R; ++r) {
        simd::pack<T> const x = simd::broadcast(a[r * a_row]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[r][v] = simd::fma(x, row[v], sum[r][v]);
      }
    }
  }

  // join: what was there comes last, so that no chain of roundings is longer than this product's depth
  if (p.adds || p.bias) {
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        T const* from = p.adds ? c + r * c_row + v * w : p.bias + v * w;
        sum[r][v] += full || v + 1 < V ? simd::load(from) : simd::load(from, last);
      }
  }

  // store
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if (full || v + 1 < V)
        simd::store(c + r * c_row + v * w, sum[r][v]);
      else
        simd::store(c + r * c_row + v * w, sum[r][v], last);
    }
}

/// Rows a tile of V registers may have, largest first.
template <int V>
struct tile_heights {
  static constexpr int at[8] = {12, 8, 6, 5, 4, 3, 2, 1};
  static constexpr int first = simd::register_count == 32 ? (V == 3 ? 1 : 0) : (V == 2 ? 2 : 1);
};

/// What is left over after whole tiles is shared by two tiles: small ones wait for their own sums.
template <scalar T, int V, int I = tile_heights<V>::first>
void tile_column(product<T> const& p, index_t rows, T const* a, T* c) {
  constexpr int r = tile_heights<V>::at[I];
  while (rows >= 2 * r || rows == r) {
    tile<T, r, V>(p, a, c);
    rows -= r, a += r * p.a_row, c += r * p.c_row;
  }
  if constexpr (r > 1)
    if (rows > 0) {
      if (rows > r && rows > 2 * tile_heights<V>::at[I + 1]) {
        tile<T, r, V>(p, a, c);
        rows -= r, a += r * p.a_row, c += r * p.c_row;
      }
      tile_column<T, V, I + 1>(p, rows, a, c);
    }
}

/// The product for any number of rows; `registers` (1, 2 or 3) is its width.
template <scalar T>
void multiply(product<T> const& p, int registers, index_t rows, T* c) {
  if (registers == 3) {
    if constexpr (simd::register_count == 32) tile_column<T, 3>(p, rows, p.a, c);
  } else if (registers == 2) {
    tile_column<T, 2>(p, rows, p.a, c);
  } else {
    tile_column<T, 1>(p, rows, p.a, c);
  }
}

/// A run of output channels as wide as one register tile.
struct panel {
  index_t from;   // first channel
  int registers;  // width in registers
  int last;       // channels in the last register

  index_t columns(int width) const { return (registers - 1) * width + last; }
};

/// Cuts `channels` into panels of three registers (two on machines with 16), avoiding a lone one at the end.
template <scalar T>
struct panels {
  static constexpr int w = simd::width<T>, most = simd::register_count == 32 ? 3 : 2;
  index_t channels, registers, wide, count;

  explicit panels(index_t n) : channels(n), registers((n + w - 1) / w) {
    wide = registers / most;
    index_t const left = registers - wide * most;
    if (most == 3 && left == 1 && wide > 0) --wide;
    count = wide + (registers - wide * most + 1) / 2;
  }
  panel at(index_t i) const {
    index_t const first = i < wide ? i * most : wide * most + (i - wide) * 2;
    index_t const size = i < wide ? most : registers - first < 2 ? registers - first : 2;
    bool const end = first + size == registers;
    return {first * w, int(size), end ? int(channels - (registers - 1) * w) : w};
  }
};

}  // namespace insula::detail::conv
