// SPDX-License-Identifier: Apache-2.0
// Depth-wise convolution: one register of channels at a time slides along the width over a ring of padded planes.
#pragma once

#include "insula/kernels/cpu/conv_direct.hpp"
#include "insula/kernels/cpu/conv_weights.hpp"

namespace insula::detail::conv {

inline constexpr index_t ring_bytes = 512 << 10;  // of the planes one task keeps

/// How a depth-wise lattice is cut: runs of channels, runs of rows, and slabs of planes if there would be few tasks.
struct depthwise_cut {
  index_t channels, chunks, rows, row_blocks, planes, slabs;

  template <scalar T>
  static depthwise_cut of(lattice const& l) {
    constexpr index_t w = simd::width<T>;
    line const &dl = l.at[0], &hl = l.at[1], &wl = l.at[2];
    index_t const registers = ceil_divide(l.out_channels, w), row = dl.taps * reach(wl, wl.count) * w;
    index_t const room = ring_bytes / index_t(sizeof(T)) / (row > 0 ? row : 1);  // rows of one register
    auto const clamp = [](index_t v, index_t low, index_t high) {
      return v < low ? low : v > high ? high : v;
    };
    // two registers of channels are one stretch of 128 bytes; rows: at least 8 to share the border
    index_t const least = clamp(4, 1, hl.count);
    index_t const group = clamp(room / reach(hl, least), 1, registers < 4 ? registers : 4);
    index_t const rows = clamp((room / group - hl.taps) / hl.stride + 1, 1, hl.count);
    depthwise_cut c;
    c.chunks = ceil_divide(registers, group), c.channels = ceil_divide(registers, c.chunks) * w;
    c.row_blocks = ceil_divide(hl.count, rows), c.rows = ceil_divide(hl.count, c.row_blocks);
    c.row_blocks = ceil_divide(hl.count, c.rows);
    index_t const tasks = l.batch * c.row_blocks * c.chunks;
    c.slabs = clamp(ceil_divide(enough_tasks, tasks), 1, clamp(dl.count / 4, 1, dl.count));
    c.planes = ceil_divide(dl.count, c.slabs), c.slabs = ceil_divide(dl.count, c.planes);
    return c;
  }
  index_t blocks(index_t batch) const { return batch * row_blocks * slabs; }
};

/// One block of outputs and the ring of padded input planes it reads.
template <scalar T>
struct depthwise_ring {
  lattice const& l;
  depthwise_cut const& cut;
  T const* x;
  index_t sample, d_from, d_to, h_from, h_to, channel, channels;  // `channels` from `channel` on exist
  index_t row_from, row_to, row_size, plane_size, packed;
  T* memory;

  static index_t elements(lattice const& l, depthwise_cut const& cut) {
    return l.at[0].taps * reach(l.at[1], cut.rows) * reach(l.at[2], l.at[2].count) * cut.channels;
  }

  depthwise_ring(lattice const& shape, depthwise_cut const& c, T const* input, index_t block, index_t chunk,
                 T* m)
      : l(shape), cut(c), x(input), memory(m) {
    h_from = block % c.row_blocks * c.rows, block /= c.row_blocks;
    d_from = block % c.slabs * c.planes, sample = block / c.slabs;
    d_to = d_from + c.planes < l.at[0].count ? d_from + c.planes : l.at[0].count;
    h_to = h_from + c.rows < l.at[1].count ? h_from + c.rows : l.at[1].count;
    channel = chunk * c.channels;
    channels = l.in_channels - channel < c.channels ? l.in_channels - channel : c.channels;
    line const& hl = l.at[1];
    row_from = h_from * hl.stride + hl.start, row_to = row_from + reach(hl, h_to - h_from);
    row_from = row_from < 0 ? 0 : row_from, row_to = row_to > hl.in ? hl.in : row_to;
    row_size = reach(l.at[2], l.at[2].count) * c.channels;
    plane_size = (row_to > row_from ? row_to - row_from : 0) * row_size;
    packed = d_from * l.at[0].stride + l.at[0].start;
  }

  bool holds(index_t d, index_t h) const { return d >= 0 && d < l.at[0].in && h >= 0 && h < l.at[1].in; }
  T const* row(index_t d, index_t h) const {
    return memory + d % l.at[0].taps * plane_size + (h - row_from) * row_size;
  }

