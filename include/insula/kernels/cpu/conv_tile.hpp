// SPDX-License-Identifier: Apache-2.0
// The register tile of the convolutions: a small matrix product whose depth is a list of stretches of memory.
#pragma once

#include "insula/device/memory.hpp"
#include "insula/kernels/cpu/conv_lattice.hpp"
#include "insula/kernels/cpu/register_tile_avx2.hpp"
#include "insula/kernels/cpu/register_tile_avx512.hpp"

namespace insula::detail::conv {

using simd::stretch;

/// C (rows x columns) = rest + sum over stretches s and k < depth of
///   A[s.a + row a_step + k] B[s.b + k columns + column],   or with A[s.a + row + k a_step] (multiply_across).
/// rest: C itself if `adds`, else the vector `bias` or zero. Rows of B are whole registers (padded where need be) and follow
/// one another; `last` is how many columns of the last register exist in C. `asks`: as much of C as the tile writes is asked for
/// behind it, and the stretches' rows of `later`, as far apart as those of A; in multiply_across the next columns of A, if each stretch's
/// `ahead` is its `a`. Never without AVX-512's registers.
template <scalar T>
struct product {
  stretch const* at;
  index_t count, depth;
  T const* a;
  index_t a_step;
  T const* b;
  T const* bias;
  bool adds;
  index_t c_row;
  int last;
  bool asks = false;
  T const* later = nullptr;
};

/// Joins sums with what is to be added, and stores them.
template <int R, int V, scalar T>
INSULA_INLINE void join_tile(product<T> const& p, simd::pack<T> (&sum)[R][V], T* c) {
  constexpr int w = simd::width<T>;
  int const last = p.last;
  bool const full = last == w;
  simd::row_addresses<R, T*> const rows(c, p.c_row);

  // join: what was there comes last, so that no chain of roundings is longer than this product's depth
  if (p.adds || p.bias) {
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        T const* from = p.adds ? rows.at(r) + v * w : p.bias + v * w;
        sum[r][v] += full || v + 1 < V ? simd::load(from) : simd::load(from, last);
      }
  }

  // store
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if (full || v + 1 < V)
        simd::store(rows.at(r) + v * w, sum[r][v]);
      else
        simd::store(rows.at(r) + v * w, sum[r][v], last);
    }
}

/// Depth > 0: the depth, if it is known.
template <bool Across, int Depth, int R, int V, scalar T>
void tile(product<T> const& p, T const* a_at, T* c) {
  constexpr int w = simd::width<T>;
  simd::pack<T> sum[R][V];
  index_t const c_row = p.c_row;
  T* written = c + R * c_row;
  constexpr bool may_ask = !Across && simd::register_count == 32;  // others have no instructions to spare
  index_t const share = may_ask && p.asks && p.count * p.depth > 0 ? ceil_divide(R * c_row, p.count) : 0;
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = simd::zero<T>();

  // accumulate
  for (index_t s = 0; s < p.count; ++s) {
    simd::asked_for<T> ahead;
    if constexpr (Depth > 0) {
      for (index_t i = 0; i < share; i += w) __builtin_prefetch(written + i, 1);
    } else if (share > 0) {
      ahead = {p.at[s].ahead < 0 ? a_at + p.at[s].a : p.later + (a_at - p.a) + p.at[s].ahead,
               ceil_divide(R * p.a_step, p.depth), written, ceil_divide(share, p.depth)};
    }
    simd::add_products<R, V, Across, true, Depth>(p.depth, a_at + p.at[s].a, p.a_step, p.b + p.at[s].b, 0,
                                                  sum, ahead);
    written += share;
  }

  join_tile<R, V>(p, sum, c);
}

/// Rows a tile of V registers may have, largest first.
template <int V>
struct tile_heights {
  static constexpr int at[9] = {12, 8, 7, 6, 5, 4, 3, 2, 1};
  static constexpr int first = simd::register_count == 32 ? (V == 4 ? 3 : V == 3 ? 1 : 0) : (V == 2 ? 3 : 1);
};

/// Rows of the largest tile.
inline index_t tile_rows(int registers) {
  if (registers == 4) return tile_heights<4>::at[tile_heights<4>::first];
  if (registers == 3) return tile_heights<3>::at[tile_heights<3>::first];
  if (registers == 2) return tile_heights<2>::at[tile_heights<2>::first];
  return tile_heights<1>::at[tile_heights<1>::first];
}

