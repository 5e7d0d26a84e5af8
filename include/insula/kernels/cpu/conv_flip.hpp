// SPDX-License-Identifier: Apache-2.0
// Weights with input and output channels swapped, as input gradients need them.
#pragma once

#include <cstring>
#include <utility>

#include "insula/device/cpu.hpp"
#include "insula/kernels/cpu/simd.hpp"

namespace insula::detail::conv {

/// The elements of a and b taking turns: half 0 a0 b0 a1 b1 ..., half 1 the rest.
template <int Half, class P, std::size_t... I>
INSULA_INLINE P interleave(P a, P b, std::index_sequence<I...>) {
  constexpr int n = int(sizeof...(I));
  return __builtin_shufflevector(a, b, (Half * n / 2 + int(I) / 2 + int(I) % 2 * n)...);
}

/// y (w x w) = transpose of x (w x w), w = width<T>: log2(w) rounds of interleaving row i with row i + w/2.
template <scalar T>
INSULA_INLINE void transpose_square(T const* x, index_t x_row, T* y, index_t y_row) {
  constexpr int w = simd::width<T>;
  using lanes = std::make_index_sequence<std::size_t(w)>;
  simd::pack<T> row[w], next[w];
#pragma GCC unroll 16
  for (int i = 0; i < w; ++i) row[i] = simd::load(x + i * x_row);
#pragma GCC unroll 4
  for (int round = 1; round < w; round *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < w / 2; ++i) {
      next[2 * i] = interleave<0>(row[i], row[i + w / 2], lanes{});
      next[2 * i + 1] = interleave<1>(row[i], row[i + w / 2], lanes{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < w; ++i) row[i] = next[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < w; ++i) simd::store(y + i * y_row, row[i]);
}

/// y (columns x rows) = transpose of x (rows x columns).
template <scalar T>
void transpose(index_t rows, index_t columns, T const* x, index_t x_row, T* y, index_t y_row) {
  constexpr int w = simd::width<T>;
  for (index_t i = 0; i < rows; i += w)
    for (index_t j = 0; j < columns; j += w) {
      if (i + w <= rows && j + w <= columns) {
        transpose_square(x + i * x_row + j, x_row, y + j * y_row + i, y_row);
        continue;
      }
      for (index_t jj = j; jj < j + w && jj < columns; ++jj)
        for (index_t ii = i; ii < i + w && ii < rows; ++ii) y[jj * y_row + ii] = x[ii * x_row + jj];
    }
}

/// y[tap', o, g ci + i] = w[tap, i, g co + o], ci and co being the channels of a group; tap' = tap, or counted from the
/// end if `reverse`.
template <scalar T>
void flip_weights(context<cpu>& cx, index_t taps, index_t in_channels, index_t out_channels, index_t groups,
                  bool reverse, T const* w, T* y) {
  index_t const ci = in_channels / groups, co = out_channels / groups, size = ci * out_channels;
  cx.pool.run(taps, [&](index_t tap, int) {
    T* const to = y + (reverse ? taps - 1 - tap : tap) * size;
    if (ci == 1 && co == 1) {  // depth-wise: nothing changes places within a tap
      std::memcpy(to, w + tap * size, std::size_t(size) * sizeof(T));
      return;
    }
    for (index_t g = 0; g < groups; ++g)
      transpose(ci, co, w + tap * size + g * co, out_channels, to + g * ci, in_channels);
  });
}

}  // namespace insula::detail::conv
