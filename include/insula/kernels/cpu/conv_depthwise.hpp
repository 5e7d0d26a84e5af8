// SPDX-License-Identifier: Apache-2.0
// Depth-wise convolution: one register of channels at a time slides along the width over a ring of padded planes.
#pragma once

#include "insula/kernels/cpu/conv_direct.hpp"
#include "insula/kernels/cpu/conv_weights.hpp"
#include "insula/kernels/cpu/slide_tile_avx2.hpp"
#include "insula/kernels/cpu/stream.hpp"

namespace insula::detail::conv {

inline constexpr index_t ring_bytes = (simd::register_count == 32 ? 512 : 384)
                                      << 10;  // of the planes one task keeps: they stay in the L2 cache
inline constexpr index_t nearest_bytes =
    24 << 10;  // of rows that stay in the L1 cache while all their taps pass

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
    // Four registers of channels at once, or where there is no room for all rows of them, without AVX-512, those of one
    // cache line: fewer rows would read the border between them more often. At least 4 rows.
    index_t const least = clamp(4, 1, hl.count), line_registers = index_t(cache_line / sizeof(T)) / w;
    index_t const most = simd::register_count == 32 || room / reach(hl, hl.count) >= 4 ? 4 : line_registers;
    index_t const group = clamp(room / reach(hl, least), 1, registers < most ? registers : most);
    index_t const rows = clamp((room / group - hl.taps) / hl.stride + 1, 1, hl.count);
    depthwise_cut c;
    c.chunks = ceil_divide(registers, group), c.channels = ceil_divide(registers, c.chunks) * w;
    c.row_blocks = ceil_divide(hl.count, rows), c.rows = ceil_divide(hl.count, c.row_blocks);
    c.row_blocks = ceil_divide(hl.count, c.rows);
    index_t const tasks = l.batch * c.row_blocks * c.chunks;
    constexpr index_t least_tasks = 8;  // slabs read the planes between them twice
    c.slabs = clamp(ceil_divide(least_tasks, tasks), 1, clamp(dl.count / 4, 1, dl.count));
    c.planes = ceil_divide(dl.count, c.slabs), c.slabs = ceil_divide(dl.count, c.planes);
    return c;
  }
  index_t blocks(index_t batch) const { return batch * row_blocks * slabs; }
};

/// One block of outputs and the ring of padded input planes it reads. A register of channels has its own ring, so what
/// is read together lies together: memory is [register][plane][row][position][lane].
template <scalar T>
struct depthwise_ring {
  static constexpr index_t w = simd::width<T>;
  lattice const& l;
  depthwise_cut const& cut;
  T const* x;
  index_t sample, d_from, d_to, h_from, h_to, channel, channels;  // `channels` from `channel` on exist
  index_t row_from, row_to, row_size, plane_size, register_size, packed;
  T* memory;

  static index_t elements(lattice const& l, depthwise_cut const& cut) {
    return (l.at[0].taps * reach(l.at[1], cut.rows) + 1) * reach(l.at[2], l.at[2].count) * cut.channels;
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
    row_size = reach(l.at[2], l.at[2].count) * w;
    plane_size = (row_to > row_from ? row_to - row_from : 0) * row_size;
    register_size = l.at[0].taps * plane_size + row_size;
    packed = d_from * l.at[0].stride + l.at[0].start;
  }

  index_t registers() const { return ceil_divide(channels, w); }
  /// Channels of register r, w but for the last.
  int lanes(index_t r) const { return channels - r * w < w ? int(channels - r * w) : int(w); }
  /// Offset of plane d and of a row of it in the ring of each register, which starts at memory + r * register_size.
  index_t plane(index_t d) const { return d % l.at[0].taps * plane_size; }
  index_t row(index_t d, index_t h) const { return plane(d) + (h - row_from) * row_size; }

  /// Behind its planes each register has one more row, for who wants zeros there.
  index_t spare_row() const { return l.at[0].taps * plane_size; }
  void clear_spare_rows() {
    for (index_t r = 0; r < registers(); ++r) simd::clear(row_size, memory + r * register_size + spare_row());
  }

