// SPDX-License-Identifier: Apache-2.0
// The register tiles of window attention: scores to exponentials, weighted sums of values, and their gradients.
#pragma once

#include <algorithm>
#include <utility>

#include "insula/kernels/cpu/window_table.hpp"

namespace insula::windowed {

// Matrices of one row per query and one column per key are held in tiles (keys / tile_keys, tile_queries, tile_keys):
// every address inside a tile is then a constant offset from one pointer. Each function below is kept out of line, so
// that its accumulators get all registers.

/// A tile of queries of one head: where their biases and masks are. Rows beyond the last repeat row 0.
template <scalar T>
struct query_tile {
  T const *bias[tile_queries], *last[tile_queries], *mask[tile_queries];
  index_t whole, ahead;

  query_tile(sizes<T> const& s, window_rows const& window, head_biases<T> const& biases, T const* masks,
             index_t first)
      : whole(biases.last ? biases.whole : s.keys), ahead(biases.ahead) {
    for (index_t r = 0; r < tile_queries; ++r) {
      index_t const token = window.token[first + r < window.rows ? first + r : 0];
      bias[r] = biases.of(token), last[r] = biases.last_of(token);
      mask[r] = masks + window.region[token] * s.keys;
    }
  }
  /// Where the biases of the tile of keys from j on are.
  T const* const* biases(index_t j) const { return j < whole ? bias : last; }
};

template <scalar T>
using accumulators = simd::pack<T>[tile_queries][tile_registers];

/// sum += a b for one tile: a (width, tile_queries), b (width, tile_keys).
template <scalar T>
INSULA_INLINE void multiply_tile(index_t width, T const* a, T const* b, accumulators<T>& sum) {
  constexpr int w = simd::width<T>;
  for (index_t e = 0; e < width; ++e, a += tile_queries, b += tile_keys<T>) {
    simd::pack<T> row[tile_registers];
#pragma GCC unroll 4
    for (int v = 0; v < tile_registers; ++v) row[v] = simd::load(b + v * w);
#pragma GCC unroll 16
    for (int r = 0; r < tile_queries; ++r) {
      auto const x = simd::broadcast(a[r]);
#pragma GCC unroll 4
      for (int v = 0; v < tile_registers; ++v) sum[r][v] = simd::fma(x, row[v], sum[r][v]);
    }
  }
}

enum class score { raw, exponential, unshifted };

/// One tile of scores a = bias (+ mask) + q k^T at the keys from j on: out = a, or out = 2^(a - shift), 2^a, and
/// total (tile_queries, width of a register) += out. `ahead`: elements from a bias to that of the tile of queries that
/// follows, which may still be in the L3 cache, or 0.
template <scalar T, score What, bool Masked>
__attribute__((noinline)) void score_tile(T const* const* bias, T const* const* mask, index_t j,
                                          index_t width, T const* q_tile, T const* k_tile, index_t ahead,
                                          T const* shift, T* out, T* total) {
  constexpr int w = simd::width<T>;
  accumulators<T> sum;
#pragma GCC unroll 16
  for (int r = 0; r < tile_queries; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < tile_registers; ++v) {
      sum[r][v] = simd::load(bias[r] + j + v * w);
      if constexpr (Masked) sum[r][v] += simd::load(mask[r] + j + v * w);
    }
  if (ahead > 0) {
#pragma GCC unroll 16
    for (int r = 0; r < tile_queries; ++r)
#pragma GCC unroll 2
      for (index_t e = 0; e < tile_keys<T>; e += index_t(cache_line / sizeof(T)))
        __builtin_prefetch(bias[r] + j + ahead + e);
  }
  multiply_tile<T>(width, q_tile, k_tile, sum);
  if constexpr (What != score::raw) {
#pragma GCC unroll 16
    for (int r = 0; r < tile_queries; ++r) {
      if constexpr (What == score::exponential) {
        auto const m = simd::broadcast(shift[r]);
#pragma GCC unroll 4
        for (int v = 0; v < tile_registers; ++v) sum[r][v] -= m;
      }
      simd::exp2_all<T>(sum[r]);
      auto t = simd::load(total + r * w);
#pragma GCC unroll 4
      for (int v = 0; v < tile_registers; ++v) t += sum[r][v];
      simd::store(total + r * w, t);
#pragma GCC unroll 4
      for (int v = 0; v < tile_registers; ++v) simd::store(out + r * tile_keys<T> + v * w, sum[r][v]);
    }
  } else {
#pragma GCC unroll 16
    for (int r = 0; r < tile_queries; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < tile_registers; ++v) simd::store(out + r * tile_keys<T> + v * w, sum[r][v]);
  }
}

/// Keys [begin, end) of a tile of queries: out (tiles) = 2^(a - shift), total (tile_queries, width of a register) += out.
/// Without a shift it may be null.
template <score What, scalar T>
void exponentials(sizes<T> const& s, window_rows const& window, query_tile<T> const& tile,
                  head_values<T> const& values, index_t first, index_t begin, index_t end, T const* shift,
                  T* out, T* total) {
  T const* q = values.q_tiles + first * s.width;
  auto const f = window.mixed ? score_tile<T, What, true> : score_tile<T, What, false>;
  for (index_t j = begin; j < end; j += tile_keys<T>)
    f(tile.biases(j), tile.mask, j, s.width, q, values.k_columns + j * s.width, tile.ahead, shift,
      out + (j - begin) * tile_queries, total);
}
/// All keys, and sums = the row sums of out.
template <scalar T>
void exponentials(sizes<T> const& s, window_rows const& window, query_tile<T> const& tile,
                  head_values<T> const& values, index_t first, T const* shift, T* out, T* sums) {
  alignas(cache_line) T total[tile_queries * simd::width<T>] = {};
  exponentials<score::exponential>(s, window, tile, values, first, 0, s.keys, shift, out, total);
  for (int r = 0; r < tile_queries; ++r) sums[r] = simd::sum<T>(simd::load(total + r * simd::width<T>));
}

/// largest[r] = the largest score of each query of a tile; out is used for the scores.
template <scalar T>
void largest_scores(sizes<T> const& s, window_rows const& window, query_tile<T> const& tile,
                    head_values<T> const& values, index_t first, T* out, T* largest) {
  T const* q = values.q_tiles + first * s.width;
  auto const f = window.mixed ? score_tile<T, score::raw, true> : score_tile<T, score::raw, false>;
  for (int r = 0; r < tile_queries; ++r) largest[r] = no_key<T>;
  for (index_t j = 0; j < s.keys; j += tile_keys<T>) {
    f(tile.biases(j), tile.mask, j, s.width, q, values.k_columns + j * s.width, 0, nullptr, out, nullptr);
    for (int r = 0; r < tile_queries; ++r)
      for (index_t e = 0; e < tile_keys<T>; ++e)
        largest[r] = largest[r] > out[r * tile_keys<T> + e] ? largest[r] : out[r * tile_keys<T> + e];
  }
}

/// out (tile_queries, row) (+)= p v for V registers of columns: p (tiles), v (tokens, row).
template <scalar T, int V>
__attribute__((noinline)) void weighted_sum(index_t tokens, T const* p, T const* v, index_t row, bool adds,
                                            T* out) {
  constexpr int w = simd::width<T>;
  simd::pack<T> sum[tile_queries][V] = {};
  if (adds) {
#pragma GCC unroll 16
    for (int r = 0; r < tile_queries; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < V; ++c) sum[r][c] = simd::load(out + r * row + c * w);
  }
  for (index_t j = 0; j < tokens; j += tile_keys<T>, p += tile_queries * tile_keys<T>) {
    index_t const count = tokens - j < tile_keys<T> ? tokens - j : tile_keys<T>;
    for (index_t e = 0; e < count; ++e, v += row) {
      simd::pack<T> value[V];
#pragma GCC unroll 4
      for (int c = 0; c < V; ++c) value[c] = simd::load(v + c * w);
#pragma GCC unroll 16
      for (int r = 0; r < tile_queries; ++r) {
        auto const x = simd::broadcast(p[r * tile_keys<T> + e]);
#pragma GCC unroll 4
        for (int c = 0; c < V; ++c) sum[r][c] = simd::fma(x, value[c], sum[r][c]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < tile_queries; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < V; ++c) simd::store(out + r * row + c * w, sum[r][c]);
}
/// out (tile_queries, row) (+)= p v of `tokens` keys
template <scalar T>
void weighted_sum(sizes<T> const& s, index_t tokens, T const* p, T const* v, bool adds, T* out) {
  constexpr index_t w = simd::width<T>;
  index_t c = 0;
  for (; c + 2 * w <= s.row; c += 2 * w) weighted_sum<T, 2>(tokens, p, v + c, s.row, adds, out + c);
  if (c < s.row) weighted_sum<T, 1>(tokens, p, v + c, s.row, adds, out + c);
}
template <scalar T>
void weighted_sum(sizes<T> const& s, T const* p, T const* v, T* out) {
  weighted_sum(s, s.tokens, p, v, false, out);
}

/// out (Keys, row) += a^T b of a few keys of a tile and V registers of columns: a (rows / tile_queries, tiles), b (rows, row).
template <scalar T, int V, int Keys>
INSULA_INLINE void add_keys(index_t rows, index_t keys, T const* a, T const* b, index_t row, T* out) {
  constexpr int w = simd::width<T>;
  simd::pack<T> sum[Keys][V];
#pragma GCC unroll 16
  for (int i = 0; i < Keys; ++i)
#pragma GCC unroll 4
    for (int c = 0; c < V; ++c) sum[i][c] = simd::load(out + i * row + c * w);
  for (index_t first = 0; first < rows; first += tile_queries, a += tile_queries * keys) {
    T const* from = a;
    for (int r = 0; r < tile_queries; ++r, from += tile_keys<T>, b += row) {
      simd::pack<T> value[V];
#pragma GCC unroll 4
      for (int c = 0; c < V; ++c) value[c] = simd::load(b + c * w);
#pragma GCC unroll 16
      for (int i = 0; i < Keys; ++i) {
        auto const x = simd::broadcast(from[i]);
#pragma GCC unroll 4
        for (int c = 0; c < V; ++c) sum[i][c] = simd::fma(x, value[c], sum[i][c]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Keys; ++i)
#pragma GCC unroll 4
    for (int c = 0; c < V; ++c) simd::store(out + i * row + c * w, sum[i][c]);
}
/// The same of all keys, in as many at once as leave no register unused: a tile in parts that differ by one at most.
template <scalar T, int V>
__attribute__((noinline)) void add_transposed(index_t rows, index_t keys, T const* a, T const* b, index_t row,
                                              T* out) {
  constexpr int all = int(tile_keys<T>), most = (simd::register_count - V - 2) / V;
  constexpr int parts = (all + most - 1) / most, count = all / parts, larger = all % parts;
  for (index_t j = 0; j < keys; j += all, a += all * tile_queries) {
    [&]<int... Part>(std::integer_sequence<int, Part...>) {
      (add_keys<T, V, count + (Part < larger)>(rows, keys, a + Part * count + std::min(Part, larger), b, row,
                                               out + (j + Part * count + std::min(Part, larger)) * row),
       ...);
    }
    (std::make_integer_sequence<int, parts>{});
  }
}
/// out (keys, row) += a^T b
template <scalar T>
void add_transposed(sizes<T> const& s, index_t rows, T const* a, T const* b, T* out) {
  constexpr index_t w = simd::width<T>;
  index_t c = 0;
  for (; c + 2 * w <= s.row; c += 2 * w) add_transposed<T, 2>(rows, s.keys, a, b + c, s.row, out + c);
  if (c < s.row) add_transposed<T, 1>(rows, s.keys, a, b + c, s.row, out + c);
}

/// ga = p (go v^T - dot) for one tile: go_tile (width, tile_queries), v_tile (width, tile_keys).
template <scalar T>
__attribute__((noinline)) void gradient_tile(index_t width, T const* go_tile, T const* v_tile, T const* dots,
                                             T const* p, T* ga) {
  constexpr int w = simd::width<T>;
  accumulators<T> sum;
#pragma GCC unroll 16
  for (int r = 0; r < tile_queries; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < tile_registers; ++v) sum[r][v] = simd::broadcast(-dots[r]);
  multiply_tile<T>(width, go_tile, v_tile, sum);
#pragma GCC unroll 16
  for (int r = 0; r < tile_queries; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < tile_registers; ++v) {
      index_t const at = r * tile_keys<T> + v * w;
      simd::store(ga + at, simd::load(p + at) * sum[r][v]);
    }
}

}  // namespace insula::windowed
