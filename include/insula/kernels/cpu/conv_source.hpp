// SPDX-License-Identifier: Apache-2.0
// Weights of a convolution as a lattice wants them, from where they are.
#pragma once

#include <cstring>

#include "insula/kernels/cpu/conv_flip.hpp"
#include "insula/kernels/cpu/conv_lattice.hpp"
#include "insula/kernels/cpu/conv_tile.hpp"

namespace insula::detail::conv {

/// Weights (taps, in channels, out channels) of a lattice; `turned`: those of the forward pass, of which an input gradient
/// takes the taps in reverse order and the channels exchanged.
template <scalar T>
struct weight_source {
  T const* w;
  bool turned;

  /// y[in channel][panel's columns] = one tap of in channels [from, to), rows of whole registers; needs groups == 1.
  void fetch(lattice const& l, index_t tap, panel const& p, index_t from, index_t to, T* y) const {
    constexpr int width = simd::width<T>;
    index_t const columns = p.registers * width, ci = l.in_channels, co = l.out_channels;
    if (turned) {
      if (p.last != width) std::memset(y, 0, std::size_t((to - from) * columns) * sizeof(T));
      T const* const x = w + ((l.kernel_size() - 1 - tap) * co + p.from) * ci + from;
      return transpose(p.columns(width), to - from, x, ci, y, columns);
    }
    T const* x = w + (tap * ci + from) * co + p.from;
    for (index_t i = from; i < to; ++i, x += co, y += columns)
      for (int v = 0; v < p.registers; ++v)
        simd::store(y + v * width, v + 1 < p.registers || p.last == width
                                       ? simd::load(x + v * width)
                                       : simd::load(x + v * width, p.last));
  }

  /// Brings what fetch will read, or a share (one of `shares`) of it, towards the cache: rows are too short and too far apart to be
  /// foreseen.
  INSULA_INLINE void prefetch(lattice const& l, index_t tap, panel const& p, index_t from, index_t to,
                              index_t share = 0, index_t shares = 1) const {
    constexpr index_t line_elements = index_t(64 / sizeof(T));
    index_t const ci = l.in_channels, co = l.out_channels, columns = p.columns(simd::width<T>);
    index_t const rows = turned ? columns : to - from, length = turned ? to - from : columns;
    T const* x = turned ? w + ((l.kernel_size() - 1 - tap) * co + p.from) * ci + from
                        : w + (tap * ci + from) * co + p.from;
    x += rows * share / shares * (turned ? ci : co);
    for (index_t r = rows * share / shares; r < rows * (share + 1) / shares; ++r, x += turned ? ci : co) {
      for (index_t j = 0; j < length; j += line_elements) __builtin_prefetch(x + j, 0, 2);
      if (length > 0) __builtin_prefetch(x + length - 1, 0, 2);
    }
  }
};

}  // namespace insula::detail::conv
