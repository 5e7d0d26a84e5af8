// SPDX-License-Identifier: Apache-2.0
// Weight gradients of depth-wise convolutions: rows of gradients meet rows of a ring of padded planes.
#pragma once

#include "insula/kernels/cpu/conv_depthwise.hpp"
#include "insula/kernels/cpu/conv_weights.hpp"

namespace insula::detail::conv {

/// Rows of K taps whose sums, with K gradients and one input, fit the registers.
template <int K>
inline constexpr int together = (simd::register_count - 1 - K) / K > 3   ? 3
                                : (simd::register_count - 1 - K) / K > 1 ? (simd::register_count - 1 - K) / K
                                                                         : 1;

/// Offsets of a row of gradients and, for each row of taps, of the row of inputs that it meets.
struct depthwise_meeting {
  index_t gy, x[3];
};

/// What one register of channels meets: some meetings, and where its gradients and inputs begin.
template <scalar T>
struct depthwise_meetings {
  depthwise_meeting const* at;
  index_t count;
  T const *gy, *x;
};

/// Lines of two volumes that will be read.
template <scalar T>
struct depthwise_reads {
  struct line {
    T const* next = nullptr;
    index_t step = 0, left = 0;

    void ask(index_t lines) {
      for (; lines > 0 && left > 0; --lines, --left, next += step) __builtin_prefetch(next, 0, 2);
    }
  };
  line x, gy;

  /// Asks for one of `parts` parts of what is left.
  void ask(index_t parts) { x.ask(ceil_divide(x.left, parts)), gy.ask(ceil_divide(gy.left, parts)); }
};

/// Position u: sum[p][k] += x[p][u] g[the gradient at u - k]. g[j % K] holds the gradient at position j.
template <scalar T, int K, int P>
INSULA_INLINE void meet(int u, T const* gy, T const* const (&x)[P], simd::pack<T> (&g)[K],
                        simd::pack<T> (&sum)[P][K]) {
  g[u] = simd::load(gy + u * simd::width<T>);
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    simd::pack<T> v = simd::load(x[p] + u * simd::width<T>);
    simd::keep<T>(v);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) sum[p][k] = simd::fma(v, g[(u - k + K) % K], sum[p][k]);
  }
}

/// total[p][k] += sum over meetings and q < count of x[p][q + k] gy[q], k < K taps, stride 1. gy has K - 1
/// zeros behind its end. Every number is loaded once: the last K gradients stay in registers. What is `ahead` is asked for bit by
/// bit, with every meeting: lines asked for at once would wait for one another.
template <scalar T, int K, int P>
[[gnu::noinline]] void correlate(depthwise_meetings<T> const& all, index_t count, T* total,
                                 depthwise_reads<T> ahead) {
  constexpr index_t step = simd::width<T>;
  simd::pack<T> sum[P][K];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) sum[p][k] = simd::zero<T>();
  for (index_t s = 0; s < all.count; ++s) {
    ahead.ask(all.count - s);
    T const *gy = all.gy + all.at[s].gy, *x[P];
    simd::pack<T> g[K];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) x[p] = all.x + all.at[s].x[p];
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) g[k] = simd::zero<T>();
    index_t left = count + K - 1;
    for (; left >= K; left -= K, gy += K * step) {
#pragma GCC unroll 8
      for (int u = 0; u < K; ++u) meet<T, K, P>(u, gy, x, g, sum);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) x[p] += K * step;
    }
#pragma GCC unroll 8
    for (int u = 0; u + 1 < K; ++u)
      if (u < left) meet<T, K, P>(u, gy, x, g, sum);
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k)
      simd::store(total + (p * K + k) * step, simd::load(total + (p * K + k) * step) + sum[p][k]);
}

