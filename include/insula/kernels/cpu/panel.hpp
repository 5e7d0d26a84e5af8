// SPDX-License-Identifier: Apache-2.0
// Matrix products with the right operand cut into panels of a few registers: packing, the register tile, the loop.
#pragma once

#include <span>

#include "insula/kernels/cpu/register_tile_avx2.hpp"
#include "insula/kernels/cpu/register_tile_avx512.hpp"
#include "insula/kernels/cpu/transpose.hpp"

namespace insula::simd {

/// Registers in a panel as a rule: three on AVX-512 (8 rows x 3 = 24 accumulators), two elsewhere; in the widest one: four (6 rows x 4).
inline constexpr int panel_registers = register_count == 32 ? 3 : 2,
                     widest_panel = register_count == 32 ? 4 : 2;

/// How n columns are cut into panels. Four registers at the end become 2 + 2 instead of 3 + 1.
template <scalar T>
struct columns {
  index_t n;
  bool fours = false;  // where registers are whole fours, panels of as many: for products of few rows
  constexpr index_t registers() const { return (n + width<T> - 1) / width<T>; }
  constexpr index_t padded() const { return registers() * width<T>; }
  /// Registers of a panel, but of the last ones.
  constexpr int each() const {
    return fours && registers() % widest_panel == 0 ? widest_panel : panel_registers;
  }
  constexpr index_t panels() const { return (registers() + each() - 1) / each(); }
  /// First column of panel p; the padded width for p == panels().
  constexpr index_t first(index_t p) const {
    if (p == panels()) return padded();
    bool const even_out = each() == 3 && p > 0 && p + 1 == panels() && registers() % 3 == 1;
    return (p * each() - even_out) * width<T>;
  }
  constexpr int width_of(index_t p) const { return int(first(p + 1) - first(p)); }
};

/// Right operand of a product, depth x columns. Every register of every panel may be read in full, so the last
/// panel is padded: packed (panel after panel, each depth x its width, contiguous), or row-major with padded rows.
template <scalar T>
struct right_operand {
  T const* data;
  index_t depth;       // rows of the whole packed operand
  index_t row = 0;     // distance of rows if not packed, else 0
  index_t origin = 0;  // the first column that is there

  T const* at(columns<T> c, index_t p, index_t k) const {
    index_t const first = c.first(p) - origin;
    return row ? data + k * row + first : data + first * depth + k * c.width_of(p);
  }
  index_t step(columns<T> c, index_t p) const { return row ? row : c.width_of(p); }
};

/// Packs panel p of B (depth x c.n, row-major, rows `row` apart) into `to`, depth * c.width_of(p) elements. If `next` is not 0, of
/// every row the one so many rows later is asked for.
template <scalar T>
void pack_panel(columns<T> c, index_t p, index_t depth, T const* b, index_t row, T* to, index_t next = 0) {
  constexpr int w = width<T>;
  index_t const first = c.first(p);
  int const size = c.width_of(p), valid = c.n - first < size ? int(c.n - first) : size;
  for (index_t k = 0; k < depth; ++k, to += size)
    for (int v = 0; v < size; v += w) {
      T const* const from = b + k * row + first + v;
      if (next) __builtin_prefetch(from + next * row);
      store(to + v, v + w <= valid ? load(from) : load(from, valid > v ? valid - v : 0));
    }
}

/// Packs panels [begin, end), one behind the other. Some rows of B at a time, so that its pages are visited once.
template <scalar T>
void pack_panels(columns<T> c, index_t begin, index_t end, index_t depth, T const* b, index_t row, T* to) {
  constexpr index_t block = 16;  // rows
  for (index_t k = 0; k < depth; k += block)
    for (index_t p = begin; p < end; ++p)
      pack_panel(c, p, depth - k < block ? depth - k : block, b + k * row, row,
                 to + (c.first(p) - c.first(begin)) * depth + k * c.width_of(p),
                 k + 2 * block <= depth ? block : 0);
}

/// The same panel for B = transpose of A, A (c.n x depth) row-major.
template <scalar T>
void pack_panel_transposed(columns<T> c, index_t p, index_t depth, T const* a, index_t row, T* to) {
  index_t const first = c.first(p), size = c.width_of(p), left = c.n - first;
  transpose_padded(left < size ? left : size, depth, a + first * row, row, to, size);
}

/// Part of a matrix that is read after a product: before each of the product's tiles its share of cache lines is asked for.
template <scalar T>
struct rows_ahead {
  static constexpr index_t line = index_t(64 / sizeof(T));
  T const* row = nullptr;
  index_t rows = 0, width = 0, stride = 0;  // elements of a row that are read, and from row to row
  index_t share = 0, column = 0;