  /// Brings in the planes that outputs of depth d need.
  void advance(index_t d) {
    index_t const from = d * l.at[0].stride + l.at[0].start, to = from + l.at[0].taps;
    for (index_t p = packed > from ? packed : from; p < to; ++p)
      if (p >= 0 && p < l.at[0].in) pack_plane(p);
    packed = to;
  }

  /// Inputs of register r at position q in the first row that outputs read of the plane after those of depth d, or null if there is
  /// none. Row h's share of that plane lies share(h) behind.
  T const* later(index_t d, index_t q, index_t r) const {
    index_t const p = d * l.at[0].stride + l.at[0].start + l.at[0].taps;
    if (p < 0 || p >= l.at[0].in || d + 1 >= d_to || row_to == row_from) return nullptr;
    return x + (((sample * l.at[0].in + p) * l.at[1].in + row_from) * l.at[2].in + q) * l.in_channels +
           channel + r * w;
  }
  index_t share(index_t h) const {
    return (h - h_from) * (row_to - row_from) / (h_to - h_from) * l.at[2].in * l.in_channels;
  }

  /// Asks for a share (one of `shares`) of the plane that comes after those of outputs of depth d.
  INSULA_INLINE void prefetch(index_t d, index_t share, index_t shares) const {
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
    line const& wl = l.at[2];
    index_t const count = reach(wl, wl.count), all = registers(), channels_all = l.in_channels;
    index_t const from = wl.start < 0 ? -wl.start : 0,
                  end = wl.in - wl.start < count ? wl.in - wl.start : count;
    bool const full = lanes(all - 1) == w;
    for (index_t h = row_from; h < row_to; ++h) {
      T* const row_memory = memory + row(d, h);
      index_t const row_start =  // may lie in the padding before the volume
          (((sample * l.at[0].in + d) * l.at[1].in + h) * wl.in + wl.start) * channels_all + channel;
      for (index_t q = 0; q < from; ++q)
        for (index_t r = 0; r < all; ++r)
          simd::store(row_memory + r * register_size + q * w, simd::zero<T>());
      T const* const row = x + (row_start + from * channels_all);
      T* const to = row_memory + from * w;
      if (!full)
        pack_places(end - from, row, to);
      else if (all == 4)
        pack_places<4>(end - from, row, to);
      else if (all == 3)
        pack_places<3>(end - from, row, to);
      else if (all == 2)
        pack_places<2>(end - from, row, to);
      else
        pack_places<1>(end - from, row, to);
      for (index_t q = end; q < count; ++q)
        for (index_t r = 0; r < all; ++r)
          simd::store(row_memory + r * register_size + q * w, simd::zero<T>());
    }
  }
  /// All registers of a place, of which there are 4 at most (depthwise_cut): their lines are neighbours.
  template <int Registers>
  INSULA_INLINE void pack_places(index_t count, T const* from, T* to) const {
    for (index_t q = 0; q < count; ++q, from += l.in_channels, to += w) {
#pragma GCC unroll 4
      for (int r = 0; r < Registers; ++r) simd::store(to + r * register_size, simd::load(from + r * w));
    }
  }
  /// The same where the last register is not full.
  void pack_places(index_t count, T const* from, T* to) const {
    index_t const all = registers();
    for (index_t q = 0; q < count; ++q, from += l.in_channels, to += w)
      for (index_t r = 0; r < all; ++r)
        simd::store(to + r * register_size, simd::load(from + r * w, lanes(r)));
  }
};

/// One row of K taps over M outputs: sum[m] += sum over k of x[m + k] w[k]. As many taps at a time as there are registers
/// for, so that an input is loaded once for all of them.
template <scalar T, int K, int M>
INSULA_INLINE void slide(T const* x, T const* w, simd::pack<T> (&sum)[M]) {
  constexpr int room = simd::register_count - M - 1, together = K < room ? K : room;
  constexpr index_t step = simd::width<T>;
  simd::pack<T> weight[together];
#pragma GCC unroll 8
  for (int k = 0; k < together; ++k) weight[k] = simd::load(w + k * step);
#pragma GCC unroll 32
  for (int j = 0; j < M + together - 1; ++j) {
    simd::pack<T> v = simd::load(x + j * step);
    simd::keep<T>(v);
#pragma GCC unroll 8
    for (int k = 0; k < together; ++k)
      if (j - k >= 0 && j - k < M) sum[j - k] = simd::fma(v, weight[k], sum[j - k]);
  }
  if constexpr (K > together) slide<T, K - together, M>(x + together * step, w + together * step, sum);
}

