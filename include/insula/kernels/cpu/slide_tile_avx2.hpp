// SPDX-License-Identifier: Apache-2.0
// The tiles of depth-wise convolutions in float on AVX2 in assembler: 12 or 8 outputs, rows of 3, 5 or 7 taps.
//
// Twelve sums, three taps and an input are all sixteen registers. Compilers keep some of them in memory instead and move others
// about; written out, a tile takes a quarter less time (bench_kernels_conv, depth-wise), close to the least that its multiply-adds
// allow. Sums and their order are those of slide, so results are the same bits. Sanitizers, which cannot look inside, get that one.
#pragma once

#include "insula/kernels/cpu/register_tile_avx512.hpp"

#if defined(INSULA_AVX2) && defined(INSULA_ASSEMBLER)
#define INSULA_SLIDES_IN_ASSEMBLER 1
#endif

namespace insula::simd {

/// Whether slide_tile exists for rows of K taps and M registers of T.
template <scalar T, int K, int M>
inline constexpr bool has_slide_tile =
#ifdef INSULA_SLIDES_IN_ASSEMBLER
    sizeof(T) == 4 && (K == 3 || K == 5 || K == 7) && (M == 12 || M == 8);
#else
    false;
#endif

/// y[m] = sum over the stretches s and k < K of x[s.a + m + k] w[s.b + k]: registers, those of x and w one behind the other, those of y
/// y_step apart. With each of the first `asks` stretches two places are asked for that will be read, from `read` on, and two
/// that will be written, which may be one and the same. The assembler reads this by offsets; steps are in bytes.
struct slide_sums {
  float const *x, *w;
  stretch const *at, *end;  // one at least
  float* y;
  index_t y_step, asks;
  float const* read;
  index_t read_step;
  float* written;
  index_t written_step;
};
static_assert(sizeof(index_t) == 8 && sizeof(slide_sums) == 88 && sizeof(stretch) == 24);

#ifdef INSULA_SLIDES_IN_ASSEMBLER

// clang-format off
// Registers: sums in ymm0 to ymm11, taps from ymm12 on, an input in ymm15. o: bytes from the first tap of a row to the first that is
// met, and as many from input to input.
#define INSULA_TAP(register, offset) \
  "vmovups " #offset "(%[b]), %%ymm" #register "\n"
#define INSULA_X(offset) \
  "vmovups " #offset "(%[p]), %%ymm15\n"
#define INSULA_FMA(tap, sum) \
  "vfmadd231ps %%ymm" #tap ", %%ymm15, %%ymm" #sum "\n"
#define INSULA_2(x, y) \
  INSULA_FMA(12, x) INSULA_FMA(13, y)
#define INSULA_3(x, y, z) \
  INSULA_2(x, y) INSULA_FMA(14, z)

#define INSULA_SLIDE_3_8(o)                                                  \
  INSULA_TAP(12, o) INSULA_TAP(13, o + 32) INSULA_TAP(14, o + 64)            \
  INSULA_X(o) INSULA_FMA(12, 0) INSULA_X(o + 32) INSULA_2(1, 0)              \
  INSULA_X(o + 64) INSULA_3(2, 1, 0) INSULA_X(o + 96) INSULA_3(3, 2, 1)      \
  INSULA_X(o + 128) INSULA_3(4, 3, 2) INSULA_X(o + 160) INSULA_3(5, 4, 3)    \
  INSULA_X(o + 192) INSULA_3(6, 5, 4) INSULA_X(o + 224) INSULA_3(7, 6, 5)
#define INSULA_SLIDE_2_8(o)                                                  \
  INSULA_TAP(12, o) INSULA_TAP(13, o + 32)                                   \
  INSULA_X(o) INSULA_FMA(12, 0) INSULA_X(o + 32) INSULA_2(1, 0)              \
  INSULA_X(o + 64) INSULA_2(2, 1) INSULA_X(o + 96) INSULA_2(3, 2)            \
  INSULA_X(o + 128) INSULA_2(4, 3) INSULA_X(o + 160) INSULA_2(5, 4)          \
  INSULA_X(o + 192) INSULA_2(6, 5) INSULA_X(o + 224) INSULA_2(7, 6)

#define INSULA_ROW_3_8(o) \
  INSULA_SLIDE_3_8(o) \
  INSULA_X(o + 256) INSULA_FMA(13, 7) INSULA_FMA(14, 6) INSULA_X(o + 288) INSULA_FMA(14, 7)
#define INSULA_ROW_3_12(o)                                                   \
  INSULA_SLIDE_3_8(o)                                                        \
  INSULA_X(o + 256) INSULA_3(8, 7, 6) INSULA_X(o + 288) INSULA_3(9, 8, 7)    \
  INSULA_X(o + 320) INSULA_3(10, 9, 8) INSULA_X(o + 352) INSULA_3(11, 10, 9) \
  INSULA_X(o + 384) INSULA_FMA(13, 11) INSULA_FMA(14, 10) INSULA_X(o + 416) INSULA_FMA(14, 11)
#define INSULA_ROW_2_8(o) \
  INSULA_SLIDE_2_8(o) INSULA_X(o + 256) INSULA_FMA(13, 7)
#define INSULA_ROW_2_12(o)                                                   \
  INSULA_SLIDE_2_8(o)                                                        \
  INSULA_X(o + 256) INSULA_2(8, 7) INSULA_X(o + 288) INSULA_2(9, 8)          \
  INSULA_X(o + 320) INSULA_2(10, 9) INSULA_X(o + 352) INSULA_2(11, 10)       \
  INSULA_X(o + 384) INSULA_FMA(13, 11)

#define INSULA_CLEAR(register) \
  "vxorps %%ymm" #register ", %%ymm" #register ", %%ymm" #register "\n"
#define INSULA_CLEAR_8                                                       \
  INSULA_CLEAR(0) INSULA_CLEAR(1) INSULA_CLEAR(2) INSULA_CLEAR(3)            \
  INSULA_CLEAR(4) INSULA_CLEAR(5) INSULA_CLEAR(6) INSULA_CLEAR(7)
#define INSULA_CLEAR_12 \
  INSULA_CLEAR_8 INSULA_CLEAR(8) INSULA_CLEAR(9) INSULA_CLEAR(10) INSULA_CLEAR(11)

// t: where it is stored, s: the distance, p: three of them.
#define INSULA_STORE_4(a, b, c, d)                                           \
  "vmovups %%ymm" #a ", (%[t])\n vmovups %%ymm" #b ", (%[t],%[s])\n"         \
  "vmovups %%ymm" #c ", (%[t],%[s],2)\n vmovups %%ymm" #d ", (%[t],%[p])\n"  \
  "lea (%[t],%[s],4), %[t]\n"
#define INSULA_STORE_8 \
  INSULA_STORE_4(0, 1, 2, 3) INSULA_STORE_4(4, 5, 6, 7)
#define INSULA_STORE_12 \
  INSULA_STORE_8 INSULA_STORE_4(8, 9, 10, 11)

#define INSULA_SLIDE_TILE(clear, row, store)                                 \
  "mov 16(%[q]), %[at]\n mov 48(%[q]), %[n]\n mov 56(%[q]), %[r]\n"          \
  "mov 64(%[q]), %[rs]\n mov 72(%[q]), %[w]\n mov 80(%[q]), %[ws]\n"         \
  clear                                                                      \
  ".p2align 5\n"                                                             \
  "2:\n"                                                                     \
  "mov (%[at]), %[p]\n mov (%[q]), %[t]\n lea (%[t],%[p],4), %[p]\n"         \
  "mov 8(%[at]), %[b]\n mov 8(%[q]), %[t]\n lea (%[t],%[b],4), %[b]\n"       \
  "test %[n], %[n]\n jz 3f\n dec %[n]\n"                                     \
  "prefetcht1 (%[r])\n prefetcht1 (%[r],%[rs])\n lea (%[r],%[rs],2), %[r]\n" \
  "prefetchw (%[w])\n prefetchw (%[w],%[ws])\n lea (%[w],%[ws],2), %[w]\n"   \
  "3:\n" row                                                                 \
  "add $24, %[at]\n cmp 24(%[q]), %[at]\n jne 2b\n"                          \
  "mov 32(%[q]), %[t]\n mov 40(%[q]), %[s]\n lea (%[s],%[s],2), %[p]\n" store

template <int K, int M>
INSULA_INLINE void slide_tile(slide_sums const& q) {
  static_assert(has_slide_tile<float, K, M>);
  index_t p, s, b, n, t, at, read, read_step, written, written_step;
#define INSULA_SLIDE(clear, row, store)                                                                      \
  asm volatile(INSULA_SLIDE_TILE(clear, row, store)                                                          \
      : [p] "=&r"(p), [s] "=&r"(s), [b] "=&r"(b), [n] "=&r"(n), [t] "=&r"(t), [at] "=&r"(at), [r] "=&r"(read), \
        [rs] "=&r"(read_step), [w] "=&r"(written), [ws] "=&r"(written_step)                                  \
      : [q] "r"(&q)                                                                                          \
      : "memory", "cc", "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9",      \
        "ymm10", "ymm11", "ymm12", "ymm13", "ymm14", "ymm15")
  if constexpr (K == 3 && M == 12)
    INSULA_SLIDE(INSULA_CLEAR_12, INSULA_ROW_3_12(0), INSULA_STORE_12);
  else if constexpr (K == 5 && M == 12)
    INSULA_SLIDE(INSULA_CLEAR_12, INSULA_ROW_3_12(0) INSULA_ROW_2_12(96), INSULA_STORE_12);
  else if constexpr (M == 12)
    INSULA_SLIDE(INSULA_CLEAR_12, INSULA_ROW_3_12(0) INSULA_ROW_2_12(96) INSULA_ROW_2_12(160), INSULA_STORE_12);
  else if constexpr (K == 3)
    INSULA_SLIDE(INSULA_CLEAR_8, INSULA_ROW_3_8(0), INSULA_STORE_8);
  else if constexpr (K == 5)
    INSULA_SLIDE(INSULA_CLEAR_8, INSULA_ROW_3_8(0) INSULA_ROW_2_8(96), INSULA_STORE_8);
  else
    INSULA_SLIDE(INSULA_CLEAR_8, INSULA_ROW_3_8(0) INSULA_ROW_2_8(96) INSULA_ROW_2_8(160), INSULA_STORE_8);
}
#undef INSULA_TAP
#undef INSULA_X
#undef INSULA_FMA
#undef INSULA_2
#undef INSULA_3
#undef INSULA_SLIDE_3_8
#undef INSULA_SLIDE_2_8
#undef INSULA_ROW_3_8
#undef INSULA_ROW_3_12
#undef INSULA_ROW_2_8
#undef INSULA_ROW_2_12
#undef INSULA_CLEAR
#undef INSULA_CLEAR_8
#undef INSULA_CLEAR_12
#undef INSULA_STORE_4
#undef INSULA_STORE_8
#undef INSULA_STORE_12
#undef INSULA_SLIDE_TILE
#undef INSULA_SLIDE
// clang-format on

#endif

}  // namespace insula::simd
