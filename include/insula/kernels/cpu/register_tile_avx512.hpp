// SPDX-License-Identifier: Apache-2.0
// The register tiles of float products on AVX-512 in assembler: 8 rows by 3 registers, 12 by 2, 6 by 4.
//
// Compilers give this loop 18 instructions and more beside its 24 multiply-adds, some of which take a multiply-add's place, and
// move sums between registers if it is unrolled. Written out it is 5 to 7 % faster (bench_kernels_gemm, panel). Sums and their
// order are those of add_products, so results are the same bits. Sanitizers, which cannot look inside, get the portable loop.
#pragma once

#include "insula/kernels/cpu/register_tile.hpp"

#if defined(INSULA_AVX512) && defined(INSULA_ASSEMBLER)
#define INSULA_TILES_IN_ASSEMBLER 1
#endif

namespace insula::simd {

/// Whether sum_tile exists for R x V registers of T.
template <scalar T, int R, int V, bool Across>
inline constexpr bool has_sum_tile =
#ifdef INSULA_TILES_IN_ASSEMBLER
    sizeof(T) == 4 && ((R == 8 && V == 3) || (R == 12 && V == 2) || (R == 6 && V == 4 && !Across));
#else
    false;
#endif

/// C[r, 0 .. V registers) = start[0 .. V registers) + sum over the stretches s and k < depth of
///   A[s.a + r a_step + k] B[s.b + k V registers ..],   or with A[s.a + r + k a_step] if Across.
/// Every round asks for a line to read, of every stretch from read[s.ahead] on, and for one to write, see asked_for; both may stay
/// where they are. The assembler reads this by offsets; steps and rows are in bytes.
struct tile_sums {
  float const* a;
  index_t a_step;
  float const* b;
  stretch const *at, *end;
  index_t depth;  // > 0
  float const* start;
  float* c;
  index_t c_row;
  float const* read;
  index_t read_step;
  float* written;
  index_t written_step;
};
static_assert(sizeof(tile_sums) == 104);

#ifdef INSULA_TILES_IN_ASSEMBLER

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

// All rows begin as the same registers.
#define INSULA_LOAD(register, offset) \
  "vmovups " #offset "(%[t]), %%zmm" #register "\n"
#define INSULA_COPY(from, to) \
  "vmovaps %%zmm" #from ", %%zmm" #to "\n"
#define INSULA_START_2                                                                           \
  INSULA_LOAD(0, 0) INSULA_LOAD(1, 64)                                                           \
  INSULA_COPY(0, 2) INSULA_COPY(1, 3) INSULA_COPY(0, 4) INSULA_COPY(1, 5) INSULA_COPY(0, 6)      \
  INSULA_COPY(1, 7) INSULA_COPY(0, 8) INSULA_COPY(1, 9) INSULA_COPY(0, 10) INSULA_COPY(1, 11)    \
  INSULA_COPY(0, 12) INSULA_COPY(1, 13) INSULA_COPY(0, 14) INSULA_COPY(1, 15) INSULA_COPY(0, 16) \
  INSULA_COPY(1, 17) INSULA_COPY(0, 18) INSULA_COPY(1, 19) INSULA_COPY(0, 20) INSULA_COPY(1, 21) \
  INSULA_COPY(0, 22) INSULA_COPY(1, 23)
#define INSULA_START_3                                                                           \
  INSULA_LOAD(0, 0) INSULA_LOAD(1, 64) INSULA_LOAD(2, 128)                                       \
  INSULA_COPY(0, 3) INSULA_COPY(1, 4) INSULA_COPY(2, 5) INSULA_COPY(0, 6) INSULA_COPY(1, 7)      \
  INSULA_COPY(2, 8) INSULA_COPY(0, 9) INSULA_COPY(1, 10) INSULA_COPY(2, 11) INSULA_COPY(0, 12)   \
  INSULA_COPY(1, 13) INSULA_COPY(2, 14) INSULA_COPY(0, 15) INSULA_COPY(1, 16) INSULA_COPY(2, 17) \
  INSULA_COPY(0, 18) INSULA_COPY(1, 19) INSULA_COPY(2, 20) INSULA_COPY(0, 21) INSULA_COPY(1, 22) \
  INSULA_COPY(2, 23)
#define INSULA_START_4                                                                           \
  INSULA_LOAD(0, 0) INSULA_LOAD(1, 64) INSULA_LOAD(2, 128) INSULA_LOAD(3, 192)                   \
  INSULA_COPY(0, 4) INSULA_COPY(1, 5) INSULA_COPY(2, 6) INSULA_COPY(3, 7) INSULA_COPY(0, 8)      \
  INSULA_COPY(1, 9) INSULA_COPY(2, 10) INSULA_COPY(3, 11) INSULA_COPY(0, 12) INSULA_COPY(1, 13)  \
  INSULA_COPY(2, 14) INSULA_COPY(3, 15) INSULA_COPY(0, 16) INSULA_COPY(1, 17) INSULA_COPY(2, 18) \
  INSULA_COPY(3, 19) INSULA_COPY(0, 20) INSULA_COPY(1, 21) INSULA_COPY(2, 22) INSULA_COPY(3, 23)

#define INSULA_STORE(register, offset) \
  "vmovups %%zmm" #register ", " #offset "(%[t])\n"
#define INSULA_NEXT_ROW \
  "add %[s], %[t]\n"
#define INSULA_ROWS_2                                      \
  INSULA_STORE(0, 0) INSULA_STORE(1, 64) INSULA_NEXT_ROW   \
  INSULA_STORE(2, 0) INSULA_STORE(3, 64) INSULA_NEXT_ROW   \
  INSULA_STORE(4, 0) INSULA_STORE(5, 64) INSULA_NEXT_ROW   \
  INSULA_STORE(6, 0) INSULA_STORE(7, 64) INSULA_NEXT_ROW   \
  INSULA_STORE(8, 0) INSULA_STORE(9, 64) INSULA_NEXT_ROW   \
  INSULA_STORE(10, 0) INSULA_STORE(11, 64) INSULA_NEXT_ROW \
  INSULA_STORE(12, 0) INSULA_STORE(13, 64) INSULA_NEXT_ROW \
  INSULA_STORE(14, 0) INSULA_STORE(15, 64) INSULA_NEXT_ROW \
  INSULA_STORE(16, 0) INSULA_STORE(17, 64) INSULA_NEXT_ROW \
  INSULA_STORE(18, 0) INSULA_STORE(19, 64) INSULA_NEXT_ROW \
  INSULA_STORE(20, 0) INSULA_STORE(21, 64) INSULA_NEXT_ROW \
  INSULA_STORE(22, 0) INSULA_STORE(23, 64)
#define INSULA_ROWS_3                                                            \
  INSULA_STORE(0, 0) INSULA_STORE(1, 64) INSULA_STORE(2, 128) INSULA_NEXT_ROW    \
  INSULA_STORE(3, 0) INSULA_STORE(4, 64) INSULA_STORE(5, 128) INSULA_NEXT_ROW    \
  INSULA_STORE(6, 0) INSULA_STORE(7, 64) INSULA_STORE(8, 128) INSULA_NEXT_ROW    \
  INSULA_STORE(9, 0) INSULA_STORE(10, 64) INSULA_STORE(11, 128) INSULA_NEXT_ROW  \
  INSULA_STORE(12, 0) INSULA_STORE(13, 64) INSULA_STORE(14, 128) INSULA_NEXT_ROW \
  INSULA_STORE(15, 0) INSULA_STORE(16, 64) INSULA_STORE(17, 128) INSULA_NEXT_ROW \
  INSULA_STORE(18, 0) INSULA_STORE(19, 64) INSULA_STORE(20, 128) INSULA_NEXT_ROW \
  INSULA_STORE(21, 0) INSULA_STORE(22, 64) INSULA_STORE(23, 128)
#define INSULA_ROWS_4                                                                                  \
  INSULA_STORE(0, 0) INSULA_STORE(1, 64) INSULA_STORE(2, 128) INSULA_STORE(3, 192) INSULA_NEXT_ROW     \
  INSULA_STORE(4, 0) INSULA_STORE(5, 64) INSULA_STORE(6, 128) INSULA_STORE(7, 192) INSULA_NEXT_ROW     \
  INSULA_STORE(8, 0) INSULA_STORE(9, 64) INSULA_STORE(10, 128) INSULA_STORE(11, 192) INSULA_NEXT_ROW   \
  INSULA_STORE(12, 0) INSULA_STORE(13, 64) INSULA_STORE(14, 128) INSULA_STORE(15, 192) INSULA_NEXT_ROW \
  INSULA_STORE(16, 0) INSULA_STORE(17, 64) INSULA_STORE(18, 128) INSULA_STORE(19, 192) INSULA_NEXT_ROW \
  INSULA_STORE(20, 0) INSULA_STORE(21, 64) INSULA_STORE(22, 128) INSULA_STORE(23, 192)

// One tile. bases: p3, p6 and p9 from p and t = 3 s; four: four rounds; one: one round; on4 and on1: how the bases go on after
// them; line: bytes of a row of B.
#define INSULA_TILE(start, bases, four, on4, one, on1, line, rows)       \
  "mov 48(%[q]), %[t]\n" start                                           \
  "mov 8(%[q]), %[s]\n mov 24(%[q]), %[at]\n"                            \
  "mov 80(%[q]), %[rs]\n mov 88(%[q]), %[w]\n mov 96(%[q]), %[ws]\n"     \
  "2:\n"                                                                 \
  "mov (%[at]), %[p]\n mov (%[q]), %[t]\n lea (%[t],%[p],4), %[p]\n"     \
  "mov 8(%[at]), %[b]\n mov 16(%[q]), %[t]\n lea (%[t],%[b],4), %[b]\n"  \
  "mov 16(%[at]), %[r]\n mov 72(%[q]), %[t]\n lea (%[t],%[r],4), %[r]\n" \
  "lea (%[s],%[s],2), %[t]\n" bases                                      \
  "mov 40(%[q]), %[n]\n shr $2, %[n]\n jz 4f\n"                          \
  ".p2align 5\n"                                                         \
  "3:\n" four on4                                                        \
  "add $4*" #line ", %[b]\n dec %[n]\n jnz 3b\n"                         \
  "4:\n"                                                                 \
  "mov 40(%[q]), %[n]\n and $3, %[n]\n jz 6f\n"                          \
  "5:\n" one INSULA_ASK_1 on1                                            \
  "add $" #line ", %[b]\n dec %[n]\n jnz 5b\n"                           \
  "6:\n"                                                                 \
  "add $24, %[at]\n cmp 32(%[q]), %[at]\n jne 2b\n"                      \
  "mov 56(%[q]), %[t]\n mov 64(%[q]), %[s]\n" rows
#define INSULA_CLOBBERED                                                                                      \
  "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",    \
  "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", \
  "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28"
#define INSULA_OPERANDS                                                                                 \
  [p] "=&r"(p), [p3] "=&r"(p3), [p6] "=&r"(p6), [s] "=&r"(s), [b] "=&r"(b), [n] "=&r"(n), [t] "=&r"(t), \
  [at] "=&r"(at), [r] "=&r"(read), [rs] "=&r"(read_step), [w] "=&r"(written), [ws] "=&r"(written_step)

// A function of its own: the assembler wants fourteen registers.
template <int R, int V, bool Across>
[[gnu::noinline]] void sum_tile(tile_sums const& q) {
  static_assert(has_sum_tile<float, R, V, Across>);
  index_t p, p3, p6, p9, s, b, n, t, at, read, read_step, written, written_step;
  (void)p9;
  if constexpr (R == 8 && !Across)
    asm volatile(INSULA_TILE(
        INSULA_START_3, "lea (%[p],%[t]), %[p3]\n lea (%[p],%[t],2), %[p6]\n",
        INSULA_ROUND_8_3(0, 0) INSULA_ASK_2 INSULA_ROUND_8_3(4, 192)
        INSULA_ROUND_8_3(8, 384) INSULA_ASK_2 INSULA_ROUND_8_3(12, 576),
        "add $16, %[p]\n add $16, %[p3]\n add $16, %[p6]\n",
        INSULA_ROUND_8_3(0, 0), "add $4, %[p]\n add $4, %[p3]\n add $4, %[p6]\n", 192, INSULA_ROWS_3)
        : INSULA_OPERANDS : [q] "r"(&q) : INSULA_CLOBBERED);
  else if constexpr (R == 12 && !Across)
    asm volatile(INSULA_TILE(
        INSULA_START_2, "lea (%[p],%[t]), %[p3]\n lea (%[p],%[t],2), %[p6]\n lea (%[p6],%[t]), %[p9]\n",
        INSULA_ROUND_12_2(0, 0) INSULA_ASK_2 INSULA_ROUND_12_2(4, 128)
        INSULA_ROUND_12_2(8, 256) INSULA_ASK_2 INSULA_ROUND_12_2(12, 384),
        "add $16, %[p]\n add $16, %[p3]\n add $16, %[p6]\n add $16, %[p9]\n",
        INSULA_ROUND_12_2(0, 0), "add $4, %[p]\n add $4, %[p3]\n add $4, %[p6]\n add $4, %[p9]\n", 128, INSULA_ROWS_2)
        : INSULA_OPERANDS, [p9] "=&r"(p9) : [q] "r"(&q) : INSULA_CLOBBERED);
  else if constexpr (R == 6 && !Across)
    asm volatile(INSULA_TILE(
        INSULA_START_4, "lea (%[p],%[t]), %[p3]\n",
        INSULA_ROUND_6_4(0, 0) INSULA_ASK_2 INSULA_ROUND_6_4(4, 256)
        INSULA_ROUND_6_4(8, 512) INSULA_ASK_2 INSULA_ROUND_6_4(12, 768),
        "add $16, %[p]\n add $16, %[p3]\n",
        INSULA_ROUND_6_4(0, 0), "add $4, %[p]\n add $4, %[p3]\n", 256, INSULA_ROWS_4)
        : INSULA_OPERANDS : [q] "r"(&q) : INSULA_CLOBBERED);
  // across: p3 is three rows of A further on, p6 four of their steps
  else if constexpr (R == 8)
    asm volatile(INSULA_TILE(
        INSULA_START_3, "lea (%[p],%[t]), %[p3]\n lea (,%[s],4), %[p6]\n",
        INSULA_ACROSS_8_3("%[p]", 0) INSULA_ASK_2 INSULA_ACROSS_8_3("%[p],%[s]", 192)
        INSULA_ACROSS_8_3("%[p],%[s],2", 384) INSULA_ASK_2 INSULA_ACROSS_8_3("%[p3]", 576),
        "add %[p6], %[p]\n add %[p6], %[p3]\n",
        INSULA_ACROSS_8_3("%[p]", 0), "add %[s], %[p]\n", 192, INSULA_ROWS_3)
        : INSULA_OPERANDS : [q] "r"(&q) : INSULA_CLOBBERED);
  else if constexpr (R == 12)
    asm volatile(INSULA_TILE(
        INSULA_START_2, "lea (%[p],%[t]), %[p3]\n lea (,%[s],4), %[p6]\n",
        INSULA_ACROSS_12_2("%[p]", 0) INSULA_ASK_2 INSULA_ACROSS_12_2("%[p],%[s]", 128)
        INSULA_ACROSS_12_2("%[p],%[s],2", 256) INSULA_ASK_2 INSULA_ACROSS_12_2("%[p3]", 384),
        "add %[p6], %[p]\n add %[p6], %[p3]\n",
        INSULA_ACROSS_12_2("%[p]", 0), "add %[s], %[p]\n", 128, INSULA_ROWS_2)
        : INSULA_OPERANDS : [q] "r"(&q) : INSULA_CLOBBERED);
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
#undef INSULA_LOAD
#undef INSULA_COPY
#undef INSULA_START_2
#undef INSULA_START_3
#undef INSULA_START_4
#undef INSULA_STORE
#undef INSULA_NEXT_ROW
#undef INSULA_ROWS_2
#undef INSULA_ROWS_3
#undef INSULA_ROWS_4
#undef INSULA_TILE
#undef INSULA_CLOBBERED
#undef INSULA_OPERANDS
// clang-format on

#endif

}  // namespace insula::simd