  /// Brings in the planes that outputs of depth d need.
  void advance(index_t d) {
    index_t const from = d * l.at[0].stride + l.at[0].start, to = from + l.at[0].taps;
    for (index_t p = packed > from ? packed : from; p < to; ++p)
      if (p >= 0 && p < l.at[0].in) pack_plane(p);
    packed = to;
  }

  /// Asks for a share (one of `shares`) of the plane that comes after those of outputs of depth d.
  void prefetch(index_t d, index_t share, index_t shares) const {
    index_t const p = d * l.at[0].stride + l.at[0].start + l.at[0].taps, rows = row_to - row_from;
    if (p < 0 || p >= l.at[0].in || d + 1 >= d_to) return;
    index_t const line_elements = index_t(cache_line / sizeof(T)), width = l.at[2].in;
    for (index_t h = row_from + rows * share / shares; h < row_from + rows * (share + 1) / shares; ++h) {
      T const* s = x + ((sample * l.at[0].in + p) * l.at[1].in + h) * width * l.in_channels + channel;
      for (index_t q = 0; q < width; ++q, s += l.in_channels)
        for (index_t c = 0; c < channels; c += line_elements) __builtin_prefetch(s + c, 0, 2);
    }
  }

 private:
  void pack_plane(index_t d) {
    constexpr int w = simd::width<T>;
    line const& wl = l.at[2];
    index_t const count = reach(wl, wl.count), whole = channels / w * w;
    for (index_t h = row_from; h < row_to; ++h) {
      T* y = memory + d % l.at[0].taps * plane_size + (h - row_from) * row_size;
      T const* s = x + ((sample * l.at[0].in + d) * l.at[1].in + h) * wl.in * l.in_channels + channel;
      for (index_t q = 0; q < count; ++q, y += cut.channels) {
        index_t const at = wl.start + q;
        if (at < 0 || at >= wl.in) {
          std::memset(y, 0, std::size_t(cut.channels) * sizeof(T));
          continue;
        }
        T const* from = s + at * l.in_channels;
        index_t i = 0;
        for (; i < whole; i += w) simd::store(y + i, simd::load(from + i));
        if (i < cut.channels) simd::store(y + i, simd::load(from + i, int(channels - i)));
      }
    }
  }
};

/// One row of taps over M outputs: sum[m] += sum over k of x[(m stride + k) step] w[k step]. K = 0: `taps` at run time.
template <scalar T, int K, int M>
INSULA_INLINE void slide(T const* x, T const* w, index_t step, index_t stride, index_t taps,
                         simd::pack<T> (&sum)[M]) {
  if constexpr (K > 0) {
    simd::pack<T> weight[K];
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) weight[k] = simd::load(w + k * step);
#pragma GCC unroll 32
    for (int j = 0; j < M + K - 1; ++j) {
      simd::pack<T> const v = simd::load(x + j * step);
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k)
        if (j - k >= 0 && j - k < M) sum[j - k] = simd::fma(v, weight[k], sum[j - k]);
    }
  } else {
    for (index_t k = 0; k < taps; ++k) {
      simd::pack<T> const weight = simd::load(w + k * step);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) sum[m] = simd::fma(simd::load(x + (m * stride + k) * step), weight, sum[m]);
    }
  }
}

/// What all tiles of one output row share: where its rows of inputs and taps are.
template <scalar T>
struct depthwise_row {
  stretch const* at;  // in a: rows of x, in b: rows of taps
  index_t count;
  T const *x, *w;
  index_t step, stride, taps;  // elements from one position to the next
  T const* bias;               // of this register of channels, or null
  bool adds;
  T* y;
  index_t y_step;
  int last;
};

inline constexpr int slide_lengths[] = {12, 8, 4, 2, 1};
template <int K>
inline constexpr int first_slide = simd::register_count == 32 ? 0
                                   : K == 7                   ? 2
                                                              : 1;

template <scalar T, int K, int I>
void slide_row(depthwise_row<T> const& r, index_t from, index_t count) {
  constexpr int m = slide_lengths[I];
  for (; count >= m; from += m, count -= m) {
    simd::pack<T> sum[m];
#pragma GCC unroll 16
    for (int i = 0; i < m; ++i) sum[i] = simd::zero<T>();
    for (index_t s = 0; s < r.count; ++s)
      slide<T, K, m>(r.x + r.at[s].a + from * r.stride * r.step, r.w + r.at[s].b, r.step, r.stride, r.taps,
                     sum);
    T* y = r.y + from * r.y_step;
    bool const full = r.last == simd::width<T>;
    for (int i = 0; i < m; ++i, y += r.y_step) {
      if (T const* rest = r.adds ? y : r.bias) sum[i] += full ? simd::load(rest) : simd::load(rest, r.last);
      if (full)
        simd::store(y, sum[i]);
      else
        simd::store(y, sum[i], r.last);
    }
  }
  if constexpr (m > 1)
    if (count > 0) slide_row<T, K, I + 1>(r, from, count);
}