  rows_ahead() = default;
  rows_ahead(T const* data, index_t rows_, index_t width_, index_t stride_, index_t tiles)
      : row(data),
        rows(rows_),
        width(width_),
        stride(stride_),
        share((rows_ * ((width_ + line - 1) / line) + tiles - 1) / tiles) {}
  INSULA_INLINE void ask() {
    for (index_t i = 0; i < share && rows > 0; ++i) {
      __builtin_prefetch(row + column, 0, 2);
      if (column += line; column < width) continue;
      column = 0;
      if (--rows > 0) row += stride;
    }
  }
};

/// What comes after a product, or null: where as many elements as the product has results are written next, and what is read
/// next, `count` elements. They are asked for while the product is computed: a little in every round, or if `between`, some lines
/// before every tile, as `blocks` are.
template <scalar T>
struct product_ahead {
  T* out = nullptr;
  T const* a = nullptr;
  index_t count = 0;
  bool between = false;
  std::span<rows_ahead<T>> blocks = {};
};

namespace detail {

/// Rows (+)= sums, `last` elements of the last register.
template <scalar T, int R, int V>
INSULA_INLINE void store_tile(pack<T> const (&sum)[R][V], row_addresses<R, T*> const& rows, bool adds,
                              int last) {
  constexpr int w = width<T>;
  bool const full = last == w;
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      T* const to = rows.at(r) + v * w;
      if (v + 1 < V || full)
        store(to, adds ? load(to) + sum[r][v] : sum[r][v]);
      else
        store(to, adds ? load(to, last) + sum[r][v] : sum[r][v], last);
    }
}

/// Asks for the lines that a tile will be written to.
template <int R, int V, scalar T>
INSULA_INLINE void ask_for_tile(T* c, index_t c_row) {
  constexpr int w = width<T>;
  row_addresses<R, T*> const rows(c, c_row);
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int e = 0; e < V * w; e += int(64 / sizeof(T))) __builtin_prefetch(rows.at(r) + e, 1);
    if (V > 1) __builtin_prefetch(rows.at(r) + V * w - 1, 1);  // rows need not begin with a line
  }
}

/// C[0..R)[0..V registers) = (bias | C | 0) + A B, accumulated in registers. A is a[r a_step + k], or a[k a_step + r]
/// if Across. The last register of C has `last` elements. C is as a rule not in the L1 cache: its lines are asked for
/// before the products and met after them, else the store queue waits for each; if next.out names what is written next, C
/// was asked for in its turn, and that is asked for now. Of next.a `next_step` elements are asked for in every round.
template <scalar T, int R, int V, bool Across>
[[gnu::noinline]] void panel_tile(index_t depth, T const* a, index_t a_step, T const* b, index_t b_step,
                                  T const* bias, bool adds, T* c, index_t c_row, product_ahead<T> next,
                                  index_t next_step, int last) {
  constexpr int w = width<T>;
  bool const full = last == w;
  if (!next.out) ask_for_tile<R, V>(c, c_row);
  pack<T> first[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) {
    first[v] = zero<T>();
    if (bias && !adds) first[v] = v + 1 < V || full ? load(bias + v * w) : load(bias + v * w, last);
  }
  asked_for<T> ahead;
  if (next.a || next.out)
    ahead = {next.a ? next.a : a, next_step, next.out ? next.out : c,
             next.out && depth > 0 ? (R * V * w + depth - 1) / depth : 0};
  row_addresses<R, T*> const rows(c, c_row);
  pack<T> sum[R][V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v)
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) sum[r][v] = first[v];
  if (b_step == V * w)
    add_products<R, V, Across, true>(depth, a, a_step, b, b_step, sum, ahead);
  else
    add_products<R, V, Across, false>(depth, a, a_step, b, b_step, sum, ahead);
  store_tile<T, R, V>(sum, rows, adds, last);
}

