// SPDX-License-Identifier: Apache-2.0
// The lattice: one description of which input, tap and output meet in a convolution, its input gradient and its transpose.
#pragma once

#include "insula/base/check.hpp"
#include "insula/op/conv.hpp"

namespace insula::detail::conv {

/// One axis. Output first + step q takes input q stride + start + t through weight tap  tap + tap_step t,
/// for 0 <= q < count and 0 <= t < taps; inputs outside [0, in) are zero.
struct line {
  index_t in, out, kernel;
  index_t count, first, step;
  index_t stride, start;
  index_t taps, tap, tap_step;
};

/// Three axes (depth, height, width), and the channels:
/// out[q, o] (+)= sum_{t,i} in[q, t, i] weight[t, i, o],  weights (kernel, in_channels / groups, out_channels).
struct lattice {
  index_t batch;
  line at[3];
  index_t in_channels, out_channels, groups;

  index_t group_in() const { return in_channels / groups; }
  index_t group_out() const { return out_channels / groups; }
  index_t in_size() const { return at[0].in * at[1].in * at[2].in; }
  index_t out_size() const { return at[0].out * at[1].out * at[2].out; }
  index_t kernel_size() const { return at[0].kernel * at[1].kernel * at[2].kernel; }
  index_t positions() const { return batch * at[0].count * at[1].count * at[2].count; }
  index_t weights() const { return kernel_size() * group_in() * out_channels; }
};

inline void check_geometry(op::conv3d_geometry const& g) {
  check(g.groups >= 1 && g.in_channels % g.groups == 0 && g.out_channels % g.groups == 0,
        "conv3d: groups is ", g.groups, ", it must divide ", g.in_channels, " input and ", g.out_channels,
        " output channels");
  for (int i = 0; i < 3; ++i)
    check(g.kernel[i] >= 1 && g.stride[i] >= 1 && g.pad[i] >= 0 && g.in[i] + 2 * g.pad[i] >= g.kernel[i],
          "conv3d: the kernel ", g.kernel, " with stride ", g.stride, " and padding ", g.pad,
          " does not fit the input ", g.in, ": use a smaller kernel or more padding");
}

/// The convolution itself.
inline lattice forward_lattice(op::conv3d_geometry const& g) {
  lattice l{g.batch, {}, g.in_channels, g.out_channels, g.groups};
  extent const out = g.out();
  bool const product = g.kernel == cube(1) && g.stride == cube(1) && g.pad == extent{0, 0, 0};
  if (product) {  // every position alike: one long row
    index_t const rows = g.batch * g.in.size();
    l.batch = 1;
    l.at[0] = l.at[1] = {1, 1, 1, 1, 0, 1, 1, 0, 1, 0, 1};
    l.at[2] = {rows, rows, 1, rows, 0, 1, 1, 0, 1, 0, 1};
    return l;
  }
  for (int i = 0; i < 3; ++i)
    l.at[i] = {g.in[i], out[i], g.kernel[i], out[i], 0, 1, g.stride[i], -g.pad[i], g.kernel[i], 0, 1};
  return l;
}

/// The input gradient at inputs congruent to `r` modulo the stride: a convolution of gy, stride 1, with every stride-th
/// tap of the transposed kernel. Weights are expected with their taps in reverse order.
inline lattice backward_lattice(op::conv3d_geometry const& g, extent r) {
  lattice l{g.batch, {}, g.out_channels, g.in_channels, g.groups};
  extent const out = g.out();
  for (int i = 0; i < 3; ++i) {
    index_t const s = g.stride[i], k = g.kernel[i], tap = (r[i] + g.pad[i]) % s;
    index_t const taps = tap < k ? (k - tap + s - 1) / s : 0;
    l.at[i] = {out[i], g.in[i],
               k,      r[i] < g.in[i] ? (g.in[i] - r[i] + s - 1) / s : 0,
               r[i],   s,
               1,      (r[i] + g.pad[i] - tap) / s - (taps - 1),
               taps,   k - 1 - tap - s * (taps - 1),
               s};
  }
  return l;
}

/// The transposed convolution at outputs congruent to `k` modulo the kernel: a product with the weights of tap k alone.
inline lattice transpose_lattice(index_t batch, extent in, index_t in_channels, index_t out_channels,
                                 extent kernel, extent k) {
  lattice l{batch, {}, in_channels, out_channels, 1};
  for (int i = 0; i < 3; ++i) l.at[i] = {in[i], in[i] * kernel[i], 1, in[i], k[i], kernel[i], 1, 0, 1, 0, 1};
  return l;
}

/// Calls f(r) for every r in [0, e), row-major.
template <class F>
void each_offset(extent e, F f) {
  for (index_t d = 0; d < e.d; ++d)
    for (index_t h = 0; h < e.h; ++h)
      for (index_t w = 0; w < e.w; ++w) f(extent{d, h, w});
}

/// A block of outputs of one sample, and of the lattice's q.
struct block {
  index_t sample;
  extent from, size;
};

/// How a lattice is cut into blocks. Depends on shapes alone, never on the number of threads.
struct blocking {
  extent size, blocks;
  index_t count(index_t batch) const { return batch * blocks.size(); }

  block at(lattice const& l, index_t i) const {
    block b;
    b.from.w = i % blocks.w * size.w, i /= blocks.w;
    b.from.h = i % blocks.h * size.h, i /= blocks.h;
    b.from.d = i % blocks.d * size.d, i /= blocks.d;
    b.sample = i;
    for (int a = 0; a < 3; ++a)
      b.size[a] = b.from[a] + size[a] <= l.at[a].count ? size[a] : l.at[a].count - b.from[a];
    return b;
  }
};

/// Inputs along one axis that `size` consecutive outputs touch.
constexpr index_t reach(line const& l, index_t size) { return (size - 1) * l.stride + l.taps; }

constexpr index_t ceil_divide(index_t a, index_t b) { return (a + b - 1) / b; }

/// Largest blocks whose input window stays within `elements` and whose outputs stay within `positions`, rows first;
/// along an axis all blocks are about equally large.
inline blocking cut(lattice const& l, index_t elements, index_t positions, index_t most_depth) {
  index_t const ci = l.group_in();
  blocking b{{1, 1, 1}, {}};
  auto const fits = [&](extent e) {
    return e.size() <= positions &&
           reach(l.at[0], e.d) * reach(l.at[1], e.h) * reach(l.at[2], e.w) * ci <= elements;
  };
  for (int axis : {2, 1, 0}) {
    index_t const most = axis == 0 && most_depth < l.at[0].count ? most_depth : l.at[axis].count;
    index_t low = 1, high = most;
    while (low < high) {
      extent e = b.size;
      e[axis] = (low + high + 1) / 2;
      if (fits(e))
        low = e[axis];
      else
        high = e[axis] - 1;
    }
    index_t const pieces = most > 0 ? ceil_divide(l.at[axis].count, low) : 0;
    b.size[axis] = pieces > 0 ? ceil_divide(l.at[axis].count, pieces) : 1;
    b.blocks[axis] = pieces > 0 ? ceil_divide(l.at[axis].count, b.size[axis]) : 0;
    if (axis == 2 && pieces > 1) {  // whole register tiles in all but the last piece
      b.size.w = ceil_divide(b.size.w, 24) * 24;
      b.blocks.w = ceil_divide(l.at[2].count, b.size.w);
    }
  }
  return b;
}

}  // namespace insula::detail::conv
