// SPDX-License-Identifier: Apache-2.0
// The gradient of the relative-position table of window attention: scores' gradients added up along their diagonals.
#pragma once

#include "insula/kernels/cpu/window_tile.hpp"

namespace insula::windowed {

/// to[c] += sum over rows of from[r, c], in registers, in order.
template <scalar T>
void add_columns(index_t rows, index_t columns, T const* from, index_t row, T* to) {
  for_packs<T>(columns, [&](index_t c, auto n) {
    auto s = simd::zero<T>();
    for (index_t r = 0; r < rows; ++r) s += load<T>(from + r * row + c, n);
    store<T>(to + c, load<T>(to + c, n) + s, n);
  });
}

/// The gradient of one head's relative-position table while it is summed: a row per distance of window rows (depth
/// and height), in it the distances along the width, padded to whole registers and reversed, so that the keys of a
/// window row add to neighbours.
template <scalar T>
struct diagonals {
  static constexpr index_t slack =
      2 * simd::width<T>;  // elements before ga that a masked load may name but not read

  /// Keys of one window row within one tile of keys.
  struct piece {
    index_t from, lane, length;  // place in a tiled row, distance from the start of the window row, keys
    index_t to;                  // row of the table, back from that of the query
  };

  extent window;
  index_t keys, row, size, pieces = 0;
  piece* list;

  diagonals(scratch& memory, sizes<T> const& s)
      : diagonals(memory, s, s.tokens, s.keys, [](index_t j) { return j; }) {}
  /// Keys that are a window's real tokens, `keys` to a row.
  diagonals(scratch& memory, sizes<T> const& s, window_rows const& of, index_t row_keys)
      : diagonals(memory, s, of.rows, row_keys, [&](index_t j) { return index_t(of.token[j]); }) {}

  /// Row of the table of a query's distance from the first key, and how far back from it that of another key is.
  index_t place(index_t query) const {
    return back(query) + (window.d - 1) * (2 * window.h - 1) + window.h - 1;
  }
  index_t back(index_t key) const {
    index_t const run = key / window.w;
    return run / window.h * (2 * window.h - 1) + run % window.h;
  }

  /// table += rows [first, first + rows) of ga (tiles). Rows of one window row meet in a register before the table.
  void add(window_rows const& of, index_t first, index_t rows, T const* ga, T* table) const {
    index_t const end = first + rows < of.rows ? first + rows : of.rows;
    for (index_t r = first; r < end;) {
      index_t const run = of.token[r] / window.w;
      T const* from[tile_queries];
      index_t shift[tile_queries];  // lane of the first key of a window row
      int count = 0;
      for (; count < tile_queries && r < end && of.token[r] / window.w == run; ++count, ++r) {
        index_t const at = r - first;
        from[count] = ga + at / tile_queries * tile_queries * keys + at % tile_queries * tile_keys<T>;
        shift[count] = window.w - 1 - of.token[r] % window.w;
      }
      add_pieces(from, shift, count, table + place(run * window.w) * row);
    }
  }

  /// gtable column += sum of `count` tables that lie `stride` apart.
  void finish(T const* tables, index_t stride, index_t count, T* sum, T* gtable, index_t head,
              index_t heads) const {
    for (index_t e = 0; e < size; ++e) sum[e] = 0;
    for (index_t i = 0; i < count; ++i) add_columns(1, size, tables + i * stride, 0, sum);
    index_t const width = 2 * window.w - 1;
    for (index_t d = 0; d < size / row; ++d)
      for (index_t e = 0; e < width; ++e)
        gtable[(d * width + width - 1 - e) * heads + head] += sum[d * row + e];
  }