/// The same for any stride and number of taps: sum[m] += sum over k of x[m stride + k] w[k].
template <scalar T, int M>
INSULA_INLINE void slide(T const* x, T const* w, index_t stride, index_t taps, simd::pack<T> (&sum)[M]) {
  constexpr index_t step = simd::width<T>;
  for (index_t k = 0; k < taps; ++k) {
    simd::pack<T> const weight = simd::load(w + k * step);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) sum[m] = simd::fma(simd::load(x + (m * stride + k) * step), weight, sum[m]);
  }
}

/// What all tiles of a register of channels share.
template <scalar T>
struct depthwise_column {
  T const *x, *w;
  index_t stride, taps;  // along the width
  T const* bias;         // of this register of channels, or null
  bool adds;
  index_t y_step;  // elements from one output to the next
  int last;
  index_t read_step;  // elements from one place to be read ahead to the next
  bool past_cache;    // y is on whole registers, and too large for any cache
};

/// M places in memory that will be read and M, as far apart as outputs, that will be written, or null. half: where lines of results past
/// the cache are two registers, the outputs of the one before, which these complete.
template <scalar T>
struct depthwise_ahead {
  T const* read = nullptr;
  T* written = nullptr;
  T const* half = nullptr;
};

/// Stores M outputs, register i of which is sum(i), plus what they start from.
template <scalar T, int M, class Sum>
INSULA_INLINE void store_slide(depthwise_column<T> const& c, T* y, depthwise_ahead<T> ahead, Sum const& sum) {
  bool const full = c.last == simd::width<T>;
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i, y += c.y_step) {
    simd::pack<T> v = sum(i);
    if (T const* rest = c.adds ? y : c.bias) v += full ? simd::load(rest) : simd::load(rest, c.last);
    if (c.past_cache) {
      if (ahead.half) simd::stream(y - simd::width<T>, simd::load(ahead.half + i * simd::width<T>));
      simd::stream(y, v);
    } else if (full)
      simd::store(y, v);
    else
      simd::store(y, v, c.last);
  }
}

/// M outputs from position `from` on. `at`: in a, rows of x; in b, rows of taps; y: the first of them. What is `ahead` is asked for
/// with the rows of taps, two places at a time: all at once would wait for one another.
template <scalar T, int K, int M>
void slide_tile(depthwise_column<T> const& c, stretch const* at, index_t count, index_t from, T* y,
                depthwise_ahead<T> ahead) {
  constexpr index_t w = simd::width<T>;
  T const* const x = c.x + from * c.stride * w;
#ifdef INSULA_SLIDES_IN_ASSEMBLER
  if constexpr (simd::has_slide_tile<T, K, M>)
    if (count > 0) {
      alignas(simd::register_bytes) T sums[M * w];
      bool const direct = !c.adds && !c.bias && !c.past_cache && c.last == w;
      bool const reads = ahead.read, writes = reads && ahead.written;
      simd::slide_tile<K, M>({x, c.w, at, at + count, direct ? y : sums, 4 * (direct ? c.y_step : w),
                              reads ? M / 2 : 0, ahead.read, 4 * c.read_step, writes ? ahead.written : sums,
                              writes ? 4 * c.y_step : 0});
      if (!direct) store_slide<T, M>(c, y, ahead, [&](int i) { return simd::load(sums + i * w); });
      return;
    }
#endif
  simd::pack<T> sum[M];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) sum[i] = simd::zero<T>();
  int left = ahead.read ? M : 0;
  bool const writes = ahead.written;
  for (index_t s = 0; s < count; ++s) {
    if constexpr (K > 0)
      slide<T, K, M>(x + at[s].a, c.w + at[s].b, sum);
    else
      slide<T, M>(x + at[s].a, c.w + at[s].b, c.stride, c.taps, sum);
    for (int i = 0; i < 2 && left > 0; ++i, --left) {
      __builtin_prefetch(ahead.read, 0, 2);
      if (writes) __builtin_prefetch(ahead.written, 1), ahead.written += c.y_step;
      ahead.read += c.read_step;
    }
  }
  store_slide<T, M>(c, y, ahead, [&](int i) { return sum[i]; });
}

