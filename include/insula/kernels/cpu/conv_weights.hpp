// SPDX-License-Identifier: Apache-2.0
// Weight and bias gradients of convolutions: products over positions, summed in an order that shapes alone decide.
#pragma once

#include "insula/kernels/cpu/conv_tap_rows.hpp"
#include "insula/kernels/cpu/conv_tile.hpp"
#include "insula/kernels/cpu/conv_window.hpp"

namespace insula::detail::conv {

/// y[i] += sum over s of part[s n + i], s ascending.
template <scalar T>
void add_parts(context<cpu>& cx, index_t parts, index_t n, T const* part, T* y) {
  constexpr index_t chunk = 4096;
  constexpr int w = simd::width<T>;
  cx.pool.run(ceil_divide(n, chunk), [&](index_t task, int) {
    index_t const end = (task + 1) * chunk < n ? (task + 1) * chunk : n;
    index_t i = task * chunk;
    for (; i + w <= end; i += w) {
      simd::pack<T> sum = simd::load(part + i);
      for (index_t s = 1; s < parts; ++s) sum += simd::load(part + s * n + i);
      simd::store(y + i, simd::load(y + i) + sum);
    }
    for (; i < end; ++i) {
      T sum = part[i];
      for (index_t s = 1; s < parts; ++s) sum += part[s * n + i];
      y[i] += sum;
    }
  });
}

/// gb[o] += sum over rows of gy[row, o].
template <scalar T>
void bias_gradient(context<cpu>& cx, index_t rows, index_t channels, T const* gy, T* gb) {
  constexpr index_t together = 64, most_parts = 32;  // rows summed before they join the total; partial sums
  index_t const parts = rows < most_parts * together ? ceil_divide(rows, together) : most_parts;
  if (parts == 0) return;
  scratch memory(cx);
  T* const total = memory.take<T>(parts * channels);
  cx.pool.run(parts, [&](index_t part, int worker) {
    scratch own(cx, worker);
    T* const sum = own.take<T>(channels);
    T* const y = total + part * channels;
    std::memset(y, 0, std::size_t(channels) * sizeof(T));
    index_t const end = rows * (part + 1) / parts;
    for (index_t r = rows * part / parts; r < end;) {
      index_t const stop = r + together < end ? r + together : end;
      std::memset(sum, 0, std::size_t(channels) * sizeof(T));
      for (; r < stop; ++r)
        for (index_t o = 0; o < channels; ++o) sum[o] += gy[r * channels + o];
      for (index_t o = 0; o < channels; ++o) y[o] += sum[o];
    }
  });
  add_parts(cx, parts, channels, total, gb);
}

/// Rows [from, to) of gy and the columns of a panel, as rows of whole registers: what the lattice's block writes.
template <scalar T>
void pack_gradient(lattice const& l, T const* gy, block const& at, index_t column, panel const& p, T* y) {
  constexpr int width = simd::width<T>;
  line const &dl = l.at[0], &hl = l.at[1], &wl = l.at[2];
  for (index_t d = at.from.d; d < at.from.d + at.size.d; ++d)
    for (index_t h = at.from.h; h < at.from.h + at.size.h; ++h) {
      index_t const od = dl.first + d * dl.step, oh = hl.first + h * hl.step,
                    ow = wl.first + at.from.w * wl.step;
      T const* x = gy + (((at.sample * dl.out + od) * hl.out + oh) * wl.out + ow) * l.out_channels + column;
      for (index_t q = 0; q < at.size.w; ++q, x += wl.step * l.out_channels, y += p.registers * width)
        for (int v = 0; v < p.registers; ++v) {
          if (simd::register_count == 32) __builtin_prefetch(x + 24 * l.out_channels + v * width);
          simd::store(y + v * width, v + 1 < p.registers || p.last == width
                                         ? simd::load(x + v * width)
                                         : simd::load(x + v * width, p.last));
        }
    }
}

/// gw[tap, i, o] += sum over samples and q of x[q stride + start + t, i] gy[first + step q, o], for the lattice of the
/// forward pass. One task adds up one lane of blocks for some panels of output channels and depth taps; lanes are
/// summed in order.
template <scalar T>
void weight_gradient(context<cpu>& cx, lattice const& l, T const* x, T const* gy, T* gw) {
  constexpr int width = simd::width<T>;
  line const &dl = l.at[0], &hl = l.at[1], &wl = l.at[2];
  index_t const ci = l.group_in(), co = l.group_out(), rows = wl.taps * ci;
  panels<T> const cut_channels(co);
  blocking const blocks = cut(l, (192 << 10) / index_t(sizeof(T)), 384, 1);
  index_t const block_count = blocks.count(l.batch);
  if (block_count == 0 || l.weights() == 0) return;

  // few weights: many lanes, each with all panels; many: few lanes, a panel and a depth tap at a time
  index_t const depth_parts = hl.taps * rows >= 64 ? dl.taps : 1, depth_taps = dl.taps / depth_parts;
  index_t const fit = (index_t(8) << 20) / (l.weights() * index_t(sizeof(T)));  // copies of gw
  index_t const panel_parts = fit * depth_parts >= 16 ? 1 : cut_channels.count;
  index_t const columns = l.groups * panel_parts * depth_parts;
  index_t lanes = ceil_divide(16, columns);
  lanes = lanes < block_count ? lanes : block_count;
  lanes = lanes < 8 * fit ? lanes : 8 * fit;
  lanes = lanes > 1 ? lanes : 1;

  scratch shared(cx);
  T* const part = lanes > 1 ? shared.take<T>(lanes * l.weights()) : gw;
  cx.pool.run(lanes * columns, [&](index_t task, int worker) {
    index_t const tap_from = task % depth_parts * depth_taps, tap_to = tap_from + depth_taps;
    index_t const panel_part = task / depth_parts % panel_parts;
    index_t const panel_from = cut_channels.count * panel_part / panel_parts;
    index_t const panel_to = cut_channels.count * (panel_part + 1) / panel_parts;
    index_t const group = task / depth_parts / panel_parts % l.groups, lane = task / columns;
    T* const out = part + (lanes > 1 ? lane * l.weights() : 0) + group * co;

    scratch memory(cx, worker);
    T* const window_memory = memory.take<T>(window_elements(l, blocks.size));
    T* const gradient = memory.take<T>(blocks.size.size() * cut_channels.at(0).registers * width);
    stretch* const list = memory.take<stretch>(blocks.size.h);
    bool const by_rows = simd::register_count == 16 && is_tap_row(rows);
    tap_row* const tap_rows = memory.take<tap_row>(by_rows ? depth_taps * hl.taps : 0);
    auto const at_tap = [&](index_t td, index_t th, panel const& p) {
      index_t const d = dl.tap + td * dl.tap_step, h = hl.tap + th * hl.tap_step;
      return out + ((d * hl.kernel + h) * wl.kernel + wl.tap) * ci * l.out_channels + p.from;
    };
    if (lanes > 1) {
      index_t const first = cut_channels.at(panel_from).from;
      panel const end = cut_channels.at(panel_to - 1);
      std::size_t const bytes = std::size_t(end.from + end.columns(width) - first) * sizeof(T);
      for (index_t td = tap_from; td < tap_to; ++td)
        for (index_t th = 0; th < hl.taps; ++th)
          for (index_t r = 0; r < rows; ++r)
            std::memset(at_tap(td, th, cut_channels.at(panel_from)) + r * l.out_channels, 0, bytes);
    }

    for (index_t i = block_count * lane / lanes; i < block_count * (lane + 1) / lanes; ++i) {
      block const at = blocks.at(l, i);
      index_t const from = at.from.d * dl.stride + dl.start;
      if (from + tap_to <= 0 || from + tap_from >= dl.in) continue;
      window<T> const in = pack(l, x, at, group, tap_from, tap_to, window_memory, by_rows);
      if (by_rows) {
        index_t count = 0;
        for (index_t td = tap_from; td < tap_to; ++td)
          for (index_t th = 0; from + td >= 0 && from + td < dl.in && th < hl.taps; ++th)
            tap_rows[count++] = {in.at(from + td, at.from.h * hl.stride + hl.start + th),
                                 at_tap(td, th, cut_channels.at(panel_from)) - out};
        panel const first = cut_channels.at(panel_from), end = cut_channels.at(panel_to - 1);
        index_t const outputs = end.from + end.columns(width) - first.from;
        for (index_t c = 0; c < outputs; c += width) {
          int const last = outputs - c < width ? int(outputs - c) : width;
          panel const p{first.from + c, 1, last};
          pack_gradient(l, gy, at, group * co + p.from, p, gradient);
          add_all_tap_rows(rows, at.size, in.data, hl.stride * in.row, wl.stride * ci, count, tap_rows,
                           gradient, l.out_channels, last, out + c);
        }
        continue;
      }
      for (index_t q = panel_from; q < panel_to; ++q) {
        panel const p = cut_channels.at(q);
        index_t const b_row = p.registers * width;
        pack_gradient(l, gy, at, group * co + p.from, p, gradient);
        product<T> m{list,     0,       at.size.w, in.data,        wl.stride * ci,
                     gradient, nullptr, true,      l.out_channels, p.last};
        m.asks = in.data != window_memory && q == panel_from;  // x itself, for the first time
        for (index_t td = tap_from; td < tap_to; ++td) {
          index_t const id = from + td;
          if (id < 0 || id >= dl.in) continue;
          for (index_t th = 0; th < hl.taps; ++th) {
            m.count = 0;
            for (index_t h = 0; h < at.size.h; ++h) {
              index_t const ih = (at.from.h + h) * hl.stride + hl.start + th;
              if (ih >= 0 && ih < hl.in)
                list[m.count++] = {in.at(id, ih), h * at.size.w * b_row, in.at(id, ih)};
            }
            if (m.count > 0) multiply_across(m, p.registers, rows, at_tap(td, th, p));
          }
        }
      }
    }
  });
  if (lanes > 1) add_parts(cx, lanes, l.weights(), part, gw);
}

}  // namespace insula::detail::conv
