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

/// A row of gradients and, for each row of taps, the row of inputs that it meets.
template <scalar T>
struct depthwise_meeting {
  T const* gy;
  T const* x[3];
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
/// zeros behind its end. Every number is loaded once: the last K gradients stay in registers.
template <scalar T, int K, int P>
void correlate(depthwise_meeting<T> const* at, index_t meetings, index_t count, T* total) {
  constexpr index_t step = simd::width<T>;
  simd::pack<T> sum[P][K];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) sum[p][k] = simd::zero<T>();
  for (index_t s = 0; s < meetings; ++s) {
    T const *gy = at[s].gy, *x[P];
    simd::pack<T> g[K];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) x[p] = at[s].x[p];
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
void correlate(depthwise_meeting<T> const* at, index_t meetings, index_t count, index_t stride, index_t first,
               T* total) {
  constexpr index_t step = simd::width<T>;
  simd::pack<T> even[K], odd[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) even[k] = odd[k] = simd::zero<T>();
  for (index_t s = 0; s < meetings; ++s) {
    T const *x = at[s].x[0] + first * step, *gy = at[s].gy;
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
void correlate(line const& wl, index_t rows, depthwise_meeting<T> const* at, index_t meetings, T* total) {
  auto const slide = [&]<int K>(std::integral_constant<int, K>) {
    if (rows == 1) return correlate<T, K, 1>(at, meetings, wl.count, total);
    if constexpr (together<K> >= 2)
      if (rows == 2) return correlate<T, K, 2>(at, meetings, wl.count, total);
    if constexpr (together<K> >= 3) correlate<T, K, 3>(at, meetings, wl.count, total);
  };
  if (wl.stride == 1 && wl.taps == 3) return slide(std::integral_constant<int, 3>{});
  if (wl.stride == 1 && wl.taps == 5) return slide(std::integral_constant<int, 5>{});
  if (wl.stride == 1 && wl.taps == 7) return slide(std::integral_constant<int, 7>{});
  index_t k = 0;
  for (; k + 5 <= wl.taps; k += 5) correlate<T, 5>(at, meetings, wl.count, wl.stride, k, total);
  for (; k + 3 <= wl.taps; k += 3) correlate<T, 3>(at, meetings, wl.count, wl.stride, k, total);
  for (; k < wl.taps; ++k) correlate<T, 1>(at, meetings, wl.count, wl.stride, k, total);
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

/// Asks for a share (one of `shares`) of the gradients of the plane after d.
template <scalar T>
INSULA_INLINE void prefetch_depthwise_gradient(lattice const& l, depthwise_ring<T> const& ring, index_t d,
                                               T const* gy, index_t share, index_t shares) {
  if (d + 1 >= ring.d_to) return;
  index_t const rows = ring.h_to - ring.h_from, line_elements = index_t(cache_line / sizeof(T));
  for (index_t h = ring.h_from + rows * share / shares; h < ring.h_from + rows * (share + 1) / shares; ++h) {
    T const* from = gy +
                    (((ring.sample * l.at[0].out + d + 1) * l.at[1].out + h) * l.at[2].out) * l.out_channels +
                    ring.channel;
    for (index_t q = 0; q < l.at[2].count; ++q, from += l.out_channels)
      for (index_t c = 0; c < ring.channels; c += line_elements) __builtin_prefetch(from + c, 0, 2);
  }
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
    T* const nothing = memory.take<T>(reach(wl, wl.count) * w);
    auto* const list = memory.take<depthwise_meeting<T>>(run);
    std::memset(total, 0, std::size_t(taps * cut.channels) * sizeof(T));
    std::memset(nothing, 0, std::size_t(reach(wl, wl.count) * w) * sizeof(T));

    for (index_t i = blocks * lane / lanes; i < blocks * (lane + 1) / lanes; ++i) {
      depthwise_ring<T> ring(l, cut, x, i, chunk, planes);
      index_t const rows = ring.h_to - ring.h_from;
      for (index_t d = ring.d_from; d < ring.d_to; ++d) {
        ring.advance(d);
        pack_depthwise_gradient(l, ring, d, gy, tail, gradient);
        index_t const shares = ring.registers() * ceil_divide(rows, run) * ceil_divide(tap_rows, together);
        index_t share = 0;
        for (index_t r = 0; r < ring.registers(); ++r)
          for (index_t from = 0; from < rows; from += run)
            for (index_t t = 0; t < tap_rows; t += together) {
              ring.prefetch(d, share, shares);
              prefetch_depthwise_gradient(l, ring, d, gy, share++, shares);
              index_t const end = from + run < rows ? from + run : rows;
              index_t const some = tap_rows - t < together ? tap_rows - t : together;
              index_t id[3]{}, tap_h[3]{}, count = 0;
              for (index_t p = 0; p < some; ++p)
                id[p] = d * dl.stride + dl.start + (t + p) / hl.taps, tap_h[p] = (t + p) % hl.taps;
              for (index_t h = from; h < end; ++h) {
                depthwise_meeting<T>& m = list[count];
                m.gy = gradient + (r * rows + h) * gradient_row;
                bool any = false;
                for (index_t p = 0; p < some; ++p) {
                  index_t const ih = (ring.h_from + h) * hl.stride + hl.start + tap_h[p];
                  bool const there = ring.holds(id[p], ih);
                  m.x[p] = there ? planes + r * ring.register_size + ring.row(id[p], ih) : nothing;
                  any = any || there;
                }
                count += any;
              }
              if (count > 0) correlate(wl, some, list, count, total + (r * tap_rows + t) * wl.taps * w);
            }
      }
    }
    index_t const first = chunk * cut.channels;
    for (index_t t = 0; t < taps; ++t)
      for (index_t c = first; c < first + cut.channels && c < channels; ++c)
        part[(lane * taps + t) * channels + c] = total[((c - first) / w * taps + t) * w + (c - first) % w];
  });
  add_parts(cx, lanes, l.weights(), part, gw);
}

}  // namespace insula::detail::conv