#ifdef INSULA_WHOLE_TILES_IN_ASSEMBLER
/// The same for so many tiles below each other, and `next` moved on as panel_rows does.
template <int R, int V, bool Across>
[[gnu::noinline]] void whole_rows(index_t tiles, index_t depth, float const* a, index_t a_step,
                                  float const* b, float const* bias, bool adds, float* c, index_t c_row,
                                  product_ahead<float>& next, index_t next_step, int last) {
  constexpr int w = width<float>;
  bool const full = last == w;
  alignas(register_bytes) float first[V * w]{}, sums[R * V * w];
  if (bias && !adds)
    for (int v = 0; v < V; ++v)
      store(first + v * w, v + 1 < V || full ? load(bias + v * w) : load(bias + v * w, last));
  float const* read = next.a;
  float* out = next.out;
  index_t const written_step = out && depth > 0 ? (R * V * w + depth - 1) / depth : 0;
  index_t left = next.count;
  bool const between = next.between, blocks = !next.blocks.empty();
  for (; tiles > 0; --tiles) {
    if (blocks)
      for (auto& block : next.blocks) block.ask();
    asked_for<float> ahead;
    if (register_count == 32) ahead = {a, 0, c, 0};
    if (between) {
      index_t const some = next_step * depth < left ? next_step * depth : left;
      for (index_t e = 0; e < some; e += index_t(64 / sizeof(float))) __builtin_prefetch(read + e, 0, 2);
      read += some, left -= some;
      if (out) ahead = {a, 0, out, written_step};
    } else if (read || out) {
      ahead = {read ? read : a, read ? next_step : 0, out ? out : c, written_step};
    }
    if (!out || depth < asked_for<float>::rounds) ask_for_tile<R, V>(c, c_row);
    whole_tile<R, V, Across>(depth, a, a_step, b,
                             full ? tile_results{first, 0, c, c_row, adds ? c : nullptr, c_row}
                                  : tile_results{first, 0, sums, V * w},
                             ahead);
    if (!full) {
      row_addresses<R, float*> const rows(c, c_row);
      pack<float> sum[R][V];
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sum[r][v] = load(sums + (r * V + v) * w);
      store_tile<float, R, V>(sum, rows, adds, last);
    }
    if (!between && read) read += next_step * depth;
    if (out) out += R * V * w;
    a += Across ? R : R * a_step, c += R * c_row;
  }
  next.a = read, next.out = out, next.count = left;
}
#endif

