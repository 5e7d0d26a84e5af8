// SPDX-License-Identifier: Apache-2.0
// Winograd's convolution of few positions and many weights, and its weight gradient: what is large stays in the cache.
#pragma once

#include "insula/kernels/cpu/conv_winograd.hpp"

namespace insula::detail::conv {

/// Whether transformed weights outweigh transformed inputs so far that they should not go through memory.
template <int M, scalar T>
bool is_winograd_small(lattice const& l) {
  constexpr index_t A = winograd<M>::A, most_rows = 256, least_bytes = 4 << 20;
  index_t const tiles = ceil_divide(l.at[1].count, M) * ceil_divide(l.at[2].count, M);
  return l.batch * l.at[0].count * tiles <= most_rows &&
         A * A * l.at[0].taps * l.in_channels * l.out_channels * index_t(sizeof(T)) >= least_bytes;
}

/// convolve_winograd for is_winograd_small(l): all inputs are transformed first; then a task has a panel of output channels and
/// all positions. It transforms its weights for some input channels at a time, which meet all tiles at once: they are read
/// once and their transforms never leave the cache.
template <int M, scalar T>
void convolve_winograd_small(context<cpu>& cx, lattice const& l, T const* x, weight_source<T> w, T const* b,
                             bool adds, T* y) {
  constexpr index_t A = winograd<M>::A, width = simd::width<T>, least = 16, most = 64;
  constexpr index_t cache = simd::register_count == 32 ? 40 << 10 : 20 << 10;  // one of the A A products
  line const& dl = l.at[0];
  index_t const ci = l.in_channels, planes = dl.count;
  panels<T> const cut_channels(l.out_channels);
  auto const cut = winograd_cut<M>::whole(l);
  index_t const run = cut.run, rows = l.batch * planes * run, columns = cut_channels.at(0).registers * width;

  index_t depth = cache / index_t(sizeof(T)) / (rows + dl.taps * columns);
  depth = depth < least ? least : depth > most ? most : depth;
  index_t const chunks = ceil_divide(ci, depth);
  depth = ceil_divide(ceil_divide(ci, chunks), width) *
          width;  // of the last chunk less may be there, even nothing
  index_t const v_each = spread<T>((planes + dl.taps - 1) * run * depth), m_each = spread<T>(rows * columns),
                u_each = spread<T>(dl.taps * depth * columns);

  scratch shared(cx);
  T* const v = shared.take<T>(l.batch * chunks * A * A * v_each);
  auto const first = [&](index_t chunk) { return chunk * depth < ci ? chunk * depth : ci; };
  cx.pool.run(l.batch * chunks, [&](index_t task, int) {
    index_t const chunk = task % chunks;
    transform_inputs<M>(l, cut, x, winograd_block{task / chunks, 0, planes, 0, run}, first(chunk),
                        first(chunk + 1), depth, v_each, v + task * A * A * v_each);
  });
  cx.pool.run(cut_channels.count, [&](index_t task, int worker) {
    panel const p = cut_channels.at(task);
    index_t const row = p.registers * width;
    scratch memory(cx, worker);
    T* const u = memory.take<T>(A * A * u_each);
    T* const m = memory.take<T>(A * A * m_each);
    T* const turned = memory.take<T>(w.turned ? 9 * depth * row : 0);
    stretch* const list = memory.take<stretch>(dl.taps);
    for (index_t chunk = 0; chunk < chunks; ++chunk) {
      index_t const from = first(chunk), to = first(chunk + 1);
      for (index_t t = 0; t < dl.taps; ++t) {
        if (w.turned)
          for (index_t k = 0; k < 9; ++k)
            w.fetch(l, (dl.tap + t) * 9 + k, p, from, to, turned + k * depth * row);
        T const* const plain = w.w + ((dl.tap + t) * 9 * ci + from) * l.out_channels + p.from;
        if (w.turned)
          transform_panel<M>(p, to - from, u_each, turned, row, depth * row, int(width), u + t * depth * row);
        else
          transform_panel<M>(p, to - from, u_each, plain, l.out_channels, ci * l.out_channels, p.last,
                             u + t * depth * row);
      }
      for (index_t k = 0; k < A * A; ++k) {
        // what the next weights are transformed from is asked for, at the end those of the next task, which this worker may get
        for (index_t t = 9 * dl.taps * k / (A * A); t < 9 * dl.taps * (k + 1) / (A * A); ++t)
          if (to < ci)
            w.prefetch(l, dl.tap * 9 + t, p, to, first(chunk + 2));
          else if (task + 1 < cut_channels.count)
            w.prefetch(l, dl.tap * 9 + t, cut_channels.at(task + 1), 0, first(1));
        for (index_t sample = 0; sample < l.batch; ++sample) {
          winograd_block const all{sample, 0, planes, 0, run};
          each_depth(l, all, [&](index_t d, index_t end, index_t tap, index_t taps) {
            for (index_t t = 0; t < taps; ++t) list[t] = {(tap + t) * run * depth, (tap + t) * depth * row};
            product<T> const one{
                list,      taps,
                to - from, v + ((sample * chunks + chunk) * A * A + k) * v_each + d * run * depth,
                depth,     u + k * u_each,
                nullptr,   chunk > 0,
                row,       width};
            multiply(one, p.registers, (end - d) * run, m + k * m_each + (sample * planes + d) * run * row);
          });
        }
      }
    }
    for (index_t sample = 0; sample < l.batch; ++sample)
      for (index_t d = 0; d < planes; ++d)
        transform_outputs<M>(l, cut, m + (sample * planes + d) * run * row, m_each,
                             winograd_block{sample, 0, planes, 0, run}, d, p, b, adds, y);
  });
}

/// weight_gradient_winograd for is_winograd_small(l): inputs are transformed first; then a task has a panel of output channels, all positions
/// and some in channels at a time, whose transformed gradients never leave the cache.
template <int M, scalar T>
void weight_gradient_winograd_small(context<cpu>& cx, lattice const& l, T const* x, T const* gy, T* gw) {
  constexpr index_t A = winograd<M>::A, width = simd::width<T>,
                    depth = 48;  // in channels: whole register tiles
  line const& dl = l.at[0];
  index_t const ci = l.in_channels, planes = dl.count, chunks = ceil_divide(ci, depth);
  panels<T> const cut_channels(l.out_channels);
  auto const cut = winograd_cut<M>::whole(l);
  index_t const run = cut.run, rows = l.batch * planes * run, most = cut_channels.at(0).registers * width;
  index_t const v_each = spread<T>((planes + dl.taps - 1) * run * depth), m_each = spread<T>(rows * most),
                u_each = spread<T>(depth * most);
  index_t parts = ceil_divide(enough_tasks, cut_channels.count);
  parts = parts < chunks ? parts : chunks;
  auto const end = [&](index_t chunk) { return (chunk + 1) * depth < ci ? (chunk + 1) * depth : ci; };

  scratch shared(cx);
  T* const v = shared.take<T>(l.batch * chunks * A * A * v_each);
  cx.pool.run(l.batch * chunks, [&](index_t task, int) {
    index_t const chunk = task % chunks;
    transform_inputs<M>(l, cut, x, winograd_block{task / chunks, 0, planes, 0, run}, chunk * depth,
                        end(chunk), depth, v_each, v + task * A * A * v_each);
  });
  cx.pool.run(cut_channels.count * parts, [&](index_t task, int worker) {
    panel const p = cut_channels.at(task / parts);
    index_t const part = task % parts, columns = p.registers * width;
    scratch memory(cx, worker);
    T* const m = memory.take<T>(A * A * m_each);
    T* const u = memory.take<T>(A * A * u_each);
    stretch* const list = memory.take<stretch>(l.batch);
    for (index_t sample = 0; sample < l.batch; ++sample)
      transform_gradients<M>(l, cut, gy, winograd_block{sample, 0, planes, 0, run}, p, m_each,
                             m + sample * planes * run * columns);
    for (index_t chunk = chunks * part / parts; chunk < chunks * (part + 1) / parts; ++chunk)
      for (index_t t = 0; t < dl.taps; ++t) {
        index_t const d = dl.start + t < 0 ? -dl.start - t : 0;  // planes whose input at this tap exists
        index_t const to = planes + dl.start + t > dl.in ? dl.in - dl.start - t : planes;
        if (to <= d) continue;
        for (index_t sample = 0; sample < l.batch; ++sample)
          list[sample] = {sample * chunks * A * A * v_each + (d + t) * run * depth,
                          (sample * planes + d) * run * columns};
        for (index_t k = 0; k < A * A; ++k) {
          product<T> const one{list,    l.batch,        (to - d) * run, v + (chunk * A * A + k) * v_each,
                               depth,   m + k * m_each, nullptr,        false,
                               columns, width};
          multiply_across(one, p.registers, end(chunk) - chunk * depth, u + k * u_each);
        }
        add_panel_gradient<M>(l, p, t, chunk * depth, end(chunk), u, u_each, 1, 0, gw);
      }
  });
}

}  // namespace insula::detail::conv
