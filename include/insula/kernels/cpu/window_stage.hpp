// SPDX-License-Identifier: Apache-2.0
// The stages that window attention and its gradient share: where tokens live, norm and head packing.
#pragma once

#include <type_traits>
#include <utility>

#include "insula/device/cpu.hpp"
#include "insula/kernels/cpu/block.hpp"
#include "insula/kernels/cpu/exp.hpp"
#include "insula/op/window.hpp"

namespace insula::windowed {

/// Query rows and key registers of a score tile: accumulators and one row of keys fit the register file.
inline constexpr int tile_queries = simd::register_count == 32 ? 12 : 6;
inline constexpr int tile_registers = 2;
template <scalar T>
inline constexpr index_t tile_keys = tile_registers* simd::width<T>;

/// Windows that meet the bias of a head one after the other. Without AVX-512 more than one made no difference.
inline constexpr index_t group = simd::register_count == 32 ? 4 : 1;

/// Whether the expanded table has a row per token of a plane, in which tokens above each other find their keys a plane further on.
/// For windows of 7^3 that takes less than a third of the memory, but registers lie across cache lines.
inline constexpr bool biases_by_plane = simd::register_count < 32;

constexpr index_t round_up(index_t n, index_t to) { return (n + to - 1) / to * to; }

/// Sizes of one call. Keys are padded to whole tiles; head rows to whole registers.
template <scalar T>
struct sizes {
  op::window_geometry g;
  extent used, shift, count;
  index_t channels, heads, width, row, windows;
  index_t tokens, keys;  // of one window
  bool nominal;          // the window is not clipped: the table's coordinates are those of the tokens
  bool few;              // windows that hardly share an expanded table: each reads the table itself

  explicit sizes(op::window_geometry const& geometry)
      : g(geometry),
        used(g.used_window()),
        shift(g.used_shift()),
        count(g.windows()),
        channels(g.channels),
        heads(g.heads),
        width(channels / heads),
        row(round_up(width, simd::width<T>)),
        windows(g.batch * count.size()) {
    set_tokens(used.size());
    nominal = used == g.window;
    constexpr index_t most = 16, large = 128;
    few = nominal && windows <= most && tokens >= large;
  }
  void set_tokens(index_t n) {
    tokens = n, keys = round_up(n, tile_keys<T>);
    constexpr index_t conflict = 2048;  // bytes: rows at this distance would share a few sets of the L1 cache
    if (keys * index_t(sizeof(T)) % conflict == 0) keys += tile_keys<T>;
  }
  index_t padded_rows() const { return round_up(tokens, tile_queries); }
};

/// One window, or its tokens of one shift region. Rows are its real tokens, region by region and in order within each; in a whole
/// window whose biases lie by plane, those above each other follow each other. Padding tokens are keys only: their queries would be
/// cropped.
struct window_rows {
  index_t rows = 0, paddings = 0;
  index_t first = 0;      // row of the window that row 0 is
  bool mixed = false;     // tokens of several shift regions: the mask matters
  std::int32_t* token;    // (rows) number of the token within the window
  index_t* at;            // (rows) its row in x
  index_t* spare;         // (tokens) while rows are ordered, or null
  std::int32_t* padding;  // (paddings) numbers of the padding tokens, region by region
  std::uint8_t*
      region;  // (tokens) below 8: one bit per axis, set beyond the seam of the roll; or every_region
  /// Places along an axis: whether they are padding, or beyond the seam, and where they are in the grid.
  struct {
    std::uint8_t *padding, *beyond;
    index_t* source;
  } axis[3];

  static constexpr std::uint8_t every_region = 8;

  /// Of one region: rows [from, to), paddings [padding_from, padding_to).
  struct part {
    index_t from, to, padding_from, padding_to;
  };
  part parts[8];  // those with real tokens
  int part_count = 0;

  window_rows(scratch& memory, index_t tokens, extent const& used)
      : token(memory.take<std::int32_t>(tokens)),
        at(memory.take<index_t>(tokens)),
        spare(biases_by_plane ? memory.take<index_t>(tokens) : nullptr),
        padding(memory.take<std::int32_t>(tokens)),
        region(memory.take<std::uint8_t>(tokens)) {
    for (int i = 0; i < 3; ++i)
      axis[i] = {memory.take<std::uint8_t>(used[i]), memory.take<std::uint8_t>(used[i]),
                 memory.take<index_t>(used[i])};
  }

