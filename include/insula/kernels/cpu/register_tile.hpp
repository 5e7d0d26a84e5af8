// SPDX-License-Identifier: Apache-2.0
// The innermost loop of all matrix products: a tile of sums in registers meets rows of the right operand.
#pragma once

#include "insula/kernels/cpu/simd.hpp"

#if defined(INSULA_ASSEMBLER) && (defined(INSULA_AVX512) || defined(INSULA_AVX2))
#define INSULA_WHOLE_TILES_IN_ASSEMBLER 1
#endif

namespace insula::simd {

/// Addresses of R rows, `step` elements apart. Of more than eight, every third one's, from which the machine's scaled index
/// reaches two more; compilers are kept from knowing how these are related, else they find R addresses, which do not fit the
/// registers.
template <int R, class P>
struct row_addresses {
  static constexpr int each = R > 8 ? 3 : R, count = (R + each - 1) / each;
  P base[count];
  index_t step;

  INSULA_INLINE row_addresses(P first, index_t row_step) : base{first}, step(row_step) {
    if constexpr (count > 1) {
#pragma GCC unroll 8
      for (int j = 1; j < count; ++j) {
        base[j] = base[j - 1] + each * step;
        asm("" : "+r"(base[j]));
      }
    }
  }
  INSULA_INLINE P at(int r) const { return base[r / each] + r % each * step; }
  INSULA_INLINE void advance(index_t by) {
#pragma GCC unroll 8
    for (int j = 0; j < count; ++j) base[j] += by;
  }
};

/// Offsets, in elements, of one stretch of a product's depth in A and in B, and of what is asked for meanwhile: -1 for nothing, which
/// asks for what lies there.
struct stretch {
  index_t a, b, ahead = -1;
};
static_assert(sizeof(index_t) == 8 && sizeof(stretch) == 24);  // assembler reads it

/// Two places in memory, of which one will be read and one written, and by how many elements they go on in every round of a
/// product. Asking costs instructions, which AVX-512 has to spare in every round and others in every fourth.
template <scalar T>
struct asked_for {
  static constexpr int rounds = register_count == 32 ? 1 : 4;
  T const* read = nullptr;
  index_t read_step = 0;
  T* written = nullptr;
  index_t written_step = 0;

  INSULA_INLINE void ask() {
    __builtin_prefetch(read, 0, 2);
    __builtin_prefetch(written, 1);
    if constexpr (rounds > 1) {  // steps are as a rule two lines then
      __builtin_prefetch(read + rounds / 2 * read_step, 0, 2);
      __builtin_prefetch(written + rounds / 2 * written_step, 1);
    }
    read += rounds * read_step, written += rounds * written_step;
  }
};

/// sum[r][v] += sum over k < depth of A[r, k] b[k b_row + v width ..]; A is a[r a_step + k], or a[k a_step + r] if Across.
/// Packed: b_row is V registers. Depth > 0: the depth, if it is known; then there is no loop whose end is guessed wrong.
/// `ahead`: what to bring into the caches meanwhile, a little in every round: a burst would wait for itself.
template <int R, int V, bool Across, bool Packed, int Depth = 0, scalar T>
INSULA_INLINE void add_products(index_t depth, T const* a, index_t a_step, T const* b, index_t b_row,
                                pack<T> (&sum)[R][V], asked_for<T> ahead = {}) {
  constexpr int w = width<T>;
  row_addresses<Across ? 1 : R, T const*> rows(a, Across ? index_t{1} : a_step);
  auto const one = [&](int k) {
    T const* const from = Packed ? b + k * V * w : b;
    pack<T> row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = load(from + v * w);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      pack<T> const x = broadcast(Across ? rows.at(0)[r] : rows.at(r)[k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = fma(x, row[v], sum[r][v]);
    }
    if (Across) rows.advance(a_step);
    if (!Packed) b += b_row;
  };
  if constexpr (Depth > 0) {
#pragma GCC unroll 16
    for (int k = 0; k < Depth; ++k) one(k);
  } else {
    auto const some = [&](index_t rounds) {
      for (index_t k = 0; k < rounds; ++k) {
        one(0);
        if (!Across) rows.advance(1);
        if (Packed) b += V * w;
      }
    };
    constexpr int rounds = asked_for<T>::rounds;
    if (!ahead.read) return some(depth);
    for (index_t k = 0; k < depth; k += rounds)
      ahead.ask(), some(rounds > 1 && depth - k < rounds ? depth - k : rounds);
  }
}

/// What a tile's sums start from and where its results go, rows of C; what is added to them last: rows of `rest`, if there is one.
struct tile_results {
  float const* start;
  index_t start_row;
  float* c;
  index_t c_row;
  float const* rest = nullptr;
  index_t rest_row = 0;
};

/// Whether whole_tile exists for R x V registers of T (register_tile_avx2.hpp, register_tile_avx512.hpp).
template <scalar T, int R, int V, bool Across = false>
inline constexpr bool has_whole_tile =
#ifndef INSULA_WHOLE_TILES_IN_ASSEMBLER
    false;
#elif defined(INSULA_AVX512)
    sizeof(T) == 4 && ((R == 8 && V == 3) || (R == 12 && V == 2) || (R == 6 && V == 4 && !Across));
#else
    sizeof(T) == 4 && R == 6 && V == 2;
#endif

}  // namespace insula::simd
