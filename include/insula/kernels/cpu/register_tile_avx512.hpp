// SPDX-License-Identifier: Apache-2.0
// The register tiles of float products on AVX-512 in assembler: 8 rows by 3 registers, 12 rows by 2.
//
// Compilers give this loop 18 instructions and more beside its 24 multiply-adds, some of which take a multiply-add's place, and
// move sums between registers if it is unrolled: 87 % of the peak. Written out it has 15 and reaches 98 %. Sums and their order are
// those of add_products, so results are the same bits. Sanitizers, which cannot look inside, get the portable loop.
#pragma once

#include "insula/kernels/cpu/register_tile.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INSULA_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define INSULA_SANITIZED 1
#endif
#endif
#if defined(INSULA_AVX512) && defined(__x86_64__) && !defined(INSULA_SANITIZED)
#define INSULA_TILES_IN_ASSEMBLER 1
#endif

namespace insula::simd {

/// Whether sum_tile exists for R x V registers of T.
template <scalar T, int R, int V>
inline constexpr bool has_sum_tile =
#ifdef INSULA_TILES_IN_ASSEMBLER
    sizeof(T) == 4 && ((R == 8 && V == 3) || (R == 12 && V == 2));
#else
    false;
#endif

/// Offsets, in elements, of one stretch of a product's depth in A and in B.
struct stretch {
  index_t a, b;
};

/// C[r, 0 .. V registers) = start[0 .. V registers) + sum over the stretches s and k < depth of
///   A[s.a + r a_step + k] B[s.b + k V registers ..],   or with A[s.a + r + k a_step] if Across.
/// Every round asks for a line to read and one to write, see asked_for; both may stay where they are.
/// The assembler reads this by offsets; steps and rows are in bytes.
struct tile_sums {
  float const* a;
  index_t a_step;
  float const* b;
  stretch const *at, *end;
  index_t depth;
  float const* start;
  float* c;
  index_t c_row;
  float const* read;
  index_t read_step;
  float* written;
  index_t written_step;
};
static_assert(sizeof(index_t) == 8 && sizeof(tile_sums) == 104);

#ifdef INSULA_TILES_IN_ASSEMBLER

// Registers: sums in zmm0 to zmm23, rows of B in zmm24 to zmm26, an element of A in zmm27.
#define INSULA_B(register, offset) "vmovups " #offset "(%[b]), %%zmm" #register "\n"
#define INSULA_FMA3(element, x, y, z)      \
  "vbroadcastss " element                  \
  ", %%zmm27\n"                            \
  "vfmadd231ps %%zmm24, %%zmm27, %%zmm" #x \
  "\n"                                     \
  "vfmadd231ps %%zmm25, %%zmm27, %%zmm" #y \
  "\n"                                     \
  "vfmadd231ps %%zmm26, %%zmm27, %%zmm" #z "\n"
#define INSULA_FMA2(element, x, y)         \
  "vbroadcastss " element                  \
  ", %%zmm27\n"                            \
  "vfmadd231ps %%zmm24, %%zmm27, %%zmm" #x \
  "\n"                                     \
  "vfmadd231ps %%zmm25, %%zmm27, %%zmm" #y "\n"

// Element k of three rows each of A; the fourth base is that of rows 9 to 11.
#define INSULA_ROUND_8_3(k, o)                                                                   \
  INSULA_B(24, o)                                                                                \
  INSULA_B(25, o + 64) INSULA_B(26, o + 128) INSULA_FMA3(#k "(%[p])", 0, 1, 2)                   \
      INSULA_FMA3(#k "(%[p],%[s])", 3, 4, 5) INSULA_FMA3(#k "(%[p],%[s],2)", 6, 7, 8)            \
          INSULA_FMA3(#k "(%[p3])", 9, 10, 11) INSULA_FMA3(#k "(%[p3],%[s])", 12, 13, 14)        \
              INSULA_FMA3(#k "(%[p3],%[s],2)", 15, 16, 17) INSULA_FMA3(#k "(%[p6])", 18, 19, 20) \
                  INSULA_FMA3(#k "(%[p6],%[s])", 21, 22, 23)
#define INSULA_ROUND_12_2(k, o)                                                              \
  INSULA_B(24, o)                                                                            \
  INSULA_B(25, o + 64) INSULA_FMA2(#k "(%[p])", 0, 1) INSULA_FMA2(#k "(%[p],%[s])", 2, 3)    \
      INSULA_FMA2(#k "(%[p],%[s],2)", 4, 5) INSULA_FMA2(#k "(%[p3])", 6, 7)                  \
          INSULA_FMA2(#k "(%[p3],%[s])", 8, 9) INSULA_FMA2(#k "(%[p3],%[s],2)", 10, 11)      \
              INSULA_FMA2(#k "(%[p6])", 12, 13) INSULA_FMA2(#k "(%[p6],%[s])", 14, 15)       \
                  INSULA_FMA2(#k "(%[p6],%[s],2)", 16, 17) INSULA_FMA2(#k "(%[p9])", 18, 19) \
                      INSULA_FMA2(#k "(%[p9],%[s])", 20, 21) INSULA_FMA2(#k "(%[p9],%[s],2)", 22, 23)
// All rows of one k of the transposed A, which begins at `base`.
#define INSULA_ACROSS_8_3(base, o)                                                            \
  INSULA_B(24, o)                                                                             \
  INSULA_B(25, o + 64) INSULA_B(26, o + 128) INSULA_FMA3("(" base ")", 0, 1, 2)               \
      INSULA_FMA3("4(" base ")", 3, 4, 5) INSULA_FMA3("8(" base ")", 6, 7, 8)                 \
          INSULA_FMA3("12(" base ")", 9, 10, 11) INSULA_FMA3("16(" base ")", 12, 13, 14)      \
              INSULA_FMA3("20(" base ")", 15, 16, 17) INSULA_FMA3("24(" base ")", 18, 19, 20) \
                  INSULA_FMA3("28(" base ")", 21, 22, 23)
#define INSULA_ACROSS_12_2(base, o)                                                                        \
  INSULA_B(24, o)                                                                                          \
  INSULA_B(25, o + 64) INSULA_FMA2("(" base ")", 0, 1) INSULA_FMA2("4(" base ")", 2, 3)                    \
      INSULA_FMA2("8(" base ")", 4, 5) INSULA_FMA2("12(" base ")", 6, 7) INSULA_FMA2("16(" base ")", 8, 9) \
          INSULA_FMA2("20(" base ")", 10, 11) INSULA_FMA2("24(" base ")", 12, 13)                          \
              INSULA_FMA2("28(" base ")", 14, 15) INSULA_FMA2("32(" base ")", 16, 17)                      \
                  INSULA_FMA2("36(" base ")", 18, 19) INSULA_FMA2("40(" base ")", 20, 21)                  \
                      INSULA_FMA2("44(" base ")", 22, 23)

// What is asked for in two rounds of four.
#define INSULA_ASK                                                           \
  "prefetcht1 (%[r])\n prefetcht1 (%[r],%[rs])\n lea (%[r],%[rs],2), %[r]\n" \
  "prefetchw (%[w])\n prefetchw (%[w],%[ws])\n lea (%[w],%[ws],2), %[w]\n"

#define INSULA_COPY(from, to) "vmovaps %%zmm" #from ", %%zmm" #to "\n"
#define INSULA_START_3                                                                                       \
  "vmovups (%[t]), %%zmm0\n vmovups 64(%[t]), %%zmm1\n vmovups 128(%[t]), %%zmm2\n" INSULA_COPY(0, 3)        \
      INSULA_COPY(1, 4) INSULA_COPY(2, 5) INSULA_COPY(0, 6) INSULA_COPY(1, 7) INSULA_COPY(2, 8)              \
          INSULA_COPY(0, 9) INSULA_COPY(1, 10) INSULA_COPY(2, 11) INSULA_COPY(0, 12) INSULA_COPY(1, 13)      \
              INSULA_COPY(2, 14) INSULA_COPY(0, 15) INSULA_COPY(1, 16) INSULA_COPY(2, 17) INSULA_COPY(0, 18) \
                  INSULA_COPY(1, 19) INSULA_COPY(2, 20) INSULA_COPY(0, 21) INSULA_COPY(1, 22)                \
                      INSULA_COPY(2, 23)
#define INSULA_START_2                                                                                       \
  "vmovups (%[t]), %%zmm0\n vmovups 64(%[t]), %%zmm1\n" INSULA_COPY(0, 2) INSULA_COPY(1, 3)                  \
      INSULA_COPY(0, 4) INSULA_COPY(1, 5) INSULA_COPY(0, 6) INSULA_COPY(1, 7) INSULA_COPY(0, 8)              \
          INSULA_COPY(1, 9) INSULA_COPY(0, 10) INSULA_COPY(1, 11) INSULA_COPY(0, 12) INSULA_COPY(1, 13)      \
              INSULA_COPY(0, 14) INSULA_COPY(1, 15) INSULA_COPY(0, 16) INSULA_COPY(1, 17) INSULA_COPY(0, 18) \
                  INSULA_COPY(1, 19) INSULA_COPY(0, 20) INSULA_COPY(1, 21) INSULA_COPY(0, 22)                \
                      INSULA_COPY(1, 23)
#define INSULA_STORE_3(x, y, z)                                                    \
  "vmovups %%zmm" #x ", (%[t])\n vmovups %%zmm" #y ", 64(%[t])\n vmovups %%zmm" #z \
  ", 128(%[t])\n add %[s], %[t]\n"
#define INSULA_STORE_2(x, y) "vmovups %%zmm" #x ", (%[t])\n vmovups %%zmm" #y ", 64(%[t])\n add %[s], %[t]\n"
#define INSULA_ROWS_3                                                                                  \
  INSULA_STORE_3(0, 1, 2)                                                                              \
  INSULA_STORE_3(3, 4, 5) INSULA_STORE_3(6, 7, 8) INSULA_STORE_3(9, 10, 11) INSULA_STORE_3(12, 13, 14) \
      INSULA_STORE_3(15, 16, 17) INSULA_STORE_3(18, 19, 20) INSULA_STORE_3(21, 22, 23)
#define INSULA_ROWS_2                                                                                        \
  INSULA_STORE_2(0, 1)                                                                                       \
  INSULA_STORE_2(2, 3) INSULA_STORE_2(4, 5) INSULA_STORE_2(6, 7) INSULA_STORE_2(8, 9) INSULA_STORE_2(10, 11) \
      INSULA_STORE_2(12, 13) INSULA_STORE_2(14, 15) INSULA_STORE_2(16, 17) INSULA_STORE_2(18, 19)            \
          INSULA_STORE_2(20, 21) INSULA_STORE_2(22, 23)

// One tile. bases: those of the rows of A, from p. four: four rounds; one: one round; on4, on1: how the bases go on after them.
#define INSULA_TILE(start, bases, four, on4, one, on1, line, rows)                       \
  "mov 48(%[q]), %[t]\n" start                                                           \
  "mov 8(%[q]), %[s]\n mov 24(%[q]), %[at]\n mov 72(%[q]), %[r]\n mov 80(%[q]), %[rs]\n" \
  "mov 88(%[q]), %[w]\n mov 96(%[q]), %[ws]\n"                                           \
  "2:\n"                                                                                 \
  "mov (%[at]), %[p]\n mov (%[q]), %[t]\n lea (%[t],%[p],4), %[p]\n"                     \
  "mov 8(%[at]), %[b]\n mov 16(%[q]), %[t]\n lea (%[t],%[b],4), %[b]\n"                  \
  "lea (%[s],%[s],2), %[t]\n" bases                                                      \
  "mov 40(%[q]), %[n]\n shr $2, %[n]\n jz 4f\n"                                          \
  ".p2align 5\n"                                                                         \
  "3:\n" four on4 "add $4*" #line                                                        \
  ", %[b]\n dec %[n]\n jnz 3b\n"                                                         \
  "4:\n"                                                                                 \
  "mov 40(%[q]), %[n]\n and $3, %[n]\n jz 6f\n"                                          \
  "5:\n" one on1 "add $" #line                                                           \
  ", %[b]\n dec %[n]\n jnz 5b\n"                                                         \
  "6:\n"                                                                                 \
  "add $16, %[at]\n cmp 32(%[q]), %[at]\n jne 2b\n"                                      \
  "mov 56(%[q]), %[t]\n mov 64(%[q]), %[s]\n" rows

#define INSULA_SUMS_CLOBBERED                                                                              \
  "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21",   \
      "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27"

#define INSULA_OPERANDS                                                                                 \
  [p] "=&r"(p), [p3] "=&r"(p3), [p6] "=&r"(p6), [s] "=&r"(s), [b] "=&r"(b), [n] "=&r"(n), [t] "=&r"(t), \
      [at] "=&r"(at), [r] "=&r"(read), [rs] "=&r"(read_step), [w] "=&r"(written), [ws] "=&r"(written_step)

// A function of its own: the assembler wants fourteen registers.
template <int R, int V, bool Across>
[[gnu::noinline]] void sum_tile(tile_sums const& q) {
  static_assert(has_sum_tile<float, R, V>);
  index_t p, p3, p6, p9, s, b, n, t, at, read, read_step, written, written_step;
  (void)p9;
  if constexpr (V == 3 && !Across)
    asm volatile(INSULA_TILE(INSULA_START_3, "lea (%[p],%[t]), %[p3]\n lea (%[p],%[t],2), %[p6]\n",
                             INSULA_ROUND_8_3(0, 0) INSULA_ASK INSULA_ROUND_8_3(4, 192)
                                 INSULA_ROUND_8_3(8, 384) INSULA_ASK INSULA_ROUND_8_3(12, 576),
                             "add $16, %[p]\n add $16, %[p3]\n add $16, %[p6]\n", INSULA_ROUND_8_3(0, 0),
                             "add $4, %[p]\n add $4, %[p3]\n add $4, %[p6]\n", 192, INSULA_ROWS_3)
                 : INSULA_OPERANDS
                 : [q] "r"(&q)
                 : INSULA_SUMS_CLOBBERED);
  else if constexpr (V == 2 && !Across)
    asm volatile(
        INSULA_TILE(
            INSULA_START_2, "lea (%[p],%[t]), %[p3]\n lea (%[p],%[t],2), %[p6]\n lea (%[p6],%[t]), %[p9]\n",
            INSULA_ROUND_12_2(0, 0) INSULA_ASK INSULA_ROUND_12_2(4, 128) INSULA_ROUND_12_2(8, 256)
                INSULA_ASK INSULA_ROUND_12_2(12, 384),
            "add $16, %[p]\n add $16, %[p3]\n add $16, %[p6]\n add $16, %[p9]\n", INSULA_ROUND_12_2(0, 0),
            "add $4, %[p]\n add $4, %[p3]\n add $4, %[p6]\n add $4, %[p9]\n", 128, INSULA_ROWS_2)
        : INSULA_OPERANDS, [p9] "=&r"(p9)
        : [q] "r"(&q)
        : INSULA_SUMS_CLOBBERED);
  else if constexpr (V == 3)  // the rows of A from k on, and from k + 3 on
    asm volatile(INSULA_TILE(INSULA_START_3, "lea (%[p],%[t]), %[p3]\n lea (,%[s],4), %[p6]\n",
                             INSULA_ACROSS_8_3("%[p]", 0) INSULA_ASK INSULA_ACROSS_8_3("%[p],%[s]", 192)
                                 INSULA_ACROSS_8_3("%[p],%[s],2", 384)
                                     INSULA_ASK INSULA_ACROSS_8_3("%[p3]", 576),
                             "add %[p6], %[p]\n add %[p6], %[p3]\n", INSULA_ACROSS_8_3("%[p]", 0),
                             "add %[s], %[p]\n", 192, INSULA_ROWS_3)
                 : INSULA_OPERANDS
                 : [q] "r"(&q)
                 : INSULA_SUMS_CLOBBERED);
  else
    asm volatile(INSULA_TILE(INSULA_START_2, "lea (%[p],%[t]), %[p3]\n lea (,%[s],4), %[p6]\n",
                             INSULA_ACROSS_12_2("%[p]", 0) INSULA_ASK INSULA_ACROSS_12_2("%[p],%[s]", 128)
                                 INSULA_ACROSS_12_2("%[p],%[s],2", 256)
                                     INSULA_ASK INSULA_ACROSS_12_2("%[p3]", 384),
                             "add %[p6], %[p]\n add %[p6], %[p3]\n", INSULA_ACROSS_12_2("%[p]", 0),
                             "add %[s], %[p]\n", 128, INSULA_ROWS_2)
                 : INSULA_OPERANDS
                 : [q] "r"(&q)
                 : INSULA_SUMS_CLOBBERED);
}

#undef INSULA_B
#undef INSULA_FMA3
#undef INSULA_FMA2
#undef INSULA_ROUND_8_3
#undef INSULA_ROUND_12_2
#undef INSULA_ACROSS_8_3
#undef INSULA_ACROSS_12_2
#undef INSULA_ASK
#undef INSULA_COPY
#undef INSULA_START_3
#undef INSULA_START_2
#undef INSULA_STORE_3
#undef INSULA_STORE_2
#undef INSULA_ROWS_3
#undef INSULA_ROWS_2
#undef INSULA_TILE
#undef INSULA_SUMS_CLOBBERED
#undef INSULA_OPERANDS

#endif

}  // namespace insula::simd