  /// The tokens of one region, as a window without a mask.
  window_rows only(part const& p) const {
    window_rows w(*this);
    w.rows = p.to - p.from, w.paddings = p.padding_to - p.padding_from;
    w.first = p.from, w.mixed = false;
    w.token += p.from, w.at += p.from, w.padding += p.padding_from;
    return w;
  }

  /// Within one window the regions of an axis differ only across the seam, so one bit per axis tells labels apart.
  template <scalar T>
  void locate(sizes<T> const& s, index_t window) {
    index_t const place = window % s.count.size(), sample = window / s.count.size();
    extent const corner{place / (s.count.h * s.count.w) * s.used.d, place / s.count.w % s.count.h * s.used.h,
                        place % s.count.w * s.used.w};
    for (int i = 0; i < 3; ++i)
      for (index_t e = 0; e < s.used[i]; ++e) {
        index_t const padded = s.count[i] * s.used[i], p = corner[i] + e + s.shift[i];
        axis[i].beyond[e] = p >= padded;
        axis[i].source[e] = p - (p >= padded ? padded : 0);
        axis[i].padding[e] = axis[i].source[e] >= s.g.grid[i];
      }
    rows = paddings = 0, part_count = 0;
    int labels = 0;
    for (int label = 0; label < 8; ++label) {
      part p{rows, rows, paddings, paddings};
      add_tokens(s, sample, std::uint8_t(label));
      p.to = rows, p.padding_to = paddings;
      labels += p.to > p.from || p.padding_to > p.padding_from;
      if (p.to > p.from) parts[part_count++] = p;
    }
    mixed = labels > 1;
    if (biases_by_plane && s.nominal && !s.few && !mixed && paddings == 0) order_by_plane(s);
  }

 private:
  /// The tokens of each place of a plane, one above the other, and then those of the next.
  template <scalar T>
  void order_by_plane(sizes<T> const& s) {
    index_t const plane = s.used.h * s.used.w;
    std::swap(at, spare);
    for (index_t t = 0, r = 0; t < plane; ++t)
      for (index_t d = 0; d < s.used.d; ++d, ++r) {
        token[r] = std::int32_t(d * plane + t);
        at[r] = spare[d * plane + t];
      }
  }
  template <scalar T>
  void add_tokens(sizes<T> const& s, index_t sample, std::uint8_t label) {
    for (index_t d = 0; d < s.used.d; ++d) {
      if (axis[0].beyond[d] != label / 4) continue;
      for (index_t h = 0; h < s.used.h; ++h) {
        if (axis[1].beyond[h] != label / 2 % 2) continue;
        for (index_t w = 0; w < s.used.w; ++w) {
          if (axis[2].beyond[w] != label % 2) continue;
          index_t const t = (d * s.used.h + h) * s.used.w + w;
          region[t] = label;
          if (axis[0].padding[d] || axis[1].padding[h] || axis[2].padding[w]) {
            padding[paddings++] = std::int32_t(t);
          } else {
            token[rows] = std::int32_t(t);
            at[rows++] =
                ((sample * s.g.grid.d + axis[0].source[d]) * s.g.grid.h + axis[1].source[h]) * s.g.grid.w +
                axis[2].source[w];
          }
        }
      }
    }
  }
};

/// args::kept: qkv without its bias (rows, 3 channels), then the heads' outputs (rows, channels), rows being the real tokens of
/// window after window, in the order of window_rows.
template <class Element>
struct kept_rows {
  Element *qkv = nullptr, *o = nullptr;
  index_t const* first = nullptr;  // (windows) row