template <scalar T, int R, int V, bool Across>
void panel_rows(index_t m, index_t depth, T const* a, index_t a_step, T const* b, index_t b_step,
                T const* bias, bool adds, T* c, index_t c_row, product_ahead<T>& next, index_t total,
                int last) {
  index_t const products = total * depth;  // of all rows with a column: what is read next is spread over them
  index_t const next_step = next.a && products > 0 ? (next.count * R + products - 1) / products : 0;
#ifdef INSULA_WHOLE_TILES_IN_ASSEMBLER
  if constexpr (has_whole_tile<T, R, V, Across>)
    if ((last == width<T> || register_count == 32) && b_step == V * width<T> && m >= R) {
      whole_rows<R, V, Across>(m / R, depth, a, a_step, b, bias, adds, c, c_row, next, next_step, last);
      index_t const rows = m / R * R;
      a += Across ? rows : rows * a_step, c += rows * c_row, m -= rows;
    }
#endif
  for (; m >= R; m -= R, a += Across ? R : R * a_step, c += R * c_row) {
    for (auto& block : next.blocks) block.ask();
    if (next.between) {
      index_t const some = next_step * depth < next.count ? next_step * depth : next.count;
      for (index_t e = 0; e < some; e += index_t(64 / sizeof(T))) __builtin_prefetch(next.a + e, 0, 2);
      next.a += some, next.count -= some;
      panel_tile<T, R, V, Across>(depth, a, a_step, b, b_step, bias, adds, c, c_row, {next.out}, 0, last);
      if (next.out) next.out += R * V * width<T>;
      continue;
    }
    panel_tile<T, R, V, Across>(depth, a, a_step, b, b_step, bias, adds, c, c_row, next, next_step, last);
    if (next.a) next.a += next_step * depth;
    if (next.out) next.out += R * V * width<T>;
  }
  if constexpr (R > 1)
    if (m > 0)
      panel_rows<T,
                 (R == 24   ? 8
                  : R == 12 ? 4
                  : R == 6  ? 4
                            : R / 2),
                 V, Across>(m, depth, a, a_step, b, b_step, bias, adds, c, c_row, next,
                            next.between ? m : total, last);
}

/// Rows of a tile V registers wide.
template <int V>
inline constexpr int panel_tile_rows = register_count == 32 ? (V == 4   ? 6
                                                               : V == 3 ? 8
                                                               : V == 2 ? 12
                                                                        : 24)
                                                            : (V == 2 ? 6 : 8);

}  // namespace detail

/// What a product starts from: nothing, a row vector, or the C that is there.
template <scalar T>
struct product_start {
  T const* bias = nullptr;  // c.n elements
  bool adds = false;
};

/// C (m x panels [begin, end) of c) = start + A B[k0 .. k0 + depth). C is row-major, `out` points at its column 0.
/// A is a[i a_step + k], or a[k a_step + i] if Across: a transposed operand costs nothing. One thread; B and A should
/// fit the L2 cache. What `ahead` names is asked for meanwhile; if it names nothing to read, the next panel of a packed B is
/// (without AVX-512 only if it has 256 rows or more).
template <bool Across = false, scalar T>
void panel_product(index_t m, columns<T> c, index_t begin, index_t end, index_t depth, T const* a,
                   index_t a_step, right_operand<T> b, index_t k0, product_start<T> start, T* out,
                   index_t out_row, product_ahead<T> ahead = {}) {
  constexpr int w = width<T>;
  constexpr index_t least_asked =
      register_count == 32 ? 1 : 256;  // rows of a panel: fewer the machine fetches by itself
  for (index_t p = begin; p < end; ++p) {
    if (p > begin) ahead.a = nullptr;  // the first panel has asked for all of it
    ahead.between = false;
    if (!ahead.a && p + 1 < end && !b.row && depth >= least_asked)
      ahead.a = b.at(c, p + 1, k0), ahead.count = depth * c.width_of(p + 1),
      ahead.between = register_count < 32;
    index_t const first = c.first(p);
    int const size = c.width_of(p);
    int const last = c.n - first >= size ? w : int(c.n - first) - (size - w);
    T const* const panel = b.at(c, p, k0);
    index_t const step = b.step(c, p);
    T const* const bias = start.bias ? start.bias + first : nullptr;
    T* const to = out + first;
    auto const rows = [&]<int V>() {
      detail::panel_rows<T, detail::panel_tile_rows<V>, V, Across>(m, depth, a, a_step, panel, step, bias,
                                                                   start.adds, to, out_row, ahead, m, last);
    };
    if (size == w) {
      rows.template operator()<1>();
    } else if (size == 2 * w) {
      rows.template operator()<2>();
    } else if constexpr (register_count == 32) {
      size == 3 * w ? rows.template operator()<3>() : rows.template operator()<4>();
    }
  }
}

}  // namespace insula::simd
