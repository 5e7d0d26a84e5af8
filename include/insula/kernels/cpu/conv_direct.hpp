// SPDX-License-Identifier: Apache-2.0
// Direct convolution on a lattice: shifted rows of inputs times panels of weights, summed in registers.
#pragma once

#include "insula/kernels/cpu/conv_tile.hpp"
#include "insula/kernels/cpu/conv_window.hpp"

namespace insula::detail::conv {

inline constexpr index_t window_bytes = 256 << 10;     // of one block's inputs: a quarter of a 1 MiB L2,
inline constexpr index_t most_window_bytes = 2 << 20;  // but more, from L3, where fewer than
inline constexpr index_t enough_positions = 192;       // outputs would share each packed weight
inline constexpr index_t slice_bytes = 256 << 10;      // of one slice of packed weights
inline constexpr index_t shared_weight_bytes =
    8 << 20;  // of packed weights that all blocks read, else each packs its own
inline constexpr index_t longest_chain = 1024;  // products summed before the sum joins the output
inline constexpr index_t enough_tasks = 12;     // for a balanced load on a few cores

/// Weights of taps [from, to) of the flattened (depth, height) taps and of one panel, rows of whole registers.
/// Source (kernel, group_in, out_channels), `column` the panel's first output channel over all groups.
template <scalar T>
void pack_weights(lattice const& l, T const* w, index_t column, panel const& p, index_t from, index_t to,
                  T* y) {
  constexpr int width = simd::width<T>;
  index_t const ci = l.group_in(), co = l.out_channels;
  line const &dl = l.at[0], &hl = l.at[1], &wl = l.at[2];
  for (index_t t = from; t < to; ++t) {
    index_t const d = dl.tap + t / hl.taps * dl.tap_step, h = hl.tap + t % hl.taps * hl.tap_step;
    for (index_t s = 0; s < wl.taps; ++s) {
      index_t const k = (d * hl.kernel + h) * wl.kernel + wl.tap + s * wl.tap_step;
      T const* x = w + k * ci * co + column;
      for (index_t i = 0; i < ci; ++i, x += co, y += p.registers * width)
        for (int v = 0; v < p.registers; ++v)
          simd::store(y + v * width, v + 1 < p.registers || p.last == width
                                         ? simd::load(x + v * width)
                                         : simd::load(x + v * width, p.last));
    }
  }
}

/// Blocks whose inputs stay in the cache next to a slice of weights; larger ones if too few outputs would share the
/// weights, smaller ones if there would be too few tasks of `panels` each.
template <scalar T>
blocking cut_blocks(lattice const& l, index_t panels) {
  index_t positions = 512, bytes = window_bytes;
  auto const now = [&] { return cut(l, bytes / index_t(sizeof(T)), positions, 8); };
  blocking b = now();
  for (; bytes < most_window_bytes && b.size.size() < enough_positions && b.blocks.size() > 1; b = now())
    bytes *= 2;
  for (; positions > 64 && b.count(l.batch) * panels < enough_tasks; b = now()) positions /= 2;
  return b;
}

/// Outputs [from, from + count) along w and the window they read, which is x itself if `direct`.
template <class T>
struct strip {
  index_t from, count;
  window<T> in;
  bool direct;
};

/// A block's outputs in strips along w: only those that touch the border read a packed window, as packing takes a tenth of the
/// time of a whole block with stride 2. Short rows are packed as a whole, and all where the tiles cannot ask for the rest.
template <class T>
struct strips {
  strip<T> all[3];
  int count = 0;