  template <class T>
  kept_rows(scratch& memory, sizes<T> const& s, Element* kept) {
    if (!kept) return;
    index_t* const rows = memory.take<index_t>(s.windows);
    index_t sum = 0;
    window_rows at(memory, s.tokens, s.used);
    for (index_t window = 0; window < s.windows; ++window)
      at.locate(s, window), rows[window] = sum, sum += at.rows;
    qkv = kept, o = kept + 3 * sum * s.channels, first = rows;
  }
  explicit operator bool() const { return qkv != nullptr; }
};

/// Columns of a weight matrix that one task multiplies, when a window alone is too much for one worker.
inline constexpr index_t panel = 96;
constexpr index_t panels(index_t columns) { return (columns + panel - 1) / panel; }
constexpr index_t panel_width(index_t columns, index_t p) {
  return columns - p * panel < panel ? columns - p * panel : panel;
}

/// Scores are kept in base 2: one multiplication less per exponential.
template <scalar T>
inline constexpr T log2e = T(1.4426950408889634074);
template <scalar T>
inline constexpr T ln2 = T(0.69314718055994530942);
template <scalar T>
inline constexpr T masked_score = T(-100) * log2e<T>;
template <scalar T>
inline constexpr T no_key = T(-1e30);

/// Vector loop over [0, n): body(offset, count) with count == width except for the last.
template <scalar T, class F>
INSULA_INLINE void for_packs(index_t n, F body) {
  constexpr int w = simd::width<T>;
  index_t i = 0;
  for (; i + w <= n; i += w) body(i, std::integral_constant<int, w>{});
  if (i < n) body(i, int(n - i));
}
template <scalar T>
INSULA_INLINE simd::pack<T> load(T const* p, std::integral_constant<int, simd::width<T>>) {
  return simd::load(p);
}
template <scalar T>
INSULA_INLINE simd::pack<T> load(T const* p, int n) {
  return simd::load(p, n);
}
template <scalar T>
INSULA_INLINE void store(T* p, simd::pack<T> v, std::integral_constant<int, simd::width<T>>) {
  simd::store(p, v);
}
template <scalar T>
INSULA_INLINE void store(T* p, simd::pack<T> v, int n) {
  simd::store(p, v, n);
}

/// Mean and 1 / sqrt(variance + eps) of a token, in two passes over its channels.
template <scalar T>
struct moments {
  T mean, scale;
};
/// Those of N tokens at once, whose sums, divisions and roots do not wait for each other.
template <int N, scalar T>
INSULA_INLINE void moments_of(T const* const (&x)[N], index_t channels, double eps, moments<T>* out) {
  simd::pack<T> sum[N]{}, centre[N], square[N]{};
  for_packs<T>(channels, [&](index_t c, auto n) {
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) sum[j] += load<T>(x[j] + c, n);
  });
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) centre[j] = simd::broadcast(out[j].mean = simd::sum<T>(sum[j]) / T(channels));
  index_t c = 0;
  for (; c + simd::width<T> <= channels; c += simd::width<T>)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      auto const u = simd::load(x[j] + c) - centre[j];
      square[j] = simd::fma(u, u, square[j]);
    }
  T rest[N]{};
  for (; c < channels; ++c)
    for (int j = 0; j < N; ++j) rest[j] += (x[j][c] - out[j].mean) * (x[j][c] - out[j].mean);
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j)
    out[j].scale = 1 / std::sqrt((simd::sum<T>(square[j]) + rest[j]) / T(channels) + T(eps));
}
/// Calls f(r, x of the token, its moments) for rows [from, to) of a window.
template <scalar T, class F>
INSULA_INLINE void each_moments(window_rows const& window, index_t from, index_t to, index_t channels,
                                double eps, T const* x, F f) {
  constexpr int at_once = 4;
  index_t r = from;
  auto const some = [&]<int N>() {
    T const* rows[N];
    moments<T> of[N];
    for (int j = 0; j < N; ++j) rows[j] = x + window.at[r + j] * channels;
    moments_of<N, T>(rows, channels, eps, of);
    for (int j = 0; j < N; ++j) f(r + j, rows[j], of[j]);
    r += N;
  };
  while (r + at_once <= to) some.template operator()<at_once>();
  while (r < to) some.template operator()<1>();
}

/// Asks for what a few rows after row r of a window hold in x, or for where they will be written: its runs of tokens are too
/// short to be foreseen.
template <bool Written = false, scalar T>
INSULA_INLINE void ask_for_row(window_rows const& window, index_t r, index_t channels, T const* x) {
  constexpr index_t ahead = 12;
  if (r + ahead >= window.rows) return;
  T const* const row = x + window.at[r + ahead] * channels;
  for (index_t c = 0; c < channels; c += index_t(cache_line / sizeof(T)))
    __builtin_prefetch(row + c, Written, 2 + Written);
}

/// normed (rows, channels) = norm of the window's tokens.
template <scalar T>
void normalise(window_rows const& window, index_t from, index_t to, index_t channels, double eps, T const* x,
               T const* weight, T const* bias, T* normed) {
  each_moments(window, from, to, channels, eps, x, [&](index_t r, T const* row, moments<T> of) {
    ask_for_row(window, r, channels, x);
    T* out = normed + r * channels;
    auto const mean = simd::broadcast(of.mean), scale = simd::broadcast(of.scale);
    for_packs<T>(channels, [&](index_t c, auto n) {
      auto const w = weight ? load<T>(weight + c, n) : simd::broadcast(T(1));
      auto const b = bias ? load<T>(bias + c, n) : simd::zero<T>();
      store<T>(out + c, simd::fma((load<T>(row + c, n) - mean) * scale, w, b), n);
    });
  });
}