/// y (+)= b + the depth-wise lattice's convolution of x with w (kernel, channels).
template <scalar T>
void convolve_depthwise(context<cpu>& cx, lattice const& l, T const* x, T const* w, T const* b, bool adds,
                        T* y) {
  constexpr int width = simd::width<T>;
  line const &dl = l.at[0], &hl = l.at[1], &wl = l.at[2];
  if (l.positions() == 0) return;
  depthwise_cut const cut = depthwise_cut::of<T>(l);
  index_t const step = cut.channels, channels = l.out_channels;

  cx.pool.run(cut.blocks(l.batch) * cut.chunks, [&](index_t task, int worker) {
    scratch memory(cx, worker);
    depthwise_ring<T> ring(l, cut, x, task / cut.chunks, task % cut.chunks,
                           memory.take<T>(depthwise_ring<T>::elements(l, cut)));
    T* const weights = memory.take<T>(dl.taps * hl.taps * wl.taps * step);
    stretch* const list = memory.take<stretch>(dl.taps * hl.taps);
    for (index_t t = 0; t < dl.taps * hl.taps * wl.taps; ++t) {
      index_t const d = dl.tap + t / wl.taps / hl.taps * dl.tap_step,
                    h = hl.tap + t / wl.taps % hl.taps * hl.tap_step;
      index_t const k = (d * hl.kernel + h) * wl.kernel + wl.tap + t % wl.taps * wl.tap_step;
      for (index_t i = 0; i < step; ++i)
        weights[t * step + i] = i < ring.channels ? w[k * channels + ring.channel + i] : T(0);
    }

    for (index_t d = ring.d_from; d < ring.d_to; ++d) {
      ring.advance(d);
      for (index_t h = ring.h_from; h < ring.h_to; ++h) {
        ring.prefetch(d, h - ring.h_from, ring.h_to - ring.h_from);
        depthwise_row<T> row{list,    0,       nullptr, nullptr, step, wl.stride,
                             wl.taps, nullptr, adds,    nullptr, 0,    width};
        for (index_t t = 0; t < dl.taps * hl.taps; ++t) {
          index_t const id = d * dl.stride + dl.start + t / hl.taps,
                        ih = h * hl.stride + hl.start + t % hl.taps;
          if (ring.holds(id, ih)) list[row.count++] = {ring.row(id, ih) - ring.memory, t * wl.taps * step};
        }
        index_t const od = dl.first + d * dl.step, oh = hl.first + h * hl.step;
        T* const out =
            y + (((ring.sample * dl.out + od) * hl.out + oh) * wl.out + wl.first) * channels + ring.channel;
        for (index_t c = 0; c < ring.channels; c += width) {
          row.x = ring.memory + c, row.w = weights + c, row.y = out + c, row.y_step = wl.step * channels;
          row.bias = b ? b + ring.channel + c : nullptr;
          row.last = ring.channels - c < width ? int(ring.channels - c) : width;
          if (wl.stride == 1 && wl.taps == 3)
            slide_row<T, 3, first_slide<3>>(row, 0, wl.count);
          else if (wl.stride == 1 && wl.taps == 5)
            slide_row<T, 5, first_slide<5>>(row, 0, wl.count);
          else if (wl.stride == 1 && wl.taps == 7)
            slide_row<T, 7, first_slide<7>>(row, 0, wl.count);
          else
            slide_row<T, 0, first_slide<0>>(row, 0, wl.count);
        }
      }
    }
  });
}

/// total[k step] += sum over stretches and q < count of x[(q stride + k) step] gy[q step], k < K taps.
template <scalar T, int K>
void correlate(stretch const* at, index_t stretches, index_t count, T const* x, T const* gy, index_t step,
               index_t stride, T* total) {
  simd::pack<T> even[K], odd[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) even[k] = odd[k] = simd::zero<T>();
  for (index_t s = 0; s < stretches; ++s) {
    T const* xs = x + at[s].a;
    T const* gs = gy + at[s].b;
    index_t q = 0;
    for (; q + 2 <= count; q += 2, xs += 2 * stride * step, gs += 2 * step) {
      simd::pack<T> const g0 = simd::load(gs), g1 = simd::load(gs + step);
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) {
        even[k] = simd::fma(simd::load(xs + k * step), g0, even[k]);
        odd[k] = simd::fma(simd::load(xs + (k + stride) * step), g1, odd[k]);
      }
    }
    if (q < count) {
      simd::pack<T> const g0 = simd::load(gs);
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) even[k] = simd::fma(simd::load(xs + k * step), g0, even[k]);
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k)
    simd::store(total + k * step, simd::load(total + k * step) + (even[k] + odd[k]));
}