  /// `tile`: rows of a register tile. Packs into `memory`, window_elements of the block.
  strips(lattice const& l, T const* x, block const& b, index_t group, index_t tile, T* memory) : all{} {
    constexpr index_t long_row = 4096;  // bytes
    line const& n = l.at[2];
    index_t const first = b.from.w * n.stride + n.start, end = first + reach(n, b.size.w);
    auto const tiles = [&](index_t outside) {
      return outside > 0 ? ceil_divide(ceil_divide(outside, n.stride), tile) * tile : 0;
    };
    index_t left = tiles(-first), right = tiles(end - n.in);
    bool const cut = simd::register_count == 32 && l.groups == 1 &&
                     n.in * l.in_channels * index_t(sizeof(T)) >= long_row &&
                     left + right + tile <= b.size.w && n.taps <= tile;  // so that both windows fit `memory`
    if (!cut) left = b.size.w, right = 0;
    index_t from = b.from.w;
    for (index_t size : {left, b.size.w - left - right, right}) {
      if (size == 0) continue;
      block part = b;
      part.from.w = from, part.size.w = size;
      window<T> const in = pack(l, x, part, group, 0, l.at[0].taps, memory);
      all[count++] = {from, size, in, in.data != memory};
      if (in.data == memory) memory += window_elements(l, part.size);
      from += size;
    }
  }
  strip<T> const* begin() const { return all; }
  strip<T> const* end() const { return all + count; }
};

/// y (+)= b + the lattice's convolution of x with w. `adds`: y keeps what it has. b may be null.
template <scalar T>
void convolve(context<cpu>& cx, lattice const& l, T const* x, T const* w, T const* b, bool adds, T* y) {
  constexpr int width = simd::width<T>;
  line const &dl = l.at[0], &hl = l.at[1], &wl = l.at[2];
  index_t const ci = l.group_in(), co = l.group_out(), depth = wl.taps * ci, taps = dl.taps * hl.taps;
  panels<T> const cut_channels(co, true);

  blocking const blocks = cut_blocks<T>(l, cut_channels.count * l.groups);
  index_t const block_count = blocks.count(l.batch);
  if (block_count == 0) return;
  index_t parts = ceil_divide(enough_tasks, block_count * l.groups);
  parts = parts < cut_channels.count ? parts : cut_channels.count;

  index_t const tap_elements = depth * cut_channels.at(0).registers * width;
  index_t const longest = slice_bytes / index_t(sizeof(T)) / (cut_channels.at(0).registers * width);
  index_t const most_taps = depth > 0 ? (longest < longest_chain ? longest : longest_chain) / depth : taps;
  index_t const slices = taps > 0 ? ceil_divide(taps, most_taps < 1 ? 1 : most_taps) : 1;
  index_t const slice = taps > 0 ? ceil_divide(taps, slices) : 1;
  bool const ready = cut_channels.count == 1 && l.groups == 1 && cut_channels.at(0).last == width &&
                     (wl.taps <= 1 || wl.tap_step == 1);  // w itself has rows of whole registers

  scratch shared(cx);
  index_t const panel_elements = taps * tap_elements, all = l.groups * cut_channels.count * panel_elements;
  bool const once = !ready && block_count > 1 && all * index_t(sizeof(T)) <= shared_weight_bytes;
  T* const packed = once ? shared.take<T>(all) : nullptr;
  if (once)
    cx.pool.run(l.groups * cut_channels.count * taps, [&](index_t task, int) {
      index_t const t = task % taps, q = task / taps % cut_channels.count,
                    group = task / taps / cut_channels.count;
      panel const p = cut_channels.at(q);
      pack_weights(l, w, group * co + p.from, p, t, t + 1,
                   packed + task / taps * panel_elements + t * depth * p.registers * width);
    });

  cx.pool.run(block_count * l.groups * parts, [&](index_t task, int worker) {
    index_t const part = task % parts, group = task / parts % l.groups;
    block const at = blocks.at(l, task / parts / l.groups);
    scratch memory(cx, worker);
    T* const window_memory = memory.take<T>(window_elements(l, blocks.size));
    T* const weights = ready || once ? nullptr : memory.take<T>(slice * tap_elements);
    stretch* const list = memory.take<stretch>(slice + 1);
    strips<T> const along_w(l, x, at, group, tile_rows(cut_channels.at(0).registers), window_memory);

    // Of a stretch's rows of inputs what is read for the first time after the outputs at (d, h): by the next h, at the end of a
    // plane by the next d; packed rows were read before, and those of the next plane are asked for.
    auto const later = [&](strip<T> const& s, index_t d, index_t h, index_t td, index_t th) -> index_t {
      bool const below = s.direct && h + 1 < hl.count;
      if (below ? th + hl.stride < hl.taps : td + dl.stride < dl.taps || (!s.direct && th >= hl.stride))
        return -1;
      index_t const id = (below ? d : d + 1) * dl.stride + dl.start + td;
      index_t const ih = (below ? h + 1 : s.direct ? 0 : h) * hl.stride + hl.start + th;
      if (id < 0 || id >= dl.in || ih < 0 || ih >= hl.in) return -1;
      index_t const iw = s.from * wl.stride + wl.start;
      return (((at.sample * dl.in + id) * hl.in + ih) * wl.in + (iw < 0 ? 0 : iw)) * l.in_channels;
    };

    index_t const first = cut_channels.count * part / parts, end = cut_channels.count * (part + 1) / parts;
    for (index_t q = first; q < end; ++q) {
      panel const p = cut_channels.at(q);
      index_t const column = group * co + p.from;
      for (index_t from = 0; from == 0 || from < taps; from += slice) {
        index_t const to = from + slice < taps ? from + slice : taps;
        T const* panel_weights = w;
        if (once)
          panel_weights =
              packed + (group * cut_channels.count + q) * panel_elements + from * depth * p.registers * width;
        else if (!ready)
          pack_weights(l, w, column, p, from, to, weights), panel_weights = weights;
        product<T> m{list,
                     0,
                     depth,
                     x,
                     wl.stride * ci,
                     panel_weights,
                     b ? b + column : nullptr,
                     adds || from > 0,
                     wl.step * l.out_channels,
                     p.last,
                     q == first,
                     x};
        for (index_t d = at.from.d; d < at.from.d + at.size.d; ++d)
          for (index_t h = at.from.h; h < at.from.h + at.size.h; ++h) {
            for (strip<T> const& s : along_w) {
              m.a = s.in.data, m.count = 0;
              index_t td = taps > 0 ? from / hl.taps : 0, th = taps > 0 ? from % hl.taps - 1 : 0;
              for (index_t t = from; t < to; ++t) {
                if (++th == hl.taps) th = 0, ++td;
                index_t const id = d * dl.stride + dl.start + td, ih = h * hl.stride + hl.start + th;
                if (id < 0 || id >= dl.in || ih < 0 || ih >= hl.in) continue;
                index_t const k =
                    ((dl.tap + td * dl.tap_step) * hl.kernel + hl.tap + th * hl.tap_step) * wl.kernel +
                    wl.tap;
                list[m.count++] = {s.in.at(id, ih),
                                   ready ? k * ci * l.out_channels : (t - from) * depth * p.registers * width,
                                   m.asks && l.groups == 1 ? later(s, d, h, td, th) : -1};
              }
              if (m.count == 0 && m.adds) continue;
              index_t const od = dl.first + d * dl.step, oh = hl.first + h * hl.step,
                            ow = wl.first + s.from * wl.step;
              T* const out =
                  y + (((at.sample * dl.out + od) * hl.out + oh) * wl.out + ow) * l.out_channels + column;
              multiply(m, p.registers, s.count, out);
            }
          }
      }
    }
  });
}

}  // namespace insula::detail::conv