/// One head of one window, packed: rows are contiguous and padded with zeros, keys and values in token order with
/// padding tokens holding the bias.
template <scalar T>
struct head_values {
  T *q, *k, *v;  // (padded rows, row) times log2(e) / sqrt(width); (tokens, row); (tokens, row)
  T* q_tiles;    // (tiles, width, tile_queries): what a score tile broadcasts lies together
  T* k_columns;  // (key tiles, width, tile_keys) transpose of k, what a score tile loads lies together
  T* mask;       // (8, keys) what a query of each region adds to its scores

  head_values(scratch& memory, sizes<T> const& s)
      : q(memory.take<T>(s.padded_rows() * s.row)),
        k(memory.take<T>(s.tokens * s.row)),
        v(memory.take<T>(s.tokens * s.row)),
        q_tiles(memory.take<T>(s.padded_rows() * s.width)),
        k_columns(memory.take<T>(s.width * s.keys)),
        mask(memory.take<T>(8 * s.keys)) {}

  /// qkv (rows of the whole window, 3 channels) has no bias yet.
  void pack(sizes<T> const& s, window_rows const& window, T const* qkv, T const* bias, index_t head) {
    constexpr index_t ahead = 8;  // rows: a window's qkv may be more than the L2 cache holds
    index_t const c = s.channels, offset = head * s.width;
    auto const query_scale = simd::broadcast(T(double(log2e<double>) / std::sqrt(double(s.width))));
    auto const copy = [&](T const* from, T const* b, auto factor, T* to) {
      index_t i = 0;
      for_packs<T>(s.width, [&](index_t e, auto n) {
        auto u = from ? load<T>(from + e, n) : simd::zero<T>();
        if (b) u += load<T>(b + e, n);
        simd::store(to + e, factor(u)), i = e + simd::width<T>;
      });
    };
    auto const plain = [](auto u) { return u; };
    auto const scaled = [&](auto u) { return u * query_scale; };
    auto const part = [&](index_t p) { return bias ? bias + p * c + offset : nullptr; };
    for (index_t r = 0; r < window.rows; ++r) {
      T const* from = qkv + (window.first + r) * 3 * c + offset;
      for (index_t p = 0; p < 3 && r + ahead < window.rows; ++p)
        __builtin_prefetch(from + (3 * ahead + p) * c, 0, 3);
      copy(from, part(0), scaled, q + r * s.row);
      copy(from + c, part(1), plain, k + window.token[r] * s.row);
      copy(from + 2 * c, part(2), plain, v + window.token[r] * s.row);
    }
    for (index_t r = window.rows; r < round_up(window.rows, tile_queries); ++r)
      for (index_t e = 0; e < s.row; ++e) q[r * s.row + e] = 0;
    for (index_t p = 0; p < window.paddings; ++p) {
      copy(nullptr, part(1), plain, k + window.padding[p] * s.row);
      copy(nullptr, part(2), plain, v + window.padding[p] * s.row);
    }
    for (index_t r = 0; r < window.rows; r += tile_queries) tile(s, q + r * s.row, q_tiles + r * s.width);
    columns(s, k, k_columns);
    if (window.mixed) region_scores(s, window);
  }

  /// out (width, tile_queries) = transpose of a tile of rows.
  static void tile(sizes<T> const& s, T const* rows, T* out) {
    simd::transpose(tile_queries, s.width, rows, s.row, out, tile_queries);
  }
  /// out (key tiles, width, tile_keys) = transpose of values (tokens, row), zero beyond the tokens.
  static void columns(sizes<T> const& s, T const* values, T* out) {
    constexpr index_t n = tile_keys<T>;
    for (index_t j = 0; j < s.keys; j += n, out += s.width * n) {
      index_t const left = s.tokens - j, count = left < 0 ? 0 : left < n ? left : n;
      simd::transpose(count, s.width, values + j * s.row, s.row, out, n);
      for (index_t e = 0; e < s.width && count < n; ++e)
        for (index_t i = count; i < n; ++i) out[e * n + i] = 0;
    }
  }

 private:
  void region_scores(sizes<T> const& s, window_rows const& window) {
    for (int region = 0; region < 8; ++region)
      for (index_t j = 0; j < s.keys; ++j)
        mask[region * s.keys + j] = apart(window, region, j, s.tokens) ? masked_score<T> : T(0);
  }
  static bool apart(window_rows const& window, int region, index_t key, index_t tokens) {
    return key < tokens && window.region[key] != region && window.region[key] != window_rows::every_region;
  }
};

}  // namespace insula::windowed
