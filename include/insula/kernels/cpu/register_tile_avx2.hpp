// SPDX-License-Identifier: Apache-2.0
// The register tile of float products on AVX2 in assembler: 6 rows by 2 registers, from its start to its store.
//
// Compilers make as good a loop of add_products as this one; what they put before and after it, sums that are spilled and addresses that
// are computed again, takes longer (docs/decisions/0058). Sums and their order are those of add_products, so results are the same bits.
// Sanitizers, which cannot look inside, get the portable loop.
#pragma once

#include "insula/kernels/cpu/register_tile.hpp"

namespace insula::simd {

#if defined(INSULA_WHOLE_TILES_IN_ASSEMBLER) && !defined(INSULA_AVX512)

// clang-format off
// Registers: sums in ymm0 to ymm11, a row of B in ymm12 and ymm13, an element of A in ymm14 or ymm15.
#define INSULA_B(o) \
  "vmovups " #o "(%[b]), %%ymm12\n vmovups 32+" #o "(%[b]), %%ymm13\n"
#define INSULA_2(element, by, x, y)                                            \
  "vbroadcastss " element ", %%ymm" #by "\n"                                   \
  "vfmadd231ps %%ymm12, %%ymm" #by ", %%ymm" #x "\n"                           \
  "vfmadd231ps %%ymm13, %%ymm" #by ", %%ymm" #y "\n"

// Element k of the rows of A: p and p3 are where rows 0 and 3 begin, s the distance of rows.
#define INSULA_ROUND(k, o)                                                     \
  INSULA_B(o)                                                                  \
  INSULA_2(#k "(%[p])", 14, 0, 1) INSULA_2(#k "(%[p],%[s])", 15, 2, 3)         \
  INSULA_2(#k "(%[p],%[s],2)", 14, 4, 5) INSULA_2(#k "(%[p3])", 15, 6, 7)      \
  INSULA_2(#k "(%[p3],%[s])", 14, 8, 9) INSULA_2(#k "(%[p3],%[s],2)", 15, 10, 11)
// All rows of one k of the transposed A, which begins at `base`.
#define INSULA_ACROSS(base, o)                                                 \
  INSULA_B(o)                                                                  \
  INSULA_2("(" base ")", 14, 0, 1) INSULA_2("4(" base ")", 15, 2, 3)           \
  INSULA_2("8(" base ")", 14, 4, 5) INSULA_2("12(" base ")", 15, 6, 7)         \
  INSULA_2("16(" base ")", 14, 8, 9) INSULA_2("20(" base ")", 15, 10, 11)
// What is asked for in four rounds.
#define INSULA_ASK                                                             \
  "prefetcht1 (%[r])\n prefetcht1 (%[r],%[rs],2)\n lea (%[r],%[rs],4), %[r]\n" \
  "prefetchw (%[w])\n prefetchw (%[w],%[ws],2)\n lea (%[w],%[ws],4), %[w]\n"
// Sums to memory, or memory to sums: rows from `base` and, three rows on, from `base3`, `step` apart.
#define INSULA_EACH_ROW(f, base, base3, step)                                  \
  f(0, 1, "(%[" base "])") f(2, 3, "(%[" base "],%[" step "])")                \
  f(4, 5, "(%[" base "],%[" step "],2)") f(6, 7, "(%[" base3 "])")             \
  f(8, 9, "(%[" base3 "],%[" step "])") f(10, 11, "(%[" base3 "],%[" step "],2)")
#define INSULA_LOAD(x, y, at) \
  "vmovups " at ", %%ymm" #x "\n vmovups 32" at ", %%ymm" #y "\n"
#define INSULA_ADD(x, y, at)                                                   \
  "vaddps " at ", %%ymm" #x ", %%ymm" #x "\n vaddps 32" at ", %%ymm" #y ", %%ymm" #y "\n"
#define INSULA_STORE(x, y, at) \
  "vmovups %%ymm" #x ", " at "\n vmovups %%ymm" #y ", 32" at "\n"

#define INSULA_START                                                           \
  "mov %[start_row], %[n]\n"                                                   \
  INSULA_LOAD(0, 1, "(%[p3])") INSULA_LOAD(2, 3, "(%[p3],%[n])") INSULA_LOAD(4, 5, "(%[p3],%[n],2)") \
  "lea (%[p3],%[n],2), %[p3]\n add %[n], %[p3]\n"                              \
  INSULA_LOAD(6, 7, "(%[p3])") INSULA_LOAD(8, 9, "(%[p3],%[n])") INSULA_LOAD(10, 11, "(%[p3],%[n],2)")
// four: four rounds, one: one; on4 and on1: how A goes on after them.
#define INSULA_PRODUCTS(four, on4, one, on1)                                   \
  "lea (%[s],%[s],2), %[p3]\n add %[p], %[p3]\n"                               \
  "mov %[d], %[n]\n shr $2, %[n]\n jz 2f\n"                                    \
  ".p2align 5\n"                                                               \
  "1:\n" four on4 "add $256, %[b]\n dec %[n]\n jnz 1b\n"                       \
  "2:\n"                                                                       \
  "mov %[d], %[n]\n and $3, %[n]\n jz 4f\n"                                    \
  "3:\n" one on1 "add $64, %[b]\n dec %[n]\n jnz 3b\n"                         \
  "4:\n"
#define INSULA_ROWS(ask)                                                       \
  INSULA_PRODUCTS(INSULA_ROUND(0, 0) ask INSULA_ROUND(4, 64) INSULA_ROUND(8, 128) INSULA_ROUND(12, 192), \
                  "add $16, %[p]\n add $16, %[p3]\n", INSULA_ROUND(0, 0), "add $4, %[p]\n add $4, %[p3]\n")
#define INSULA_COLUMNS(ask)                                                    \
  INSULA_PRODUCTS(INSULA_ACROSS("%[p]", 0) ask INSULA_ACROSS("%[p],%[s]", 64)  \
                  INSULA_ACROSS("%[p],%[s],2", 128) INSULA_ACROSS("%[p3]", 192), \
                  "lea (%[p],%[s],4), %[p]\n lea (%[p3],%[s],4), %[p3]\n", INSULA_ACROSS("%[p]", 0), "add %[s], %[p]\n")
#define INSULA_END                                                             \
  "mov %[rest], %[p]\n test %[p], %[p]\n jz 5f\n"                              \
  "mov %[rest_row], %[n]\n lea (%[n],%[n],2), %[p3]\n add %[p], %[p3]\n"       \
  INSULA_EACH_ROW(INSULA_ADD, "p", "p3", "n")                                  \
  "5:\n"                                                                       \
  "lea (%[cs],%[cs],2), %[p]\n add %[c], %[p]\n"                               \
  INSULA_EACH_ROW(INSULA_STORE, "c", "p", "cs")
#define INSULA_EACH_STRETCH(products)                                          \
  "6:\n"                                                                       \
  "mov (%[at]), %[p]\n lea (%[a],%[p],4), %[p]\n"                              \
  "mov 8(%[at]), %[b]\n lea (%[from],%[b],4), %[b]\n"                          \
  products                                                                     \
  "add $24, %[at]\n cmp %[end], %[at]\n jne 6b\n"
// By their full names: else clang does not clear the upper halves at the end, for which Intel's processors pay later.
#define INSULA_CLOBBERED                                                       \
  "memory", "cc", "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11", "ymm12", \
  "ymm13", "ymm14", "ymm15"

/// C[r, 0 .. 2 registers) = start[r, 0 .. 2 registers) + sum over k < depth of A[r, k] B[k 2 registers ..], + rest[r], for r < 6.
/// A is a[r a_step + k], or a[k a_step + r] if Across. `ahead` is what to ask for with every four rounds, if there is something to
/// read; with the up to three at the end nothing is.
template <int R, int V, bool Across>
INSULA_INLINE void whole_tile(index_t depth, float const* a, index_t a_step, float const* b, tile_results to,
                              asked_for<float> ahead) {
  static_assert(has_whole_tile<float, R, V, Across>);
  index_t n, step = 4 * a_step, start_row = 4 * to.start_row, row = 4 * to.c_row, rest_row = 4 * to.rest_row;
  float const* start = to.start;
  index_t const read = 4 * ahead.read_step, written = 4 * ahead.written_step;
#define INSULA_TILE(products)                                                  \
  asm volatile(INSULA_START products INSULA_END                                \
      : [p] "+&r"(a), [p3] "+&r"(start), [b] "+&r"(b), [n] "=&r"(n)               \
      : [d] "m"(depth), [s] "r"(step), [c] "r"(to.c), [cs] "r"(row), [rest] "m"(to.rest), [rest_row] "m"(rest_row), [start_row] "m"(start_row) \
      : INSULA_CLOBBERED)
#define INSULA_TILE_ASKING(products)                                           \
  asm volatile(INSULA_START products INSULA_END                                \
      : [p] "+&r"(a), [p3] "+&r"(start), [b] "+&r"(b), [n] "=&r"(n), [r] "+&r"(ahead.read), [w] "+&r"(ahead.written) \
      : [d] "m"(depth), [s] "r"(step), [c] "r"(to.c), [cs] "r"(row), [rest] "m"(to.rest), [rest_row] "m"(rest_row), [start_row] "m"(start_row), \
        [rs] "r"(read), [ws] "r"(written)                                      \
      : INSULA_CLOBBERED)
  if constexpr (Across) {
    if (ahead.read)
      INSULA_TILE_ASKING(INSULA_COLUMNS(INSULA_ASK));
    else
      INSULA_TILE(INSULA_COLUMNS());
  } else {
    if (ahead.read)
      INSULA_TILE_ASKING(INSULA_ROWS(INSULA_ASK));
    else
      INSULA_TILE(INSULA_ROWS());
  }
}

/// The sum over stretches [at, end), one at least, of such products of A and B from their offsets on; nothing is asked for.
template <int R, int V, bool Across>
INSULA_INLINE void whole_tile(stretch const* at, stretch const* end, index_t depth, float const* a, index_t a_step, float const* b,
                              tile_results to, asked_for<float> const&) {
  static_assert(has_whole_tile<float, R, V, Across>);
  index_t n, step = 4 * a_step, start_row = 4 * to.start_row, row = 4 * to.c_row, rest_row = 4 * to.rest_row;
  float const *p, *from, *start = to.start;
#define INSULA_TILE_OF_STRETCHES(products)                                     \
  asm volatile(INSULA_START INSULA_EACH_STRETCH(products) INSULA_END           \
      : [p] "=&r"(p), [p3] "+&r"(start), [b] "=&r"(from), [n] "=&r"(n), [at] "+&r"(at) \
      : [a] "r"(a), [from] "r"(b), [end] "m"(end), [d] "m"(depth), [s] "r"(step), [c] "r"(to.c), [cs] "r"(row), \
        [rest] "m"(to.rest), [rest_row] "m"(rest_row), [start_row] "m"(start_row)                          \
      : INSULA_CLOBBERED)
  if constexpr (Across)
    INSULA_TILE_OF_STRETCHES(INSULA_COLUMNS());
  else
    INSULA_TILE_OF_STRETCHES(INSULA_ROWS());
}
#undef INSULA_B
#undef INSULA_2
#undef INSULA_ROUND
#undef INSULA_ACROSS
#undef INSULA_ASK
#undef INSULA_LOAD
#undef INSULA_EACH_ROW
#undef INSULA_ADD
#undef INSULA_STORE
#undef INSULA_START
#undef INSULA_PRODUCTS
#undef INSULA_ROWS
#undef INSULA_COLUMNS
#undef INSULA_END
#undef INSULA_EACH_STRETCH
#undef INSULA_TILE
#undef INSULA_TILE_ASKING
#undef INSULA_TILE_OF_STRETCHES
#undef INSULA_CLOBBERED
// clang-format on

#endif

}  // namespace insula::simd