/// total[k] += sum over meetings and q < count of x[0][q stride + k] gy[q], k < K taps.
template <scalar T, int K>
void correlate(depthwise_meetings<T> const& all, index_t count, index_t stride, index_t first, T* total) {
  constexpr index_t step = simd::width<T>;
  simd::pack<T> even[K], odd[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) even[k] = odd[k] = simd::zero<T>();
  for (index_t s = 0; s < all.count; ++s) {
    T const *x = all.x + all.at[s].x[0] + first * step, *gy = all.gy + all.at[s].gy;
    index_t q = 0;
    for (; q + 2 <= count; q += 2, x += 2 * stride * step, gy += 2 * step) {
      simd::pack<T> const g0 = simd::load(gy), g1 = simd::load(gy + step);
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) {
        even[k] = simd::fma(simd::load(x + k * step), g0, even[k]);
        odd[k] = simd::fma(simd::load(x + (k + stride) * step), g1, odd[k]);
      }
    }
    if (q < count) {
      simd::pack<T> const g0 = simd::load(gy);
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) even[k] = simd::fma(simd::load(x + k * step), g0, even[k]);
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    T* const to = total + (first + k) * step;
    simd::store(to, simd::load(to) + (even[k] + odd[k]));
  }
}

/// Rows of taps whose sums are kept in registers together, for a width of `taps`; at least 1.
inline index_t rows_together(line const& wl) {
  if (wl.stride != 1) return 1;
  return wl.taps == 3 ? together<3> : wl.taps == 5 ? together<5> : wl.taps == 7 ? together<7> : 1;
}

/// total (rows of taps, taps) += what the meetings of `rows` rows of taps sum up to.
template <scalar T>
void correlate(line const& wl, index_t rows, depthwise_meetings<T> const& all, T* total,
               depthwise_reads<T> ahead) {
  auto const slide = [&]<int K>(std::integral_constant<int, K>) {
    if (rows == 1) return correlate<T, K, 1>(all, wl.count, total, ahead);
    if constexpr (together<K> >= 2)
      if (rows == 2) return correlate<T, K, 2>(all, wl.count, total, ahead);
    if constexpr (together<K> >= 3) correlate<T, K, 3>(all, wl.count, total, ahead);
  };
  if (wl.stride == 1 && wl.taps == 3) return slide(std::integral_constant<int, 3>{});
  if (wl.stride == 1 && wl.taps == 5) return slide(std::integral_constant<int, 5>{});
  if (wl.stride == 1 && wl.taps == 7) return slide(std::integral_constant<int, 7>{});
  ahead.ask(1);
  index_t k = 0;
  for (; k + 5 <= wl.taps; k += 5) correlate<T, 5>(all, wl.count, wl.stride, k, total);
  for (; k + 3 <= wl.taps; k += 3) correlate<T, 3>(all, wl.count, wl.stride, k, total);
  for (; k < wl.taps; ++k) correlate<T, 1>(all, wl.count, wl.stride, k, total);
}

/// Gradients of one plane of a block, [register][row][position][lane], `tail` zeros behind each row.
template <scalar T>
void pack_depthwise_gradient(lattice const& l, depthwise_ring<T> const& ring, index_t d, T const* gy,
                             index_t tail, T* y) {
  constexpr index_t w = simd::width<T>;
  line const &hl = l.at[1], &wl = l.at[2];
  index_t const row_size = (wl.count + tail) * w, each = (ring.h_to - ring.h_from) * row_size;
  index_t const all = ring.registers();
  bool const full = ring.lanes(all - 1) == w;
  for (index_t h = ring.h_from; h < ring.h_to; ++h, y += row_size) {
    T const* from =
        gy + (((ring.sample * l.at[0].out + d) * hl.out + h) * wl.out) * l.out_channels + ring.channel;
    for (index_t q = 0; q < wl.count;
         ++q, from += l.out_channels) {  // all registers of a place, as in the ring
      for (index_t r = 0; r + 1 < all; ++r) simd::store(y + r * each + q * w, simd::load(from + r * w));
      T const* const last = from + (all - 1) * w;
      simd::store(y + (all - 1) * each + q * w,
                  full ? simd::load(last) : simd::load(last, ring.lanes(all - 1)));
    }
    for (index_t q = wl.count; q < wl.count + tail; ++q)
      for (index_t r = 0; r < all; ++r) simd::store(y + r * each + q * w, simd::zero<T>());
  }
}

