// SPDX-License-Identifier: Apache-2.0
// Weight gradients of kernels whose row of taps is a few numbers, as a stem's, for machines with 16 registers: one row's sums are too
// few to hide their own latency, so that the rows of several taps meet a register of the gradient together.
#pragma once

#include "insula/kernels/cpu/conv_lattice.hpp"
#include "insula/kernels/cpu/simd.hpp"

namespace insula::detail::conv {

/// Numbers of a row of taps that rows go together for.
constexpr bool is_tap_row(index_t numbers) { return numbers == 3 || numbers == 5 || numbers == 7; }

/// Where a row of taps begins in the window, for the first output of a block, and in the weight gradient, for the first channel.
struct tap_row {
  index_t in, out;
};

/// For each of G rows: gw[row.out + t channels + i] += sum over outputs h < size.h, w < size.w of
///   x[row.in + h x_row + w x_step + t] gradient[(h size.w + w) width + i],  t < K, i < last.
template <int K, int G, scalar T>
void add_tap_rows(extent size, T const* x, index_t x_row, index_t x_step, tap_row const* rows,
                  T const* gradient, index_t channels, int last, T* gw) {
  constexpr int w = simd::width<T>;
  simd::pack<T> sum[G][K];
  index_t apart[G];
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) {
    apart[g] = rows[g].in - rows[0].in;
#pragma GCC unroll 8
    for (int t = 0; t < K; ++t) sum[g][t] = simd::zero<T>();
  }
  for (index_t h = 0; h < size.h; ++h) {
    T const* from = x + rows[0].in + h * x_row;
    for (index_t i = 0; i < size.w; ++i, from += x_step, gradient += w) {
      simd::pack<T> y = simd::load(gradient);
      simd::keep<T>(y);
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g)
#pragma GCC unroll 8
        for (int t = 0; t < K; ++t) sum[g][t] = simd::fma(simd::broadcast(from[apart[g] + t]), y, sum[g][t]);
    }
  }
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g)
#pragma GCC unroll 8
    for (int t = 0; t < K; ++t) {
      T* const to = gw + rows[g].out + t * channels;
      if (last == w)
        simd::store(to, simd::load(to) + sum[g][t]);
      else
        simd::store(to, simd::load(to, last) + sum[g][t], last);
    }
}

/// The same for any number of rows.
template <int K, scalar T>
void add_all_tap_rows(extent size, T const* x, index_t x_row, index_t x_step, index_t count,
                      tap_row const* rows, T const* gradient, index_t channels, int last, T* gw) {
  constexpr int together = 14 / K;  // with a register of the gradient and one of x
  index_t i = 0;
  for (; i + together <= count; i += together)
    add_tap_rows<K, together>(size, x, x_row, x_step, rows + i, gradient, channels, last, gw);
  for (; i < count; ++i) add_tap_rows<K, 1>(size, x, x_row, x_step, rows + i, gradient, channels, last, gw);
}
template <scalar T>
void add_all_tap_rows(index_t numbers, extent size, T const* x, index_t x_row, index_t x_step, index_t count,
                      tap_row const* rows, T const* gradient, index_t channels, int last, T* gw) {
  auto const all = numbers == 3   ? add_all_tap_rows<3, T>
                   : numbers == 5 ? add_all_tap_rows<5, T>
                                  : add_all_tap_rows<7, T>;
  all(size, x, x_row, x_step, count, rows, gradient, channels, last, gw);
}

}  // namespace insula::detail::conv
