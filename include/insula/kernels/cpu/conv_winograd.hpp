// SPDX-License-Identifier: Apache-2.0
// Convolution with fewer products: Winograd's minimal filtering over height and width, direct over depth.
#pragma once

#include "insula/kernels/cpu/conv_direct.hpp"
#include "insula/kernels/cpu/conv_weights.hpp"

namespace insula::detail::conv {

/// F(M x M, 3 x 3): M outputs per axis from A = M + 2 inputs with A products (Lavin & Gray 2016, arXiv 1509.09308,
/// section 4.1). y = output(weight(g) * input(d)) along each axis; `*_adjoint` are the transposed maps.
template <int M>
struct winograd;

template <>
struct winograd<2> {
  static constexpr int A = 4;
  template <class P>
  static INSULA_INLINE void input(P const (&d)[4], P (&o)[4]) {
    o[0] = d[0] - d[2], o[1] = d[1] + d[2], o[2] = d[2] - d[1], o[3] = d[1] - d[3];
  }
  template <class P>
  static INSULA_INLINE void output(P const (&m)[4], P (&y)[2]) {
    y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] - m[3];
  }
  template <class T, class P>
  static INSULA_INLINE void weight(P const (&g)[3], P (&u)[4]) {
    P const s = g[0] + g[2];
    u[0] = g[0], u[1] = T(0.5) * (s + g[1]), u[2] = T(0.5) * (s - g[1]), u[3] = g[2];
  }
  template <class P>
  static INSULA_INLINE void output_adjoint(P const (&y)[2], P (&m)[4]) {
    m[0] = y[0], m[1] = y[0] + y[1], m[2] = y[0] - y[1], m[3] = -y[1];
  }
  template <class T, class P>
  static INSULA_INLINE void weight_adjoint(P const (&u)[4], P (&g)[3]) {
    P const s = T(0.5) * (u[1] + u[2]);
    g[0] = u[0] + s, g[1] = T(0.5) * (u[1] - u[2]), g[2] = s + u[3];
  }
};

template <>
struct winograd<4> {
  static constexpr int A = 6;
  template <class P>
  static INSULA_INLINE void input(P const (&d)[6], P (&o)[6]) {
    P const a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
    o[0] = 4 * d[0] - 5 * d[2] + d[4], o[1] = a + b, o[2] = a - b;
    o[3] = c + e, o[4] = c - e, o[5] = 4 * d[1] - 5 * d[3] + d[5];
  }
  template <class P>
  static INSULA_INLINE void output(P const (&m)[6], P (&y)[4]) {
    P const a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    y[0] = m[0] + a + c, y[1] = b + 2 * e, y[2] = a + 4 * c, y[3] = b + 8 * e + m[5];
  }
  template <class T, class P>
  static INSULA_INLINE void weight(P const (&g)[3], P (&u)[6]) {
    P const s = g[0] + g[2], t = T(1. / 24) * g[0] + T(1. / 6) * g[2], r = T(1. / 12) * g[1];
    u[0] = T(0.25) * g[0], u[1] = T(-1. / 6) * (s + g[1]), u[2] = T(-1. / 6) * (s - g[1]);
    u[3] = t + r, u[4] = t - r, u[5] = g[2];
  }
  template <class P>
  static INSULA_INLINE void output_adjoint(P const (&y)[4], P (&m)[6]) {
    P const a = y[0] + y[2], b = y[1] + y[3], c = y[0] + 4 * y[2], e = 2 * y[1] + 8 * y[3];
    m[0] = y[0], m[1] = a + b, m[2] = a - b, m[3] = c + e, m[4] = c - e, m[5] = y[3];
  }
  template <class T, class P>
  static INSULA_INLINE void weight_adjoint(P const (&u)[6], P (&g)[3]) {
    P const a = T(1. / 6) * (u[1] + u[2]), c = u[3] + u[4];
    g[0] = T(0.25) * u[0] - a + T(1. / 24) * c;
    g[1] = T(1. / 6) * (u[2] - u[1]) + T(1. / 12) * (u[3] - u[4]);
    g[2] = T(1. / 6) * c - a + u[5];
  }
};

/// Whether the lattice is one of stride 1 with 3 x 3 taps in height and width, with channels and positions enough to
/// pay for the transforms.
inline bool suits_winograd(lattice const& l) {
  for (int a = 0; a < 3; ++a)
    if (l.at[a].stride != 1 || l.at[a].step != 1 || l.at[a].tap_step != 1) return false;
  return l.at[1].taps == 3 && l.at[2].taps == 3 && l.at[1].kernel == 3 && l.at[2].kernel == 3 &&
         l.groups == 1 && l.in_channels >= 16 && l.out_channels >= 16 && l.positions() >= 512;
}