inline constexpr index_t longest_slide = 12;

/// The longest tile that fits the outputs left. Without AVX-512 twelve sums leave registers for three taps; tiles in assembler take
/// more by threes and twos.
template <scalar T>
index_t slide_length(index_t left, index_t taps) {
  bool const any_taps = simd::register_count == 32 || simd::has_slide_tile<T, 7, longest_slide>;
  index_t const most = any_taps || taps <= 3 ? longest_slide : 8;
  for (index_t length : {longest_slide, index_t{8}, index_t{4}, index_t{2}, index_t{1}})
    if (length <= left && length <= most) return length;
  return 0;
}
template <scalar T, int K>
void slide_tile(index_t length, depthwise_column<T> const& c, stretch const* at, index_t count, index_t from,
                T* y, depthwise_ahead<T> ahead) {
  if (length == 12) return slide_tile<T, K, 12>(c, at, count, from, y, ahead);
  if (length == 8) return slide_tile<T, K, 8>(c, at, count, from, y, ahead);
  if (length == 4) return slide_tile<T, K, 4>(c, at, count, from, y, ahead);
  if (length == 2) return slide_tile<T, K, 2>(c, at, count, from, y, ahead);
  slide_tile<T, K, 1>(c, at, count, from, y, ahead);
}
template <scalar T>
void slide_tile(index_t length, depthwise_column<T> const& c, stretch const* at, index_t count, index_t from,
                T* y, depthwise_ahead<T> ahead) {
  if (c.stride == 1 && c.taps == 3) return slide_tile<T, 3>(length, c, at, count, from, y, ahead);
  if (c.stride == 1 && c.taps == 5) return slide_tile<T, 5>(length, c, at, count, from, y, ahead);
  if (c.stride == 1 && c.taps == 7) return slide_tile<T, 7>(length, c, at, count, from, y, ahead);
  slide_tile<T, 0>(length, c, at, count, from, y, ahead);
}

/// Taps of a block's channels, [register][tap][lane], what lies behind the last channel zero.
template <scalar T>
void pack_depthwise_taps(lattice const& l, depthwise_ring<T> const& ring, T const* w, T* y) {
  line const &dl = l.at[0], &hl = l.at[1], &wl = l.at[2];
  for (index_t r = 0; r < ring.registers(); ++r)
    for (index_t td = 0; td < dl.taps; ++td)
      for (index_t th = 0; th < hl.taps; ++th)
        for (index_t tw = 0; tw < wl.taps; ++tw, y += simd::width<T>) {
          index_t const d = dl.tap + td * dl.tap_step, h = hl.tap + th * hl.tap_step;
          index_t const k = (d * hl.kernel + h) * wl.kernel + wl.tap + tw * wl.tap_step;
          simd::store(y,
                      simd::load(w + k * l.out_channels + ring.channel + r * simd::width<T>, ring.lanes(r)));
        }
}

