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
    index_t to;  // distance of window rows, back from that of the query, in elements of the sums
  };

  extent window;
  index_t keys, row, size, pieces = 0;
  index_t step;  // from a distance of window rows to the next, where `add` adds
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

  /// Where one window adds to a table, and how the table gets it in the end: the table itself, or with AVX2, where a
  /// shift by lanes costs more than an addition, a register for each shift.
  T* begin(scratch& memory, T* table) const {
    if (!by_shift()) return table;
    index_t const n = size / row * step;
    T* const sums = memory.take<T>(n);
    for (index_t i = 0; i < n; ++i) sums[i] = 0;
    return sums;
  }
  void end([[maybe_unused]] T const* sums, [[maybe_unused]] T* table) const {
#if defined(INSULA_AVX2)
    if (by_shift()) row == simd::width<T> ? fold<1>(sums, table) : fold<2>(sums, table);
#endif
  }

  /// sums += rows [first, first + rows) of ga (tiles).
  void add(window_rows const& of, index_t first, index_t rows, T const* ga, T* sums) const {
    index_t const end = first + rows < of.rows ? first + rows : of.rows;
#if defined(INSULA_AVX2)
    if (by_shift()) return add_shifted(of, first, end, ga, sums);
#endif
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
      add_pieces(from, shift, count, sums + place(run * window.w) * step);
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
        step(by_shift() ? window.w * simd::width<T> : row),
        list(memory.take<piece>(tokens)) {
    for (index_t j = 0; j < tokens;) {
      index_t const first = token(j), in_tile = j % tile_keys<T>;
      index_t end = j + 1;
      while (end < tokens && end % tile_keys<T> != 0 && token(end) == first + end - j &&
             token(end) % window.w != 0)
        ++end;
      list[pieces++] = {(j - in_tile) * tile_queries + in_tile, first % window.w, end - j,
                        back(first) * step};
      j = end;
    }
#if defined(INSULA_AVX2)
    if (by_shift()) join_pieces(memory);
#endif
  }

  bool by_shift() const {
#if defined(INSULA_AVX2)
    return window.w <= simd::width<T>;
#else
    return false;
#endif
  }

  /// Every piece of `count` tiled rows of one window row.
  void add_pieces(T const* const* from, index_t const* shift, int count, T* sums) const {
#if defined(INSULA_AVX512)
    if (row == simd::width<T>) {
      lane_mask whole[tile_queries];
      for (int r = 0; r < count; ++r) whole[r] = lanes(shift[r], window.w);
      for (piece const* p = list; p < list + pieces; ++p) {
        auto sum = simd::load(sums - p->to);
        if (p->length == window.w)
          for (int r = 0; r < count; ++r) sum += masked(from[r] + p->from - shift[r], whole[r]);
        else
          for (int r = 0; r < count; ++r)
            sum += masked(from[r] + p->from - shift[r] - p->lane, lanes(shift[r] + p->lane, p->length));
        simd::store(sums - p->to, sum);
      }
      return;
    }
#elif defined(INSULA_AVX2)
#endif
    for (piece const* p = list; p < list + pieces; ++p)
      for (int r = 0; r < count; ++r) {
        T* to = sums - p->to + shift[r] + p->lane;
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
  /// A window row's keys, or some of them: places and lanes in one tile of keys and, if they go on there, in the next.
  struct key_row {
    index_t to, from[2];
    void const* there[2];
  };
  key_row *whole = nullptr, *cut = nullptr;  // those within one tile, those of two
  index_t whole_count = 0, cut_count = 0;

  void join_pieces(scratch& memory) {
    whole = memory.take<key_row>(pieces), cut = memory.take<key_row>(pieces);
    for (piece const *p = list, *const last = list + pieces; p < last; ++p) {
      key_row k{p->to, {p->from - p->lane, 0}, {lanes_at(p->lane, p->length), nullptr}};
      if (p + 1 == last || p[1].to != p->to) {
        whole[whole_count++] = k;
      } else {
        ++p;
        k.from[1] = p->from - p->lane, k.there[1] = lanes_at(p->lane, p->length);
        cut[cut_count++] = k;
      }
    }
  }

  /// A register for each shift: keys of a window row meet there without it. N rows of one tile, whose sums are `apart`: those of
  /// tokens along a window row a register back, of tokens above each other a plane on.
  template <int N>
  void add_shifts(T const* from, T* to, index_t apart) const {
    for (key_row const *k = whole, *const last = whole + whole_count; k < last; ++k) {
      auto const there = lanes(k->there[0]);
      T const* const row = from + k->from[0];
      T* const at = to - k->to;
#pragma GCC unroll 8
      for (int r = 0; r < N; ++r)
        simd::store(at + r * apart, simd::load(at + r * apart) + masked(row + r * tile_keys<T>, there));
    }
    for (key_row const *k = cut, *const last = cut + cut_count; k < last; ++k) {
      auto const here = lanes(k->there[0]), beyond = lanes(k->there[1]);
      T const *const first = from + k->from[0], *const second = from + k->from[1];
      T* const at = to - k->to;
#pragma GCC unroll 8
      for (int r = 0; r < N; ++r)
        simd::store(at + r * apart, simd::load(at + r * apart) + (masked(first + r * tile_keys<T>, here) +
                                                                  masked(second + r * tile_keys<T>, beyond)));
    }
  }
  template <int Most = tile_queries>
  void add_shifts(index_t count, T const* from, T* to, index_t apart) const {
    if (count == Most) return add_shifts<Most>(from, to, apart);
    if constexpr (Most > 1) add_shifts<Most - 1>(count, from, to, apart);
  }
  /// Rows [first, end), of which ga begins with the first.
  void add_shifted(window_rows const& of, index_t first, index_t end, T const* ga, T* sums) const {
    for (index_t r = first; r < end;) {
      index_t const token = of.token[r], place_in_tile = (r - first) % tile_queries,
                    shift = window.w - 1 - token % window.w;
      index_t const plane = window.h * window.w;
      bool const above = r + 1 < end && of.token[r + 1] == token + plane;
      index_t count = 1;
      while (r + count < end && place_in_tile + count < tile_queries &&
             of.token[r + count] == token + count * (above ? plane : 1) && (above || shift >= count))
        ++count;
      T const* const from = ga + (r - first - place_in_tile) * keys + place_in_tile * tile_keys<T>;
      T* const to = sums + place(token) * step + shift * simd::width<T>;
      r += count;
      add_shifts(count, from, to, above ? (2 * window.h - 1) * step : -simd::width<T>);
    }
  }
  /// table += the registers of add_shifts, each shifted to its lanes: R registers to a row of the table.
  template <int R>
  void fold(T const* sums, T* table) const {
    constexpr index_t w = simd::width<T>;
    for (T* const end = table + size; table < end; table += R * w, sums += window.w * w) {
      simd::pack<T> sum[R];
      for (int c = 0; c < R; ++c) sum[c] = simd::load(table + c * w);
      for (index_t shift = 0; shift < window.w; ++shift)
        for (int c = 0; c < R; ++c)
          sum[c] += masked(sums + shift * w - shift + c * w, lanes(lanes_at(shift - c * w, window.w)));
      for (int c = 0; c < R; ++c) simd::store(table + c * w, sum[c]);
    }
  }
  /// Lanes [first, first + count) of a register. -width <= first < width, count <= width.
  static void const* lanes_at(index_t first, index_t count) {
    constexpr int w = simd::width<T>;
    struct windows {
      std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t> lane[w + 1][3 * w];
      constexpr windows() : lane{} {
        for (int n = 0; n <= w; ++n)
          for (int i = 0; i < n; ++i) lane[n][w + i] = -1;
      }
    };
    static constexpr windows of{};
    return &of.lane[count][w - first];
  }
  static __m256i lanes(void const* at) { return _mm256_loadu_si256(static_cast<__m256i const*>(at)); }
  /// Those lanes of the register at p, the others 0 and not touched.
  static simd::pack<T> masked(T const* p, __m256i there) {
    if constexpr (sizeof(T) == 4)
      return (simd::pack<T>)_mm256_maskload_ps(p, there);
    else
      return (simd::pack<T>)_mm256_maskload_pd(p, there);
  }
#endif
};

}  // namespace insula::windowed