/// Tiles of M x M outputs of one plane, in runs of `run`, times `planes` planes: what one task computes.
template <int M>
struct winograd_cut {
  index_t tiles_h, tiles_w, run, runs, planes, slabs;

  template <scalar T>
  static winograd_cut of(lattice const& l, index_t channels, index_t bytes) {
    constexpr index_t x = winograd<M>::A * winograd<M>::A;
    winograd_cut c;
    c.tiles_h = ceil_divide(l.at[1].count, M), c.tiles_w = ceil_divide(l.at[2].count, M);
    index_t const tiles = c.tiles_h * c.tiles_w, plane = x * channels * index_t(sizeof(T));
    index_t const most = bytes / (plane * (3 + l.at[0].taps)) >= 24 ? 24 : 12;
    c.runs = ceil_divide(tiles, most), c.run = tiles < most ? tiles : most;
    index_t planes = bytes / (plane * c.run) - (l.at[0].taps - 1);
    planes = planes < 4 ? 4 : planes > 8 ? 8 : planes;
    c.slabs = ceil_divide(l.at[0].count, planes), c.planes = ceil_divide(l.at[0].count, c.slabs);
    c.slabs = ceil_divide(l.at[0].count, c.planes);
    return c;
  }
  index_t tasks(index_t batch) const { return batch * slabs * runs; }
};

/// v[plane][A A][run][channels padded]: the transformed inputs of tiles [from, to) of planes [d_from, d_to).
template <int M, scalar T>
void transform_inputs(lattice const& l, winograd_cut<M> const& cut, T const* x, index_t sample,
                      index_t d_from, index_t d_to, index_t from, index_t to, index_t padded, T* v) {
  constexpr int A = winograd<M>::A, w = simd::width<T>;
  line const &hl = l.at[1], &wl = l.at[2];
  index_t const ci = l.in_channels, each = cut.run * padded;
  for (index_t d = d_from; d < d_to; ++d, v += A * A * each) {
    if (d < 0 || d >= l.at[0].in) continue;  // never read
    for (index_t t = from; t < to; ++t) {
      index_t const h = t / cut.tiles_w * M + hl.start, q = t % cut.tiles_w * M + wl.start;
      bool const inside = h >= 0 && q >= 0 && h + A <= hl.in && q + A <= wl.in;
      for (index_t c = 0; c < ci; c += w) {
        int const some = ci - c < w ? int(ci - c) : w;
        simd::pack<T> half[A][A];
        for (int r = 0; r < A; ++r) {
          simd::pack<T> in[A];
          index_t const row = ((sample * l.at[0].in + d) * hl.in + h + r) * wl.in + q;
#pragma GCC unroll 8
          for (int s = 0; s < A; ++s) {
            bool const there = inside || (h + r >= 0 && h + r < hl.in && q + s >= 0 && q + s < wl.in);
            in[s] = !there      ? simd::zero<T>()
                    : some == w ? simd::load(x + (row + s) * ci + c)
                                : simd::load(x + (row + s) * ci + c, some);
          }
          winograd<M>::input(in, half[r]);
        }
        T* const at = v + (t - from) * padded + c;
#pragma GCC unroll 8
        for (int s = 0; s < A; ++s) {
          simd::pack<T> in[A], out[A];
#pragma GCC unroll 8
          for (int r = 0; r < A; ++r) in[r] = half[r][s];
          winograd<M>::input(in, out);
#pragma GCC unroll 8
          for (int r = 0; r < A; ++r) simd::store(at + (r * A + s) * each, out[r]);
        }
      }
    }
  }
}