template <scalar T>
void correlate(index_t taps, stretch const* at, index_t stretches, index_t count, T const* x, T const* gy,
               index_t step, index_t stride, T* total) {
  for (; taps >= 5; taps -= 5, x += 5 * step, total += 5 * step)
    correlate<T, 5>(at, stretches, count, x, gy, step, stride, total);
  for (; taps >= 3; taps -= 3, x += 3 * step, total += 3 * step)
    correlate<T, 3>(at, stretches, count, x, gy, step, stride, total);
  for (; taps > 0; --taps, x += step, total += step)
    correlate<T, 1>(at, stretches, count, x, gy, step, stride, total);
}

/// gw[tap, c] += sum over samples and q of x[q stride + start + t, c] gy[q, c], for a forward lattice.
template <scalar T>
void depthwise_weight_gradient(context<cpu>& cx, lattice const& l, T const* x, T const* gy, T* gw) {
  constexpr int width = simd::width<T>;
  constexpr index_t most_lanes = 32;
  line const &dl = l.at[0], &hl = l.at[1], &wl = l.at[2];
  if (l.positions() == 0) return;
  depthwise_cut const cut = depthwise_cut::of<T>(l);
  index_t const step = cut.channels, channels = l.out_channels, taps = l.kernel_size();
  index_t const blocks = cut.blocks(l.batch), lanes = blocks < most_lanes ? blocks : most_lanes;

  scratch shared(cx);
  T* const part = shared.take<T>(lanes * l.weights());
  cx.pool.run(lanes * cut.chunks, [&](index_t task, int worker) {
    index_t const chunk = task % cut.chunks, lane = task / cut.chunks;
    scratch memory(cx, worker);
    T* const planes = memory.take<T>(depthwise_ring<T>::elements(l, cut));
    T* const gradient = memory.take<T>(cut.rows * wl.count * step);
    T* const total = memory.take<T>(taps * step);
    stretch* const list = memory.take<stretch>(cut.rows);
    std::memset(total, 0, std::size_t(taps * step) * sizeof(T));

    for (index_t i = blocks * lane / lanes; i < blocks * (lane + 1) / lanes; ++i) {
      depthwise_ring<T> ring(l, cut, x, i, chunk, planes);
      for (index_t d = ring.d_from; d < ring.d_to; ++d) {
        ring.advance(d);
        T* g = gradient;
        for (index_t h = ring.h_from; h < ring.h_to; ++h) {
          T const* s = gy + (((ring.sample * dl.out + d) * hl.out + h) * wl.out) * channels + ring.channel;
          for (index_t q = 0; q < wl.count; ++q, s += channels, g += step)
            for (index_t c = 0; c < ring.channels; c += width) {
              index_t const left = ring.channels - c;
              simd::store(g + c, left < width ? simd::load(s + c, int(left)) : simd::load(s + c));
            }
        }
        for (index_t c = 0; c < ring.channels; c += width)
          for (index_t t = 0; t < dl.taps * hl.taps; ++t) {
            index_t const id = d * dl.stride + dl.start + t / hl.taps;
            index_t count = 0;
            for (index_t h = ring.h_from; h < ring.h_to; ++h) {
              index_t const ih = h * hl.stride + hl.start + t % hl.taps;
              if (ring.holds(id, ih))
                list[count++] = {ring.row(id, ih) - ring.memory, (h - ring.h_from) * wl.count * step};
            }
            if (count > 0)
              correlate(wl.taps, list, count, wl.count, ring.memory + c, gradient + c, step, wl.stride,
                        total + t * wl.taps * step + c);
          }
      }
    }
    for (index_t t = 0; t < taps; ++t)
      std::memcpy(part + (lane * taps + t) * channels + chunk * step, total + t * step,
                  std::size_t(channels - chunk * step < step ? channels - chunk * step : step) * sizeof(T));
  });
  add_parts(cx, lanes, l.weights(), part, gw);
}

}  // namespace insula::detail::conv
