// SPDX-License-Identifier: Apache-2.0
// The register tiles of float products on AVX-512 in assembler, from their start to their store: 8 rows by 3 registers, 12 by 2, 6 by 4.
//
// Compilers give the loop 18 instructions and more beside its 24 multiply-adds, some of which take a multiply-add's place, and
// move sums between registers if it is unrolled; around it they spill and divide (docs/decisions/0059). Sums and their order are
// those of add_products, so results are the same bits. Sanitizers, which cannot look inside, get the portable loop.
#pragma once

#include "insula/kernels/cpu/register_tile.hpp"

namespace insula::simd {

#if defined(INSULA_WHOLE_TILES_IN_ASSEMBLER) && defined(INSULA_AVX512)

// clang-format off
// Registers: sums in zmm0 to zmm23, a row of B from zmm24 on, an element of A in zmm28.
#define INSULA_B(register, offset) \
  "vmovups " #offset "(%[b]), %%zmm" #register "\n"
#define INSULA_A(element) \
  "vbroadcastss " element ", %%zmm28\n"
#define INSULA_FMA(row, sum) \
  "vfmadd231ps %%zmm" #row ", %%zmm28, %%zmm" #sum "\n"
#define INSULA_2(element, x, y) \
  INSULA_A(element) INSULA_FMA(24, x) INSULA_FMA(25, y)
#define INSULA_3(element, x, y, z) \
  INSULA_2(element, x, y) INSULA_FMA(26, z)
#define INSULA_4(element, x, y, z, u) \
  INSULA_3(element, x, y, z) INSULA_FMA(27, u)

// Element k of the rows of A: p, p3, p6 and p9 are where rows 0, 3, 6 and 9 begin, s the distance of rows.
#define INSULA_ROUND_8_3(k, o)                               \
  INSULA_B(24, o) INSULA_B(25, o + 64) INSULA_B(26, o + 128) \
  INSULA_3(#k "(%[p])", 0, 1, 2)                             \
  INSULA_3(#k "(%[p],%[s])", 3, 4, 5)                        \
  INSULA_3(#k "(%[p],%[s],2)", 6, 7, 8)                      \
  INSULA_3(#k "(%[p3])", 9, 10, 11)                          \
  INSULA_3(#k "(%[p3],%[s])", 12, 13, 14)                    \
  INSULA_3(#k "(%[p3],%[s],2)", 15, 16, 17)                  \
  INSULA_3(#k "(%[p6])", 18, 19, 20)                         \
  INSULA_3(#k "(%[p6],%[s])", 21, 22, 23)
#define INSULA_ROUND_12_2(k, o)         \
  INSULA_B(24, o) INSULA_B(25, o + 64)  \
  INSULA_2(#k "(%[p])", 0, 1)           \
  INSULA_2(#k "(%[p],%[s])", 2, 3)      \
  INSULA_2(#k "(%[p],%[s],2)", 4, 5)    \
  INSULA_2(#k "(%[p3])", 6, 7)          \
  INSULA_2(#k "(%[p3],%[s])", 8, 9)     \
  INSULA_2(#k "(%[p3],%[s],2)", 10, 11) \
  INSULA_2(#k "(%[p6])", 12, 13)        \
  INSULA_2(#k "(%[p6],%[s])", 14, 15)   \
  INSULA_2(#k "(%[p6],%[s],2)", 16, 17) \
  INSULA_2(#k "(%[p9])", 18, 19)        \
  INSULA_2(#k "(%[p9],%[s])", 20, 21)   \
  INSULA_2(#k "(%[p9],%[s],2)", 22, 23)
#define INSULA_ROUND_6_4(k, o)                                                     \
  INSULA_B(24, o) INSULA_B(25, o + 64) INSULA_B(26, o + 128) INSULA_B(27, o + 192) \
  INSULA_4(#k "(%[p])", 0, 1, 2, 3)                                                \
  INSULA_4(#k "(%[p],%[s])", 4, 5, 6, 7)                                           \
  INSULA_4(#k "(%[p],%[s],2)", 8, 9, 10, 11)                                       \
  INSULA_4(#k "(%[p3])", 12, 13, 14, 15)                                           \
  INSULA_4(#k "(%[p3],%[s])", 16, 17, 18, 19)                                      \
  INSULA_4(#k "(%[p3],%[s],2)", 20, 21, 22, 23)

// All rows of one k of the transposed A, which begins at `base`.
#define INSULA_ACROSS_8_3(base, o)                           \
  INSULA_B(24, o) INSULA_B(25, o + 64) INSULA_B(26, o + 128) \
  INSULA_3("(" base ")", 0, 1, 2)                            \
  INSULA_3("4(" base ")", 3, 4, 5)                           \
  INSULA_3("8(" base ")", 6, 7, 8)                           \
  INSULA_3("12(" base ")", 9, 10, 11)                        \
  INSULA_3("16(" base ")", 12, 13, 14)                       \
  INSULA_3("20(" base ")", 15, 16, 17)                       \
  INSULA_3("24(" base ")", 18, 19, 20)                       \
  INSULA_3("28(" base ")", 21, 22, 23)
#define INSULA_ACROSS_12_2(base, o)    \
  INSULA_B(24, o) INSULA_B(25, o + 64) \
  INSULA_2("(" base ")", 0, 1)         \
  INSULA_2("4(" base ")", 2, 3)        \
  INSULA_2("8(" base ")", 4, 5)        \
  INSULA_2("12(" base ")", 6, 7)       \
  INSULA_2("16(" base ")", 8, 9)       \
  INSULA_2("20(" base ")", 10, 11)     \
  INSULA_2("24(" base ")", 12, 13)     \
  INSULA_2("28(" base ")", 14, 15)     \
  INSULA_2("32(" base ")", 16, 17)     \
  INSULA_2("36(" base ")", 18, 19)     \
  INSULA_2("40(" base ")", 20, 21)     \
  INSULA_2("44(" base ")", 22, 23)

// What is asked for in one round, and in two.
#define INSULA_ASK_1 \
  "prefetcht1 (%[r])\n add %[rs], %[r]\n prefetchw (%[w])\n add %[ws], %[w]\n"
#define INSULA_ASK_2                                                         \
  "prefetcht1 (%[r])\n prefetcht1 (%[r],%[rs])\n lea (%[r],%[rs],2), %[r]\n" \
  "prefetchw (%[w])\n prefetchw (%[w],%[ws])\n lea (%[w],%[ws],2), %[w]\n"

// All rows of a matrix, from [at] on and [n] apart, and what is done with each.
#define INSULA_NEXT_3 \
  "lea (%[at],%[n],2), %[at]\n add %[n], %[at]\n"
#define INSULA_ROWS_8_3(f)                                                                        \
  f("(%[at])", 0, 1, 2) f("(%[at],%[n])", 3, 4, 5) f("(%[at],%[n],2)", 6, 7, 8) INSULA_NEXT_3     \
  f("(%[at])", 9, 10, 11) f("(%[at],%[n])", 12, 13, 14) f("(%[at],%[n],2)", 15, 16, 17) INSULA_NEXT_3 \
  f("(%[at])", 18, 19, 20) f("(%[at],%[n])", 21, 22, 23)
#define INSULA_ROWS_12_2(f)                                                                 \
  f("(%[at])", 0, 1) f("(%[at],%[n])", 2, 3) f("(%[at],%[n],2)", 4, 5) INSULA_NEXT_3        \
  f("(%[at])", 6, 7) f("(%[at],%[n])", 8, 9) f("(%[at],%[n],2)", 10, 11) INSULA_NEXT_3      \
  f("(%[at])", 12, 13) f("(%[at],%[n])", 14, 15) f("(%[at],%[n],2)", 16, 17) INSULA_NEXT_3  \
  f("(%[at])", 18, 19) f("(%[at],%[n])", 20, 21) f("(%[at],%[n],2)", 22, 23)
#define INSULA_ROWS_6_4(f)                                                                              \
  f("(%[at])", 0, 1, 2, 3) f("(%[at],%[n])", 4, 5, 6, 7) f("(%[at],%[n],2)", 8, 9, 10, 11) INSULA_NEXT_3 \
  f("(%[at])", 12, 13, 14, 15) f("(%[at],%[n])", 16, 17, 18, 19) f("(%[at],%[n],2)", 20, 21, 22, 23)
#define INSULA_LOAD_2(at, x, y) \
  "vmovups " at ", %%zmm" #x "\n" "vmovups " "64" at ", %%zmm" #y "\n"
#define INSULA_LOAD_3(at, x, y, z) \
  INSULA_LOAD_2(at, x, y) "vmovups " "128" at ", %%zmm" #z "\n"
#define INSULA_LOAD_4(at, x, y, z, u) \
  INSULA_LOAD_3(at, x, y, z) "vmovups " "192" at ", %%zmm" #u "\n"
#define INSULA_ADD_2(at, x, y) \
  "vaddps " at ", %%zmm" #x ", %%zmm" #x "\n" "vaddps " "64" at ", %%zmm" #y ", %%zmm" #y "\n"
#define INSULA_ADD_3(at, x, y, z) \
  INSULA_ADD_2(at, x, y) "vaddps " "128" at ", %%zmm" #z ", %%zmm" #z "\n"
#define INSULA_ADD_4(at, x, y, z, u) \
  INSULA_ADD_3(at, x, y, z) "vaddps " "192" at ", %%zmm" #u ", %%zmm" #u "\n"
#define INSULA_STORE_2(at, x, y) \
  "vmovups %%zmm" #x ", " at "\n" "vmovups %%zmm" #y ", " "64" at "\n"
#define INSULA_STORE_3(at, x, y, z) \
  INSULA_STORE_2(at, x, y) "vmovups %%zmm" #z ", " "128" at "\n"
#define INSULA_STORE_4(at, x, y, z, u) \
  INSULA_STORE_3(at, x, y, z) "vmovups %%zmm" #u ", " "192" at "\n"

#define INSULA_START(size, v) \
  "mov %[start], %[at]\n mov %[start_row], %[n]\n" INSULA_ROWS_##size(INSULA_LOAD_##v)
#define INSULA_END(size, v)                                                                       \
  "mov %[rest], %[at]\n test %[at], %[at]\n jz 7f\n"                                              \
  "mov %[rest_row], %[n]\n" INSULA_ROWS_##size(INSULA_ADD_##v)                                    \
  "7:\n mov %[c], %[at]\n mov %[c_row], %[n]\n" INSULA_ROWS_##size(INSULA_STORE_##v)

// The products of one stretch. bases: p3, p6 and p9 from p and n = 3 s; four: four rounds; one: one round; on4 and on1: how the
// bases go on after them; line: bytes of a row of B.
#define INSULA_PRODUCTS(bases, four, on4, one, on1, line) \
  "lea (%[s],%[s],2), %[n]\n" bases                       \
  "mov %[d], %[n]\n shr $2, %[n]\n jz 2f\n"               \
  ".p2align 5\n"                                          \
  "1:\n" four on4                                         \
  "add $4*" #line ", %[b]\n dec %[n]\n jnz 1b\n"          \
  "2:\n"                                                  \
  "mov %[d], %[n]\n and $3, %[n]\n jz 4f\n"               \
  "3:\n" one INSULA_ASK_1 on1                             \
  "add $" #line ", %[b]\n dec %[n]\n jnz 3b\n"            \
  "4:\n"
#define INSULA_PRODUCTS_8_3                                                              \
  INSULA_PRODUCTS("lea (%[p],%[n]), %[p3]\n lea (%[p],%[n],2), %[p6]\n",                 \
                  INSULA_ROUND_8_3(0, 0) INSULA_ASK_2 INSULA_ROUND_8_3(4, 192)           \
                  INSULA_ROUND_8_3(8, 384) INSULA_ASK_2 INSULA_ROUND_8_3(12, 576),       \
                  "add $16, %[p]\n add $16, %[p3]\n add $16, %[p6]\n",                   \
                  INSULA_ROUND_8_3(0, 0), "add $4, %[p]\n add $4, %[p3]\n add $4, %[p6]\n", 192)
#define INSULA_PRODUCTS_12_2                                                             \
  INSULA_PRODUCTS("lea (%[p],%[n]), %[p3]\n lea (%[p],%[n],2), %[p6]\n lea (%[p6],%[n]), %[p9]\n", \
                  INSULA_ROUND_12_2(0, 0) INSULA_ASK_2 INSULA_ROUND_12_2(4, 128)         \
                  INSULA_ROUND_12_2(8, 256) INSULA_ASK_2 INSULA_ROUND_12_2(12, 384),     \
                  "add $16, %[p]\n add $16, %[p3]\n add $16, %[p6]\n add $16, %[p9]\n",  \
                  INSULA_ROUND_12_2(0, 0), "add $4, %[p]\n add $4, %[p3]\n add $4, %[p6]\n add $4, %[p9]\n", 128)
#define INSULA_PRODUCTS_6_4                                                              \
  INSULA_PRODUCTS("lea (%[p],%[n]), %[p3]\n",                                            \
                  INSULA_ROUND_6_4(0, 0) INSULA_ASK_2 INSULA_ROUND_6_4(4, 256)           \
                  INSULA_ROUND_6_4(8, 512) INSULA_ASK_2 INSULA_ROUND_6_4(12, 768),       \
                  "add $16, %[p]\n add $16, %[p3]\n",                                    \
                  INSULA_ROUND_6_4(0, 0), "add $4, %[p]\n add $4, %[p3]\n", 256)
// p3 is three rows of the transposed A further on, p6 four of their steps.
#define INSULA_PRODUCTS_ACROSS_8_3                                                          \
  INSULA_PRODUCTS("lea (%[p],%[n]), %[p3]\n lea (,%[s],4), %[p6]\n",                        \
                  INSULA_ACROSS_8_3("%[p]", 0) INSULA_ASK_2 INSULA_ACROSS_8_3("%[p],%[s]", 192) \
                  INSULA_ACROSS_8_3("%[p],%[s],2", 384) INSULA_ASK_2 INSULA_ACROSS_8_3("%[p3]", 576), \
                  "add %[p6], %[p]\n add %[p6], %[p3]\n", INSULA_ACROSS_8_3("%[p]", 0), "add %[s], %[p]\n", 192)
#define INSULA_PRODUCTS_ACROSS_12_2                                                         \
  INSULA_PRODUCTS("lea (%[p],%[n]), %[p3]\n lea (,%[s],4), %[p6]\n",                        \
                  INSULA_ACROSS_12_2("%[p]", 0) INSULA_ASK_2 INSULA_ACROSS_12_2("%[p],%[s]", 128) \
                  INSULA_ACROSS_12_2("%[p],%[s],2", 256) INSULA_ASK_2 INSULA_ACROSS_12_2("%[p3]", 384), \
                  "add %[p6], %[p]\n add %[p6], %[p3]\n", INSULA_ACROSS_12_2("%[p]", 0), "add %[s], %[p]\n", 128)

#define INSULA_EACH_STRETCH(products)                    \
  "5:\n"                                                 \
  "mov (%[next]), %[n]\n mov %[a], %[p]\n lea (%[p],%[n],4), %[p]\n"      \
  "mov 8(%[next]), %[n]\n mov %[from], %[b]\n lea (%[b],%[n],4), %[b]\n"  \
  "mov 16(%[next]), %[n]\n mov %[read], %[r]\n lea (%[r],%[n],4), %[r]\n" \
  products                                               \
  "add $24, %[next]\n cmp %[end], %[next]\n jne 5b\n"
// By their full names: else clang does not clear the upper halves at the end.
#define INSULA_CLOBBERED                                                                                                    \
  "memory", "cc", "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11",         \
  "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21", "zmm22", "zmm23", "zmm24",      \
  "zmm25", "zmm26", "zmm27", "zmm28"
#define INSULA_EDGES                                                                                  \
  [start] "m"(start), [start_row] "m"(start_row), [c] "m"(c), [c_row] "m"(row), [rest] "m"(rest),      \
  [rest_row] "m"(rest_row), [d] "m"(depth), [s] "r"(step), [rs] "r"(read_step), [ws] "r"(written_step)

#define INSULA_P6 , [p6] "=&r"(p6)
#define INSULA_P9 INSULA_P6, [p9] "=&r"(p9)
#define INSULA_EACH_SIZE                                                                                        \
  if constexpr (R == 8 && !Across)                                                                              \
    INSULA_TILE(INSULA_START(8_3, 3), INSULA_PRODUCTS_8_3, INSULA_END(8_3, 3), INSULA_P6);                       \
  else if constexpr (R == 12 && !Across)                                                                        \
    INSULA_TILE(INSULA_START(12_2, 2), INSULA_PRODUCTS_12_2, INSULA_END(12_2, 2), INSULA_P9);                    \
  else if constexpr (R == 6)                                                                                    \
    INSULA_TILE(INSULA_START(6_4, 4), INSULA_PRODUCTS_6_4, INSULA_END(6_4, 4));                                  \
  else if constexpr (R == 8)                                                                                    \
    INSULA_TILE(INSULA_START(8_3, 3), INSULA_PRODUCTS_ACROSS_8_3, INSULA_END(8_3, 3), INSULA_P6);                \
  else                                                                                                          \
    INSULA_TILE(INSULA_START(12_2, 2), INSULA_PRODUCTS_ACROSS_12_2, INSULA_END(12_2, 2), INSULA_P6);

/// C[r, 0 .. V registers) = start[r, 0 .. V registers) + sum over k < depth of A[r, k] B[k V registers ..], + rest[r], for r < R.
/// A is a[r a_step + k], or a[k a_step + r] if Across. `ahead` is what to ask for with every round: both
/// places are given, and may stay where they are.
template <int R, int V, bool Across>
INSULA_INLINE void whole_tile(index_t depth, float const* a, index_t a_step, float const* b, tile_results to,
                              asked_for<float> ahead) {
  static_assert(has_whole_tile<float, R, V, Across>);
  index_t p3, p6, p9, n, at, step = 4 * a_step, start_row = 4 * to.start_row, row = 4 * to.c_row, rest_row = 4 * to.rest_row;
  index_t const read_step = 4 * ahead.read_step, written_step = 4 * ahead.written_step;
  float const *const start = to.start, *const rest = to.rest;  // clang takes a register for each part of a struct in memory
  float* const c = to.c;
  (void)p6, (void)p9;
#define INSULA_TILE(first, products, last, ...)                                              \
  asm volatile(first products last                                                           \
      : [p] "+&r"(a), [b] "+&r"(b), [r] "+&r"(ahead.read), [w] "+&r"(ahead.written), [n] "=&r"(n), [at] "=&r"(at), [p3] "=&r"(p3) __VA_ARGS__ \
      : INSULA_EDGES : INSULA_CLOBBERED)
  INSULA_EACH_SIZE
#undef INSULA_TILE
}

/// The sum over stretches [next, end), one at least, of such products of A and B from their offsets on. With every round is asked for
/// a line to read, of every stretch from read + its `ahead` on, and for one to write; both are given.
template <int R, int V, bool Across>
INSULA_INLINE void whole_tile(stretch const* next, stretch const* end, index_t depth, float const* a, index_t a_step, float const* b,
                              tile_results to, asked_for<float> ahead) {
  static_assert(has_whole_tile<float, R, V, Across>);
  float const *p, *from, *r, *const read = ahead.read;
  index_t p3, p6, p9, n, at, step = 4 * a_step, start_row = 4 * to.start_row, row = 4 * to.c_row, rest_row = 4 * to.rest_row;
  index_t const read_step = 4 * ahead.read_step, written_step = 4 * ahead.written_step;
  float const *const start = to.start, *const rest = to.rest;  // clang takes a register for each part of a struct in memory
  float* const c = to.c;
  (void)p6, (void)p9;
#define INSULA_TILE(first, products, last, ...)                                              \
  asm volatile(first INSULA_EACH_STRETCH(products) last                                      \
      : [p] "=&r"(p), [b] "=&r"(from), [r] "=&r"(r), [w] "+&r"(ahead.written), [n] "=&r"(n), [next] "+&r"(next), [at] "=&r"(at), [p3] "=&r"(p3) __VA_ARGS__ \
      : INSULA_EDGES, [a] "m"(a), [from] "m"(b), [read] "m"(read), [end] "m"(end) : INSULA_CLOBBERED)
  INSULA_EACH_SIZE
#undef INSULA_TILE
}
#undef INSULA_B
#undef INSULA_A
#undef INSULA_FMA
#undef INSULA_2
#undef INSULA_3
#undef INSULA_4
#undef INSULA_ROUND_8_3
#undef INSULA_ROUND_12_2
#undef INSULA_ROUND_6_4
#undef INSULA_ACROSS_8_3
#undef INSULA_ACROSS_12_2
#undef INSULA_ASK_1
#undef INSULA_ASK_2
#undef INSULA_NEXT_3
#undef INSULA_ROWS_8_3
#undef INSULA_ROWS_12_2
#undef INSULA_ROWS_6_4
#undef INSULA_LOAD_2
#undef INSULA_LOAD_3
#undef INSULA_LOAD_4
#undef INSULA_ADD_2
#undef INSULA_ADD_3
#undef INSULA_ADD_4
#undef INSULA_STORE_2
#undef INSULA_STORE_3
#undef INSULA_STORE_4
#undef INSULA_START
#undef INSULA_END
#undef INSULA_PRODUCTS
#undef INSULA_PRODUCTS_8_3
#undef INSULA_PRODUCTS_12_2
#undef INSULA_PRODUCTS_6_4
#undef INSULA_PRODUCTS_ACROSS_8_3
#undef INSULA_PRODUCTS_ACROSS_12_2
#undef INSULA_EACH_STRETCH
#undef INSULA_CLOBBERED
#undef INSULA_EDGES
#undef INSULA_P6
#undef INSULA_P9
#undef INSULA_EACH_SIZE
// clang-format on

#endif

}  // namespace insula::simd