/// u[panel][A A][depth tap][in channel][panel's columns]: the transformed weights, rows of whole registers. A panel
/// starts at u + A A taps in_channels from, `from` being its first channel.
template <int M, scalar T>
void transform_weights(context<cpu>& cx, lattice const& l, panels<T> const& cut_channels, T const* w, T* u) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  index_t const ci = l.in_channels, co = l.out_channels, taps = l.at[0].taps, pieces = ceil_divide(ci, 16);
  cx.pool.run(cut_channels.count * taps * pieces, [&](index_t task, int) {
    index_t const piece = task % pieces, td = task / pieces % taps;
    panel const p = cut_channels.at(task / pieces / taps);
    index_t const columns = p.registers * width, end = (piece + 1) * 16 < ci ? (piece + 1) * 16 : ci;
    for (index_t i = piece * 16; i < end; ++i)
      for (int v = 0; v < p.registers; ++v) {
        int const some = v + 1 < p.registers ? width : p.last;
        T const* s = w + ((l.at[0].tap + td) * 9 * ci + i) * co + p.from + v * width;
        T* y = u + A * A * taps * ci * p.from + (td * ci + i) * columns + v * width;
        simd::pack<T> half[3][A];
        for (int c = 0; c < 3; ++c) {
          simd::pack<T> g[3];
          for (int r = 0; r < 3; ++r)
            g[r] = some == width ? simd::load(s + (r * 3 + c) * ci * co)
                                 : simd::load(s + (r * 3 + c) * ci * co, some);
          winograd<M>::template weight<T>(g, half[c]);
        }
        for (int r = 0; r < A; ++r) {
          simd::pack<T> const g[3] = {half[0][r], half[1][r], half[2][r]};
          simd::pack<T> out[A];
          winograd<M>::template weight<T>(g, out);
          for (int c = 0; c < A; ++c) simd::store(y + (r * A + c) * taps * ci * columns, out[c]);
        }
      }
  });
}

/// y (+)= b + the transformed products m[A A][run][columns] of tiles [from, to) of output plane d, back in place.
template <int M, scalar T>
void transform_outputs(lattice const& l, winograd_cut<M> const& cut, T const* m, index_t sample, index_t d,
                       index_t from, index_t to, panel const& p, T const* b, bool adds, T* y) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  index_t const columns = p.registers * width, each = cut.run * columns, co = l.out_channels;
  for (index_t t = from; t < to; ++t) {
    index_t const h = t / cut.tiles_w * M, q = t % cut.tiles_w * M;
    for (int v = 0; v < p.registers; ++v) {
      int const some = v + 1 < p.registers ? width : p.last;
      T const* const at = m + (t - from) * columns + v * width;
      simd::pack<T> half[M][A];
#pragma GCC unroll 8
      for (int s = 0; s < A; ++s) {
        simd::pack<T> in[A], out[M];
#pragma GCC unroll 8
        for (int r = 0; r < A; ++r) in[r] = simd::load(at + (r * A + s) * each);
        winograd<M>::output(in, out);
#pragma GCC unroll 8
        for (int r = 0; r < M; ++r) half[r][s] = out[r];
      }
      T const* const bias = b ? b + p.from + v * width : nullptr;
      for (int r = 0; r < M && h + r < l.at[1].count; ++r) {
        simd::pack<T> out[M];
        winograd<M>::output(half[r], out);
        T* to_y = y + (((sample * l.at[0].out + d) * l.at[1].out + h + r) * l.at[2].out + q) * co + p.from +
                  v * width;
        for (int s = 0; s < M && q + s < l.at[2].count; ++s, to_y += co) {
          if (T const* rest = adds ? to_y : bias)
            out[s] += some == width ? simd::load(rest) : simd::load(rest, some);
          if (some == width)
            simd::store(to_y, out[s]);
          else
            simd::store(to_y, out[s], some);
        }
      }
    }
  }
}