/// A share (one of `shares`) of the planes that come after those of outputs of depth d: some places of one of the lines that a place is.
template <scalar T>
depthwise_reads<T> later_planes(lattice const& l, depthwise_ring<T> const& ring, index_t d, T const* gy,
                                index_t share, index_t shares) {
  depthwise_reads<T> reads;
  if (d + 1 >= ring.d_to) return reads;
  line const &hl = l.at[1], &wl = l.at[2];
  index_t const line_elements = index_t(cache_line / sizeof(T));
  index_t const lines = ceil_divide(ring.channels, line_elements),
                each = shares / lines > 0 ? shares / lines : 1;
  if (share / each >= lines) return reads;
  index_t const at = ring.channel + share / each * line_elements, part = share % each;
  auto const some = [&](T const* rows, index_t places, index_t channels) {
    index_t const first = places * part / each;
    return typename depthwise_reads<T>::line{rows + first * channels + at, channels,
                                             places * (part + 1) / each - first};
  };
  index_t const p = d * l.at[0].stride + l.at[0].start + l.at[0].taps;
  if (p >= 0 && p < l.at[0].in && ring.row_to > ring.row_from)
    reads.x = some(ring.x + ((ring.sample * l.at[0].in + p) * hl.in + ring.row_from) * wl.in * l.in_channels,
                   (ring.row_to - ring.row_from) * wl.in, l.in_channels);
  reads.gy = some(gy + ((ring.sample * l.at[0].out + d + 1) * hl.out + ring.h_from) * wl.out * l.out_channels,
                  (ring.h_to - ring.h_from) * wl.out, l.out_channels);
  return reads;
}

/// The meetings of outputs of depth d and rows [from, to) of a block with the rows of taps [first, first + some), of registers'
/// first elements: rows of zeros stand for those outside the input. Returns how many there are.
template <scalar T>
index_t list_meetings(lattice const& l, depthwise_ring<T> const& ring, index_t d, index_t from, index_t to,
                      index_t first, index_t some, index_t gradient_row, depthwise_meeting* list) {
  line const &dl = l.at[0], &hl = l.at[1];
  index_t plane[3]{}, tap_h[3]{}, count = 0;
  for (index_t p = 0; p < some; ++p) {
    index_t const id = d * dl.stride + dl.start + (first + p) / hl.taps;
    plane[p] = id >= 0 && id < dl.in ? ring.plane(id) : -1, tap_h[p] = (first + p) % hl.taps;
  }
  for (index_t h = from; h < to; ++h) {
    depthwise_meeting& m = list[count];
    m.gy = h * gradient_row;
    bool any = false;
    for (index_t p = 0; p < some; ++p) {
      index_t const ih = (ring.h_from + h) * hl.stride + hl.start + tap_h[p];
      bool const there = plane[p] >= 0 && ih >= 0 && ih < hl.in;
      m.x[p] = there ? plane[p] + (ih - ring.row_from) * ring.row_size : ring.spare_row();
      any = any || there;
    }
    count += any;
  }
  return count;
}

