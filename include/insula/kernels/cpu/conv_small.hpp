// SPDX-License-Identifier: Apache-2.0
// Convolutions of few positions and many weights: bound by bringing in weights, each of which is read once.
#pragma once

#include "insula/kernels/cpu/conv_direct.hpp"
#include "insula/kernels/cpu/conv_source.hpp"
#include "insula/kernels/cpu/conv_weights.hpp"
#include "insula/kernels/cpu/row.hpp"

namespace insula::detail::conv {

/// Whether weights outweigh positions so far that the loops of convolve and weight_gradient, which go over all weights
/// for each block of positions, would wait for memory.
inline bool is_small(lattice const& l) {
  constexpr index_t most_positions = 512, least_weights = 1 << 18, least_channels = 64;
  return l.groups == 1 && l.positions() <= most_positions && l.weights() >= least_weights &&
         l.in_channels >= least_channels;
}

/// The tap t of the flattened taps of a lattice, and the box [from, to) of the lattice's q whose input exists there.
struct tap_box {
  index_t weight;  // of the taps of the whole kernel
  extent shift;    // input = q stride + shift
  extent from, to;

  tap_box(lattice const& l, index_t t) : weight(0), shift{}, from{}, to{} {
    extent const at{t / l.at[2].taps / l.at[1].taps, t / l.at[2].taps % l.at[1].taps, t % l.at[2].taps};
    for (int a = 0; a < 3; ++a) {
      line const& n = l.at[a];
      weight = weight * n.kernel + n.tap + at[a] * n.tap_step;
      shift[a] = n.start + at[a];
      from[a] = shift[a] < 0 ? ceil_divide(-shift[a], n.stride) : 0;
      index_t const end = n.in > shift[a] ? (n.in - shift[a] - 1) / n.stride + 1 : 0;
      to[a] = end < n.count ? end : n.count;
      if (to[a] < from[a]) to[a] = from[a];
    }
  }
  extent size() const { return {to.d - from.d, to.h - from.h, to.w - from.w}; }
  /// Offset of the input of (d, h, w), in positions.
  index_t input(lattice const& l, index_t d, index_t h, index_t w) const {
    return ((d * l.at[0].stride + shift.d) * l.at[1].in + h * l.at[1].stride + shift.h) * l.at[2].in +
           w * l.at[2].stride + shift.w;
  }
};

/// Offset of the output of the lattice's (d, h, w), in positions.
inline index_t output_at(lattice const& l, index_t d, index_t h, index_t w) {
  return ((l.at[0].first + d * l.at[0].step) * l.at[1].out + l.at[1].first + h * l.at[1].step) * l.at[2].out +
         l.at[2].first + w * l.at[2].step;
}

/// y (+)= b + the lattice's convolution of x with w, for is_small(l). A task has a few panels of output channels and all
/// positions; tap after tap its weights are packed once and meet all positions. Nothing is computed outside the input.
template <scalar T>
void convolve_small(context<cpu>& cx, lattice const& l, T const* x, weight_source<T> w, T const* b, bool adds,
                    T* y) {
  constexpr int width = simd::width<T>;
  constexpr index_t most_panels = 4,
                    input_bytes = 192 << 10;  // what stays in the L2 cache for all panels of a task
  // of a panel's packed weights, so that they stay in the L1 cache, or most of them
  constexpr index_t most_depth =
      (simd::register_count == 32 ? 24576 : 16384) / (panels<T>::most * simd::register_bytes);
  index_t const ci = l.in_channels, co = l.out_channels, taps = l.at[0].taps * l.at[1].taps * l.at[2].taps;
  extent const size{l.at[0].count, l.at[1].count, l.at[2].count};
  if (l.positions() == 0) return;
  panels<T> const cut_channels(co, true);
  index_t group = ceil_divide(cut_channels.count, enough_tasks);
  group = group < most_panels ? group : most_panels;
  index_t depth = input_bytes / index_t(sizeof(T)) / l.positions();
  depth = depth < most_depth ? depth : most_depth;
  index_t const cuts = ceil_divide(ci, depth), most_columns = cut_channels.at(0).registers * width;
  depth = ceil_divide(ci, cuts);

  cx.pool.run(ceil_divide(cut_channels.count, group), [&](index_t task, int worker) {
    index_t const first = task * group;
    index_t const end = first + group < cut_channels.count ? first + group : cut_channels.count;
    panel const last = cut_channels.at(end - 1);
    index_t const column = cut_channels.at(first).from, columns = last.from + last.columns(width) - column;
    scratch memory(cx, worker);
    T* const weights = memory.take<T>(group * depth * most_columns);

    // start: bias or nothing
    auto const each_row = [&](extent from, extent to, auto f) {
      for (index_t sample = 0; sample < l.batch; ++sample)
        for (index_t d = from.d; d < to.d; ++d)
          for (index_t h = from.h; h < to.h; ++h)
            f(sample, d, h, y + (sample * l.out_size() + output_at(l, d, h, from.w)) * co);
    };
    if (!adds)
      each_row({0, 0, 0}, size, [&](index_t, index_t, index_t, T* row) {
        for (index_t q = 0; q < size.w; ++q, row += l.at[2].step * co)
          for (index_t o = column; o < column + columns; ++o) row[o] = b ? b[o] : T(0);
      });

    // accumulate
    for (index_t t = 0; t < taps; ++t) {
      tap_box const box(l, t);
      if (box.size().size() == 0) continue;
      index_t next = t + 1;  // tap that reads anything
      while (next < taps && tap_box(l, next).size().size() == 0) ++next;
      for (index_t from = 0; from < ci; from += depth) {
        index_t const to = from + depth < ci ? from + depth : ci;
        T* packed = weights;
        for (index_t q = first; q < end; ++q) {
          panel const p = cut_channels.at(q);
          w.fetch(l, box.weight, p, from, to, packed);
          packed += (to - from) * p.registers * width;
        }
        packed = weights;
        for (index_t q = first; q < end; ++q) {
          panel const p = cut_channels.at(q);
          stretch const all{0, 0};
          product<T> one{&all,   1,       to - from, nullptr,           l.at[2].stride * ci,
                         packed, nullptr, true,      l.at[2].step * co, p.last};
          // what the next weights are packed from is asked for meanwhile
          index_t const rows = l.batch * box.size().d * box.size().h, after = to < ci ? to : 0;
          index_t const after_tap = to < ci ? box.weight : next < taps ? tap_box(l, next).weight : -1;
          index_t share = 0;
          each_row(box.from, box.to, [&](index_t sample, index_t d, index_t h, T* row) {
            if (after_tap >= 0)
              w.prefetch(l, after_tap, p, after, after + depth < ci ? after + depth : ci, share, rows);
            ++share;
            one.a = x + (sample * l.in_size() + box.input(l, d, h, box.from.w)) * ci + from;
            multiply(one, p.registers, box.size().w, row + p.from);
          });
          packed += (to - from) * p.registers * width;
        }
      }
    }
  });
}

/// gw[tap, i, o] += sum over samples and q of x[q stride + start + t, i] gy[first + step q, o], for is_small(l). A task
/// has a tap and a run of panels; it gathers the tap's inputs, all positions are one product, gw is touched once.
template <scalar T>
void weight_gradient_small(context<cpu>& cx, lattice const& l, T const* x, T const* gy, T* gw) {
  constexpr int width = simd::width<T>;
  constexpr index_t rows = 24;  // input channels at a time: whole register tiles, and their inputs stay in L1
  index_t const ci = l.in_channels, co = l.out_channels, positions = l.positions();
  index_t const taps = l.at[0].taps * l.at[1].taps * l.at[2].taps, chunks = ceil_divide(ci, rows);
  if (positions == 0) return;
  panels<T> const cut_channels(co);
  index_t const most = cut_channels.at(0).registers * width;
  index_t parts = ceil_divide(enough_tasks, taps);
  parts = parts < cut_channels.count ? parts : cut_channels.count;

  scratch shared(cx);
  T* const gradient = shared.take<T>(cut_channels.count * positions * most);  // panel after panel
  cx.pool.run(cut_channels.count, [&](index_t q, int) {
    panel const p = cut_channels.at(q);
    block at{0, {0, 0, 0}, {l.at[0].count, l.at[1].count, l.at[2].count}};
    for (; at.sample < l.batch; ++at.sample)
      pack_gradient(l, gy, at, p.from, p,
                    gradient + q * positions * most + at.sample * at.size.size() * p.registers * width);
  });

  cx.pool.run(taps * parts, [&](index_t task, int worker) {
    tap_box const box(l, task / parts);
    index_t const part = task % parts;
    extent const some = box.size();
    index_t const count = l.batch * some.size();
    if (count == 0) return;
    scratch memory(cx, worker);
    T* const in = memory.take<T>(chunks * positions * rows);
    // stretches: as many positions at a time as follow one another among the inputs that exist and the gradients
    stretch* const list = memory.take<stretch>(l.batch * some.d * some.h);
    bool const whole_rows = some.w == l.at[2].count, whole_planes = whole_rows && some.h == l.at[1].count;
    index_t const length = whole_planes ? some.h * some.w : some.w, per_plane = whole_planes ? 1 : some.h;

    index_t position = 0;
    for (index_t sample = 0; sample < l.batch; ++sample)
      for (index_t d = box.from.d; d < box.to.d; ++d)
        for (index_t h = box.from.h; h < box.to.h; ++h)
          for (index_t q = box.from.w; q < box.to.w; ++q, ++position) {
            T const* s = x + (sample * l.in_size() + box.input(l, d, h, q)) * ci;
            for (index_t c = 0; c < chunks; ++c)
              simd::copy(c * rows + rows < ci ? rows : ci - c * rows, s + c * rows,
                         in + (c * positions + position) * rows);
          }
    for (index_t q = cut_channels.count * part / parts; q < cut_channels.count * (part + 1) / parts; ++q) {
      panel const p = cut_channels.at(q);
      index_t const columns = p.registers * width;
      index_t stretches = 0;
      for (index_t sample = 0; sample < l.batch; ++sample)
        for (index_t d = box.from.d; d < box.to.d; ++d)
          for (index_t h = 0; h < per_plane; ++h, ++stretches)
            list[stretches] = {
                stretches * length * rows,
                (((sample * l.at[0].count + d) * l.at[1].count + box.from.h + h) * l.at[2].count +
                 box.from.w) *
                    columns};
      product<T> one{list,    stretches, length, nullptr, rows, gradient + q * positions * most,
                     nullptr, true,      co,     p.last};
      for (index_t c = 0; c < chunks; ++c) {
        T* const to = gw + (box.weight * ci + c * rows) * co + p.from;
        index_t const height = c * rows + rows < ci ? rows : ci - c * rows;
        if (c + 1 < chunks)
          for (index_t r = 0; r < rows; ++r)
            __builtin_prefetch(to + (rows + r) * co, 1);  // strided: not foreseen
        one.a = in + c * positions * rows;
        multiply_across(one, p.registers, height, to);
      }
    }
  });
}

}  // namespace insula::detail::conv