/// y (+)= b + the lattice's convolution of x with w; needs suits_winograd(l).
template <int M, scalar T>
void convolve_winograd(context<cpu>& cx, lattice const& l, T const* x, T const* w, T const* b, bool adds,
                       T* y) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  line const& dl = l.at[0];
  index_t const ci = l.in_channels, padded = ceil_divide(ci, width) * width;
  panels<T> const cut_channels(l.out_channels);
  auto const cut = winograd_cut<M>::template of<T>(l, padded, 768 << 10);
  index_t const tiles = cut.tiles_h * cut.tiles_w, inner = dl.taps * ci,
                most = cut_channels.at(0).registers * width;

  scratch shared(cx);
  T* const u = shared.take<T>(A * A * inner * cut_channels.registers * width);
  transform_weights<M>(cx, l, cut_channels, w, u);
  cx.pool.run(cut.tasks(l.batch), [&](index_t task, int worker) {
    index_t const from = task % cut.runs * cut.run, to = from + cut.run < tiles ? from + cut.run : tiles;
    index_t const d_from = task / cut.runs % cut.slabs * cut.planes, sample = task / cut.runs / cut.slabs;
    index_t const d_to = d_from + cut.planes < dl.count ? d_from + cut.planes : dl.count,
                  plane = A * A * cut.run * padded;
    scratch memory(cx, worker);
    T* const v = memory.take<T>((cut.planes + dl.taps - 1) * plane);
    T* const m = memory.take<T>(cut.planes * A * A * cut.run * most);
    stretch* const list = memory.take<stretch>(dl.taps);
    transform_inputs<M>(l, cut, x, sample, d_from + dl.start, d_to + dl.start + dl.taps - 1, from, to, padded,
                        v);

    for (index_t i = 0; i < cut_channels.count; ++i) {
      panel const p = cut_channels.at(i);
      index_t const columns = p.registers * width, result = A * A * cut.run * columns;
      for (index_t k = 0; k < A * A; ++k)
        for (index_t d = d_from; d < d_to; ++d) {
          product<T> one{list,
                         0,
                         ci,
                         v + k * cut.run * padded,
                         padded,
                         1,
                         u + (A * A * p.from + k * columns) * inner,
                         columns,
                         nullptr,
                         false,
                         columns,
                         width};
          for (index_t t = 0; t < dl.taps; ++t)
            if (d + dl.start + t >= 0 && d + dl.start + t < dl.in)
              list[one.count++] = {(d - d_from + t) * plane, t * ci * columns};
          multiply(one, p.registers, to - from, m + (d - d_from) * result + k * cut.run * columns);
        }
      for (index_t d = d_from; d < d_to; ++d)
        transform_outputs<M>(l, cut, m + (d - d_from) * result, sample, d, from, to, p, b, adds, y);
    }
  });
}

/// m[plane][A A][run][columns]: what the transformed products of tiles [from, to) of planes [d_from, d_to) gain from gy.
template <int M, scalar T>
void transform_gradients(lattice const& l, winograd_cut<M> const& cut, T const* gy, index_t sample,
                         index_t d_from, index_t d_to, index_t from, index_t to, panel const& p, T* m) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  line const &hl = l.at[1], &wl = l.at[2];
  index_t const columns = p.registers * width, each = cut.run * columns, co = l.out_channels;
  for (index_t d = d_from; d < d_to; ++d, m += A * A * each)
    for (index_t t = from; t < to; ++t) {
      index_t const h = t / cut.tiles_w * M, q = t % cut.tiles_w * M;
      for (int v = 0; v < p.registers; ++v) {
        int const some = v + 1 < p.registers ? width : p.last;
        simd::pack<T> half[M][A];
        for (int r = 0; r < M; ++r) {
          simd::pack<T> in[M];
          T const* s =
              gy + (((sample * l.at[0].out + d) * hl.out + h + r) * wl.out + q) * co + p.from + v * width;
#pragma GCC unroll 4
          for (int c = 0; c < M; ++c, s += co)
            in[c] = h + r >= hl.count || q + c >= wl.count ? simd::zero<T>()
                    : some == width                        ? simd::load(s)
                                                           : simd::load(s, some);
          winograd<M>::output_adjoint(in, half[r]);
        }
        T* const at = m + (t - from) * columns + v * width;
#pragma GCC unroll 8
        for (int c = 0; c < A; ++c) {
          simd::pack<T> in[M], out[A];
#pragma GCC unroll 4
          for (int r = 0; r < M; ++r) in[r] = half[r][c];
          winograd<M>::output_adjoint(in, out);
#pragma GCC unroll 8
          for (int r = 0; r < A; ++r) simd::store(at + (r * A + c) * each, out[r]);
        }
      }
    }
}

