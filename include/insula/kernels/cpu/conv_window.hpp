// SPDX-License-Identifier: Apache-2.0
// The inputs that a block of convolution outputs touches, as rows without borders.
#pragma once

#include <cstring>

#include "insula/device/cpu.hpp"
#include "insula/kernels/cpu/conv_lattice.hpp"

namespace insula::detail::conv {

/// Rows of one channel group: at(d, h) is the offset in `data` of input (d, h, first w of the window), for
/// coordinates inside the input. Along w there are no borders: what lies outside is zero.
template <class T>
struct window {
  T const* data;
  index_t d_from, h_from, plane, row;

  index_t at(index_t d, index_t h) const { return (d - d_from) * plane + (h - h_from) * row; }
};

/// Elements that `pack` may need for blocks of this size.
inline index_t window_elements(lattice const& l, extent size) {
  return reach(l.at[0], size.d) * reach(l.at[1], size.h) * reach(l.at[2], size.w) * l.group_in();
}

/// The window of a block and group; copies into `memory` (window_elements) unless x itself has such rows.
/// Only inputs that depth taps [tap_from, tap_to) need. `bordered`: rows above and below the input are there too, as zeros.
template <class T>
window<T> pack(lattice const& l, T const* x, block const& b, index_t group, index_t tap_from, index_t tap_to,
               T* memory, bool bordered = false) {
  index_t const ci = l.group_in();
  extent lo{0, 0, 0}, hi{0, 0, 0};
  for (int a = 0; a < 3; ++a) {
    line const& n = l.at[a];
    lo[a] = b.from[a] * n.stride + n.start, hi[a] = lo[a] + reach(n, b.size[a]);
  }
  hi[0] = lo[0] + (b.size.d - 1) * l.at[0].stride + tap_to, lo[0] += tap_from;
  bool const borders = bordered && (lo[1] < 0 || hi[1] > l.at[1].in);
  for (int a = 0; a < (bordered ? 1 : 2); ++a)
    lo[a] = lo[a] < 0 ? 0 : lo[a], hi[a] = hi[a] > l.at[a].in ? l.at[a].in : hi[a];

  index_t const width = l.at[2].in, row = width * l.in_channels, plane = l.at[1].in * row;
  T const* sample = x + b.sample * l.at[0].in * plane;
  if (lo[2] >= 0 && hi[2] <= width && !borders && l.groups == 1)
    return {sample + lo[2] * ci, 0, 0, plane, row};

  index_t const from = lo[2] < 0 ? 0 : lo[2], to = hi[2] > width ? width : hi[2];
  index_t const length = (hi[2] - lo[2]) * ci, rows = hi[1] > lo[1] ? hi[1] - lo[1] : 0;
  std::size_t const bytes = sizeof(T);
  for (index_t d = lo[0]; d < hi[0]; ++d)
    for (index_t h = lo[1]; h < hi[1]; ++h) {
      T* y = memory + ((d - lo[0]) * rows + h - lo[1]) * length;
      if (to <= from || h < 0 || h >= l.at[1].in) {
        std::memset(y, 0, std::size_t(length) * bytes);
        continue;
      }
      T const* s = sample + d * plane + h * row + from * l.in_channels + group * ci;
      std::memset(y, 0, std::size_t((from - lo[2]) * ci) * bytes);
      y += (from - lo[2]) * ci;
      if (l.groups == 1) {
        std::memcpy(y, s, std::size_t((to - from) * ci) * bytes);
        y += (to - from) * ci;
      } else {
        for (index_t w = from; w < to; ++w, s += l.in_channels)
          for (index_t i = 0; i < ci; ++i) *y++ = s[i];
      }
      std::memset(y, 0, std::size_t((hi[2] - to) * ci) * bytes);
    }
  return {memory, lo[0], lo[1], rows * length, length};
}

}  // namespace insula::detail::conv