 private:
  template <class F>
  diagonals(scratch& memory, sizes<T> const& s, index_t tokens, index_t row_keys, F token)
      : window(s.g.window),
        keys(row_keys),
        row(round_up(2 * window.w - 1, simd::width<T>)),
        size((2 * window.d - 1) * (2 * window.h - 1) * row),
        list(memory.take<piece>(tokens)) {
    for (index_t j = 0; j < tokens;) {
      index_t const first = token(j), in_tile = j % tile_keys<T>;
      index_t end = j + 1;
      while (end < tokens && end % tile_keys<T> != 0 && token(end) == first + end - j &&
             token(end) % window.w != 0)
        ++end;
      list[pieces++] = {(j - in_tile) * tile_queries + in_tile, first % window.w, end - j, back(first) * row};
      j = end;
    }
  }

  /// Every piece of `count` tiled rows of one window row.
  void add_pieces(T const* const* from, index_t const* shift, int count, T* table) const {
#if defined(INSULA_AVX512)
    if (row == simd::width<T>) {
      lane_mask whole[tile_queries];
      for (int r = 0; r < count; ++r) whole[r] = lanes(shift[r], window.w);
      for (piece const* p = list; p < list + pieces; ++p) {
        auto sum = simd::load(table - p->to);
        if (p->length == window.w)
          for (int r = 0; r < count; ++r) sum += masked(from[r] + p->from - shift[r], whole[r]);
        else
          for (int r = 0; r < count; ++r)
            sum += masked(from[r] + p->from - shift[r] - p->lane, lanes(shift[r] + p->lane, p->length));
        simd::store(table - p->to, sum);
      }
      return;
    }
#elif defined(INSULA_AVX2)
    if (row == simd::width<T>) return add_registers<1>(from, shift, count, table);
    if (row == 2 * simd::width<T>) return add_registers<2>(from, shift, count, table);
#endif
    for (piece const* p = list; p < list + pieces; ++p)
      for (int r = 0; r < count; ++r) {
        T* to = table - p->to + shift[r] + p->lane;
        for (index_t e = 0; e < p->length; ++e) to[e] += from[r][p->from + e];
      }
  }

#if defined(INSULA_AVX512)
  using lane_mask = std::conditional_t<sizeof(T) == 4, __mmask16, __mmask8>;
  static lane_mask lanes(index_t first, index_t count) { return lane_mask(((1u << count) - 1u) << first); }
  static simd::pack<T> masked(T const* p, lane_mask lanes) {
    if constexpr (sizeof(T) == 4)
      return (simd::pack<T>)_mm512_maskz_loadu_ps(lanes, p);
    else
      return (simd::pack<T>)_mm512_maskz_loadu_pd(lanes, p);
  }
#elif defined(INSULA_AVX2)
  /// A row of the table is R registers: in them all rows meet, each shifted to its lanes.
  template <int R>
  void add_registers(T const* const* from, index_t const* shift, int count, T* table) const {
    constexpr int w = simd::width<T>;
    for (piece const* p = list; p < list + pieces; ++p) {
      simd::pack<T> sum[R];
      for (int c = 0; c < R; ++c) sum[c] = simd::load(table - p->to + c * w);
      for (int r = 0; r < count; ++r) {
        index_t const first = shift[r] + p->lane;
        for (int c = 0; c < R; ++c)
          sum[c] += masked(from[r] + p->from - first + c * w, first - c * w, p->length);
      }
      for (int c = 0; c < R; ++c) simd::store(table - p->to + c * w, sum[c]);
    }
  }
  /// Lanes [first, first + count) of the register at p, the others 0 and not touched. -width <= first < 2 width.
  static simd::pack<T> masked(T const* p, index_t first, index_t count) {
    constexpr int w = simd::width<T>;
    struct windows {
      std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t> lane[w + 1][4 * w];
      constexpr windows() : lane{} {
        for (int n = 0; n <= w; ++n)
          for (int i = 0; i < n; ++i) lane[n][2 * w + i] = -1;
      }
    };
    static constexpr windows of{};
    auto const mask = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(&of.lane[count][2 * w - first]));
    if constexpr (sizeof(T) == 4)
      return (simd::pack<T>)_mm256_maskload_ps(p, mask);
    else
      return (simd::pack<T>)_mm256_maskload_pd(p, mask);
  }
#endif
};

}  // namespace insula::windowed
