// SPDX-License-Identifier: Apache-2.0
// Transposition of a square of registers, and of matrices by such squares.
#pragma once

#include <utility>

#include "insula/kernels/cpu/simd.hpp"

namespace insula::simd {

namespace detail {

/// Swaps the off-diagonal halves of every 2 Distance square of lanes that rows a and b = a + Distance share.
template <int Distance, scalar T, int... Lane>
INSULA_INLINE void swap_lanes(pack<T>& a, pack<T>& b, std::integer_sequence<int, Lane...>) {
  constexpr int w = width<T>;
  pack<T> const low = __builtin_shufflevector(a, b, ((Lane & Distance) ? w + Lane - Distance : Lane)...);
  b = __builtin_shufflevector(a, b, ((Lane & Distance) ? w + Lane : Lane + Distance)...);
  a = low;
}

template <int Distance, scalar T>
INSULA_INLINE void transpose_stage(pack<T> (&row)[width<T>]) {
#pragma GCC unroll 16
  for (int i = 0; i < width<T>; ++i)
    if (!(i & Distance))
      swap_lanes<Distance, T>(row[i], row[i + Distance], std::make_integer_sequence<int, width<T>>{});
}

}  // namespace detail

/// Element j of row i becomes element i of row j.
template <scalar T>
INSULA_INLINE void transpose_square(pack<T> (&row)[width<T>]) {
  detail::transpose_stage<1, T>(row);
  if constexpr (width < T >> 2) detail::transpose_stage<2, T>(row);
  if constexpr (width < T >> 4) detail::transpose_stage<4, T>(row);
  if constexpr (width < T >> 8) detail::transpose_stage<8, T>(row);
}

/// B (columns x padded) = transpose of A (rows x columns), rows of A `a_row` apart, of B `b_row`. Elements of B from
/// `rows` up to the next multiple of the register width are 0, and there must be room for them.
template <scalar T>
void transpose_padded(index_t rows, index_t columns, T const* a, index_t a_row, T* b, index_t b_row) {
  constexpr int w = width<T>;
  for (index_t i = 0; i < rows; i += w) {
    int const height = rows - i < w ? int(rows - i) : w;
    for (index_t j = 0; j < columns; j += w) {
      int const lanes = columns - j < w ? int(columns - j) : w;
      pack<T> square[w];
      if (height == w && lanes == w) {
#pragma GCC unroll 16
        for (int r = 0; r < w; ++r) square[r] = load(a + (i + r) * a_row + j);
      } else {
        for (int r = 0; r < w; ++r) square[r] = r < height ? load(a + (i + r) * a_row + j, lanes) : zero<T>();
      }
      transpose_square<T>(square);
      if (lanes == w) {
#pragma GCC unroll 16
        for (int c = 0; c < w; ++c) store(b + (j + c) * b_row + i, square[c]);
      } else {
        for (int c = 0; c < lanes; ++c) store(b + (j + c) * b_row + i, square[c]);
      }
    }
  }
}

}  // namespace insula::simd