#ifdef INSULA_WHOLE_TILES_IN_ASSEMBLER
/// So many tiles below each other.
template <bool Across, int R, int V>
[[gnu::noinline]] void whole_tiles(product<float> const& p, index_t tiles, float const* a, float* c) {
  constexpr int w = simd::width<float>;
  alignas(simd::register_bytes) static constexpr float none[V * w]{};
  alignas(simd::register_bytes) float sums[R * V * w];
  stretch const *const at = p.at, *const end = p.at + p.count;
  index_t const depth = p.depth, a_step = p.a_step, c_row = p.c_row, a_row = Across ? 1 : a_step;
  float const *const b = p.b, *const bias = p.bias, *const later = p.later ? p.later : p.a;
  bool const adds = p.adds, full = p.last == w;
  bool const across = Across && p.asks, asks = !Across && p.asks && c_row > 0;
  index_t const read_step = across ? a_step : asks ? ceil_divide(R * a_step, depth) : 0;
  index_t const written_step = asks ? ceil_divide(R * c_row, p.count * depth) : 0;
  for (; tiles > 0; --tiles, a += R * a_row, c += R * c_row) {
    float const* const read = across ? a + cache_line / sizeof(float)  // a line of A serves two tiles or one
                              : asks ? later + (a - p.a)
                                     : a;
    simd::whole_tile<R, V, Across>(
        at, end, depth, a, a_step, b,
        full ? simd::tile_results{none, 0, c, c_row, adds ? c : bias, adds ? c_row : 0}
             : simd::tile_results{none, 0, sums, V * w},
        {read, read_step, asks ? c + R * c_row : c, written_step});
    if (full) continue;
    simd::pack<float> sum[R][V];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) sum[r][v] = simd::load(sums + (r * V + v) * w);
    join_tile<R, V>(p, sum, c);
  }
}
#endif

/// What is left over after whole tiles is shared by two tiles: small ones wait for their own sums.
template <bool Across, int Depth, int V, int I = tile_heights<V>::first, scalar T>
void tile_column(product<T> const& p, index_t rows, T const* a, T* c) {
  constexpr int r = tile_heights<V>::at[I];
  constexpr int known =
      r == 12 || r == 8 || r == 6 || r == 5 ? Depth : 0;  // the others are few: not worth compiling
  constexpr int next = r > 1 ? tile_heights<V>::at[I + 1] : 1;
  index_t const a_row = Across ? 1 : p.a_step, left = rows % r;
  bool const shared = rows > r && left > 0 && r + left <= 2 * next;
  index_t const tiles = rows / r - shared;
  bool done = false;
#ifdef INSULA_WHOLE_TILES_IN_ASSEMBLER
  if constexpr (simd::has_whole_tile<T, r, V, Across> && Depth == 0) {
    done = (p.last == simd::width<T> || simd::register_count == 32) && p.depth > 0 && p.count > 0;
    if (done) whole_tiles<Across, r, V>(p, tiles, a, c);
  }
#endif
  for (index_t i = 0; !done && i < tiles; ++i)
    tile<Across, known, r, V>(p, a + i * r * a_row, c + i * r * p.c_row);
  rows -= tiles * r, a += tiles * r * a_row, c += tiles * r * p.c_row;
  if constexpr (r > 1)
    if (rows > 0) tile_column<Across, Depth, V, I + 1>(p, rows, a, c);
}

/// The product for any number of rows; `registers` (1 to 4) is its width.
template <bool Across, int Depth, scalar T>
void multiply_some(product<T> const& p, int registers, index_t rows, T* c) {
  if (registers == 4) {
    if constexpr (simd::register_count == 32) tile_column<Across, Depth, 4>(p, rows, p.a, c);
  } else if (registers == 3) {
    if constexpr (simd::register_count == 32) tile_column<Across, Depth, 3>(p, rows, p.a, c);
  } else if (registers == 2) {
    tile_column<Across, Depth, 2>(p, rows, p.a, c);
  } else {
    tile_column<Across, Depth, 1>(p, rows, p.a, c);
  }
}
template <scalar T>
void multiply(product<T> const& p, int registers, index_t rows, T* c) {
  constexpr int stem = 7;                    // one row of taps of a stem that sees one channel
  if constexpr (simd::register_count == 32)  // of fewer, compilers keep some in memory once they unroll
    if (p.depth == stem) return multiply_some<false, stem>(p, registers, rows, c);
  multiply_some<false, 0>(p, registers, rows, c);
}
/// The same with the transposed A.
template <scalar T>
void multiply_across(product<T> const& p, int registers, index_t rows, T* c) {
  multiply_some<true, 0>(p, registers, rows, c);
}

/// A run of output channels as wide as one register tile.
struct panel {
  index_t from;   // first channel
  int registers;  // width in registers
  int last;       // channels in the last register

  index_t columns(int width) const { return (registers - 1) * width + last; }
};

/// Cuts `channels` into panels of three registers (two on machines with 16), avoiding a lone one at the end. `fours`: of four
/// registers, where there are 32 and `channels` is whole fours. Such tiles have few rows; they suit a long depth.
template <scalar T>
struct panels {
  static constexpr int w = simd::width<T>, most = simd::register_count == 32 ? 3 : 2;
  index_t channels, registers, each, wide, count;  // `wide` panels of `each` registers come first

  explicit panels(index_t n, bool fours = false)
      : channels(n), registers((n + w - 1) / w), each(most), wide(0), count(0) {
    if (fours && simd::register_count == 32 && registers % 4 == 0) each = 4;
    wide = registers / each;
    index_t const left = registers - wide * each;
    if (each == 3 && left == 1 && wide > 0) --wide;
    count = wide + (registers - wide * each + 1) / 2;
  }
  panel at(index_t i) const {
    index_t const first = i < wide ? i * each : wide * each + (i - wide) * 2;
    index_t const size = i < wide ? each : registers - first < 2 ? registers - first : 2;
    bool const end = first + size == registers;
    return {first * w, int(size), end ? int(channels - (registers - 1) * w) : w};
  }
};

}  // namespace insula::detail::conv