/// gw += the adjoint weight transform of the sum over lanes of u, laid out as transform_weights does.
template <int M, scalar T>
void add_weight_gradients(context<cpu>& cx, lattice const& l, panels<T> const& cut_channels, index_t lanes,
                          index_t lane_size, T const* u, T* gw) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  index_t const ci = l.in_channels, co = l.out_channels, taps = l.at[0].taps, pieces = ceil_divide(ci, 16);
  cx.pool.run(cut_channels.count * taps * pieces, [&](index_t task, int) {
    index_t const piece = task % pieces, td = task / pieces % taps;
    panel const p = cut_channels.at(task / pieces / taps);
    index_t const columns = p.registers * width, end = (piece + 1) * 16 < ci ? (piece + 1) * 16 : ci;
    for (index_t i = piece * 16; i < end; ++i)
      for (int v = 0; v < p.registers; ++v) {
        int const some = v + 1 < p.registers ? width : p.last;
        T const* s = u + A * A * taps * ci * p.from + (td * ci + i) * columns + v * width;
        T* y = gw + ((l.at[0].tap + td) * 9 * ci + i) * co + p.from + v * width;
        simd::pack<T> half[A][3];
        for (int r = 0; r < A; ++r) {
          simd::pack<T> in[A];
          for (int c = 0; c < A; ++c) {
            T const* part = s + (r * A + c) * taps * ci * columns;
            in[c] = simd::load(part);
            for (index_t lane = 1; lane < lanes; ++lane) in[c] += simd::load(part + lane * lane_size);
          }
          winograd<M>::template weight_adjoint<T>(in, half[r]);
        }
        for (int c = 0; c < 3; ++c) {
          simd::pack<T> in[A], out[3];
          for (int r = 0; r < A; ++r) in[r] = half[r][c];
          winograd<M>::template weight_adjoint<T>(in, out);
          for (int r = 0; r < 3; ++r) {
            T* const to = y + (r * 3 + c) * ci * co;
            if (some == width)
              simd::store(to, simd::load(to) + out[r]);
            else
              simd::store(to, simd::load(to, some) + out[r], some);
          }
        }
      }
  });
}

/// gw += the weight gradient of the lattice's convolution: the adjoint of convolve_winograd; needs suits_winograd(l).
template <int M, scalar T>
void weight_gradient_winograd(context<cpu>& cx, lattice const& l, T const* x, T const* gy, T* gw) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  line const& dl = l.at[0];
  index_t const ci = l.in_channels, padded = ceil_divide(ci, width) * width;
  panels<T> const cut_channels(l.out_channels);
  auto const cut = winograd_cut<M>::template of<T>(l, padded, 640 << 10);
  index_t const tiles = cut.tiles_h * cut.tiles_w, blocks = cut.tasks(l.batch);
  index_t const lane_size = A * A * dl.taps * ci * cut_channels.registers * width;
  index_t lanes = ceil_divide(enough_tasks, cut_channels.count);
  lanes = lanes < blocks ? lanes : blocks;

  scratch shared(cx);
  T* const u = shared.take<T>(lanes * lane_size);
  cx.pool.run(lanes * cut_channels.count, [&](index_t task, int worker) {
    panel const p = cut_channels.at(task % cut_channels.count);
    index_t const lane = task / cut_channels.count, columns = p.registers * width;
    index_t const plane = A * A * cut.run * padded, result = A * A * cut.run * columns;
    T* const to_u = u + lane * lane_size + A * A * dl.taps * ci * p.from;
    scratch memory(cx, worker);
    T* const v = memory.take<T>((cut.planes + dl.taps - 1) * plane);
    T* const m = memory.take<T>(cut.planes * result);
    stretch* const list = memory.take<stretch>(cut.planes);

    index_t const first = blocks * lane / lanes;
    for (index_t block = first; block < blocks * (lane + 1) / lanes; ++block) {
      index_t const from = block % cut.runs * cut.run, to = from + cut.run < tiles ? from + cut.run : tiles;
      index_t const d_from = block / cut.runs % cut.slabs * cut.planes, sample = block / cut.runs / cut.slabs;
      index_t const d_to = d_from + cut.planes < dl.count ? d_from + cut.planes : dl.count;
      transform_inputs<M>(l, cut, x, sample, d_from + dl.start, d_to + dl.start + dl.taps - 1, from, to,
                          padded, v);
      transform_gradients<M>(l, cut, gy, sample, d_from, d_to, from, to, p, m);
      for (index_t k = 0; k < A * A; ++k)
        for (index_t t = 0; t < dl.taps; ++t) {
          product<T> one{list,
                         0,
                         to - from,
                         v + k * cut.run * padded,
                         1,
                         padded,
                         m + k * cut.run * columns,
                         columns,
                         nullptr,
                         block > first,
                         columns,
                         width};
          for (index_t d = d_from; d < d_to; ++d)
            if (d + dl.start + t >= 0 && d + dl.start + t < dl.in)
              list[one.count++] = {(d - d_from + t) * plane, (d - d_from) * result};
          multiply(one, p.registers, ci, to_u + (k * dl.taps + t) * ci * columns);
        }
    }
  });
  add_weight_gradients<M>(cx, l, cut_channels, lanes, lane_size, u, gw);
}

}  // namespace insula::detail::conv