/// gw[tap, c] += sum over samples and q of x[q stride + start + t, c] gy[q, c], for a forward lattice.
template <scalar T>
void depthwise_weight_gradient(context<cpu>& cx, lattice const& l, T const* x, T const* gy, T* gw) {
  constexpr index_t w = simd::width<T>, most_lanes = 32;
  line const &dl = l.at[0], &hl = l.at[1], &wl = l.at[2];
  if (l.positions() == 0) return;
  depthwise_cut const cut = depthwise_cut::of<T>(l);
  index_t const channels = l.out_channels, taps = l.kernel_size(), tap_rows = dl.taps * hl.taps;
  index_t const blocks = cut.blocks(l.batch), lanes = blocks < most_lanes ? blocks : most_lanes;
  index_t const tail = wl.taps - 1, gradient_row = (wl.count + tail) * w, together = rows_together(wl);
  // rows of outputs whose inputs and gradients stay in the L1 cache while all rows of taps meet them
  index_t const near = nearest_bytes / index_t(sizeof(T)) / (reach(wl, wl.count) * w) - hl.taps;
  index_t const run = near / (1 + hl.stride) < 1 ? 1 : near / (1 + hl.stride);

  scratch shared(cx);
  T* const part = shared.take<T>(lanes * l.weights());
  cx.pool.run(lanes * cut.chunks, [&](index_t task, int worker) {
    index_t const chunk = task % cut.chunks, lane = task / cut.chunks;
    scratch memory(cx, worker);
    T* const planes = memory.take<T>(depthwise_ring<T>::elements(l, cut));
    T* const gradient = memory.take<T>(cut.rows * gradient_row * (cut.channels / w));
    T* const total = memory.take<T>(taps * cut.channels);
    index_t const groups = ceil_divide(tap_rows, together);
    auto* const list = memory.take<depthwise_meeting>(cut.rows * groups);
    index_t* const counts = memory.take<index_t>(ceil_divide(cut.rows, run) * groups);
    std::memset(total, 0, std::size_t(taps * cut.channels) * sizeof(T));

    for (index_t i = blocks * lane / lanes; i < blocks * (lane + 1) / lanes; ++i) {
      depthwise_ring<T> ring(l, cut, x, i, chunk, planes);
      index_t const rows = ring.h_to - ring.h_from, runs = ceil_divide(rows, run);
      ring.clear_spare_rows();
      for (index_t d = ring.d_from; d < ring.d_to; ++d) {
        ring.advance(d);
        pack_depthwise_gradient(l, ring, d, gy, tail, gradient);
        auto const each = [&](auto f) {  // f(rows' run, rows of taps' group, its first row of taps, how many)
          for (index_t i = 0; i < runs; ++i)
            for (index_t g = 0, t = 0; g < groups; ++g, t += together)
              f(i, g, t, tap_rows - t < together ? tap_rows - t : together);
        };
        each([&](index_t i, index_t g, index_t t, index_t some) {
          index_t const from = i * run, to = from + run < rows ? from + run : rows;
          counts[i * groups + g] = list_meetings(l, ring, d, from, to, t, some, gradient_row,
                                                 list + from * groups + g * (to - from));
        });
        index_t const shares = ring.registers() * runs * groups;
        for (index_t r = 0, share = 0; r < ring.registers(); ++r)
          each([&](index_t i, index_t g, index_t t, index_t some) {
            depthwise_reads<T> const ahead = later_planes(l, ring, d, gy, share++, shares);
            index_t const from = i * run, to = from + run < rows ? from + run : rows;
            depthwise_meetings<T> const all{list + from * groups + g * (to - from), counts[i * groups + g],
                                            gradient + r * rows * gradient_row,
                                            planes + r * ring.register_size};
            if (all.count > 0) correlate(wl, some, all, total + (r * tap_rows + t) * wl.taps * w, ahead);
          });
      }
    }
    index_t const first = chunk * cut.channels;
    index_t const present = channels - first < cut.channels ? channels - first : cut.channels;
    for (index_t t = 0; t < taps; ++t)
      simd::each_register<T>(present, [&](index_t c, auto lanes) {
        simd::store(part + (lane * taps + t) * channels + first + c, simd::load(total + c * taps + t * w),
                    lanes);
      });
  });
  add_parts(cx, lanes, l.weights(), part, gw);
}

}  // namespace insula::detail::conv