/// y (+)= b + the depth-wise lattice's convolution of x with w (kernel, channels). A tile of outputs goes down its
/// rows before the next one starts: all but one row of its inputs are then in the L1 cache already.
template <scalar T>
void convolve_depthwise(context<cpu>& cx, lattice const& l, T const* x, T const* w, T const* b, bool adds,
                        T* y) {
  constexpr int width = simd::width<T>;
  line const &dl = l.at[0], &hl = l.at[1], &wl = l.at[2];
  if (l.positions() == 0) return;
  depthwise_cut const cut = depthwise_cut::of<T>(l);
  index_t const channels = l.out_channels, rows = dl.taps * hl.taps;
  bool const large = !adds && l.batch * l.out_size() * channels * index_t(sizeof(T)) >= simd::stream_bytes;
  // where a line is two registers, those of the first wait for those of the second
  constexpr index_t line_elements = index_t(cache_line / sizeof(T));
  bool const by_halves = large && line_elements == 2 * width && channels % line_elements == 0 &&
                         cut.channels % line_elements == 0 && simd::can_stream_in_order(y);
  bool const past_cache = by_halves || (large && channels % width == 0 && simd::can_stream(y));
  constexpr index_t near_bytes =
      simd::register_count == 32 ? 0 : 512 << 10;  // what an L2 cache holds needs no asking
  bool const asks = wl.stride == 1 && l.batch * l.out_size() * channels * index_t(sizeof(T)) >= near_bytes;

  cx.pool.run(cut.blocks(l.batch) * cut.chunks, [&](index_t task, int worker) {
    scratch memory(cx, worker);
    depthwise_ring<T> ring(l, cut, x, task / cut.chunks, task % cut.chunks,
                           memory.take<T>(depthwise_ring<T>::elements(l, cut)));
    T* const weights = memory.take<T>(rows * wl.taps * cut.channels);
    stretch* const list = memory.take<stretch>(cut.rows * rows);
    index_t *const count = memory.take<index_t>(cut.rows), *const plane = memory.take<index_t>(dl.taps);
    T* const halves = memory.take<T>(by_halves ? cut.rows * longest_slide * width : 0);
    index_t* const shares = memory.take<index_t>(cut.rows);
    index_t const height = ring.h_to - ring.h_from, down = hl.step * wl.out * channels;
    for (index_t h = 0; h < height; ++h) shares[h] = ring.share(ring.h_from + h);
    pack_depthwise_taps(l, ring, w, weights);

    for (index_t d = ring.d_from; d < ring.d_to; ++d) {
      ring.advance(d);
      index_t const id = d * dl.stride + dl.start;
      for (index_t td = 0; td < dl.taps; ++td)
        plane[td] = id + td >= 0 && id + td < dl.in ? ring.plane(id + td) : -1;
      for (index_t h = ring.h_from; h < ring.h_to; ++h) {
        stretch* const at = list + (h - ring.h_from) * rows;
        index_t const ih = h * hl.stride + hl.start;
        index_t const first = ih < 0 ? -ih : 0, end = hl.in - ih < hl.taps ? hl.in - ih : hl.taps;
        index_t n = 0;
        for (index_t td = 0; td < dl.taps; ++td)
          for (index_t th = first; plane[td] >= 0 && th < end; ++th)
            at[n++] = {plane[td] + (ih + th - ring.row_from) * ring.row_size,
                       (td * hl.taps + th) * wl.taps * width};
        count[h - ring.h_from] = n;
      }
      index_t const od = dl.first + d * dl.step;
      for (index_t q = 0, length; q < wl.count; q += length) {
        length = slide_length<T>(wl.count - q, wl.taps);
        if (!asks) ring.prefetch(d, q, wl.count);
        for (index_t r = 0; r < ring.registers(); ++r) {
          index_t const channel = ring.channel + r * width;
          bool const first_of_line = r * width * index_t(sizeof(T)) % index_t(cache_line) == 0;
          bool const waits = by_halves && first_of_line;
          depthwise_column<T> const column{ring.memory + r * ring.register_size,
                                           weights + r * rows * wl.taps * width,
                                           wl.stride,
                                           wl.taps,
                                           b ? b + channel : nullptr,
                                           adds,
                                           waits ? width : wl.step * channels,
                                           ring.lanes(r),
                                           channels,
                                           past_cache && !waits};
          index_t const oh = hl.first + ring.h_from * hl.step, ow = wl.first + q * wl.step;
          T* out = y + (((ring.sample * dl.out + od) * hl.out + oh) * wl.out + ow) * channels + channel;
          T const* const later = asks && first_of_line ? ring.later(d, q, r) : nullptr;
          for (index_t h = 0; h < height; ++h, out += down) {
            T* const below = h + 1 < height ? out + down : out;
            T* const half = by_halves ? halves + h * longest_slide * width : nullptr;
            if (!asks && !past_cache && below != out)
              for (index_t i = 0; i < length; ++i) __builtin_prefetch(below + i * column.y_step, 1, 3);
            T const* const next = later ? later + shares[h] : out;
            slide_tile(length, column, list + h * rows, count[h], q, waits ? half : out,
                       {asks && first_of_line ? next : nullptr,
                        asks && first_of_line && !past_cache ? below : nullptr, half});
          }
        }
      }
    }
    if (past_cache) simd::end_stream();
  });
}

}  // namespace insula::detail::conv
