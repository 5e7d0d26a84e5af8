// SPDX-License-Identifier: Apache-2.0
// Convolution with fewer products: Winograd's minimal filtering over height and width, direct over depth.
#pragma once

#include <type_traits>
#include <utility>

#include "insula/kernels/cpu/conv_direct.hpp"
#include "insula/kernels/cpu/conv_source.hpp"
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

/// Points 0, +-3/4, +-3/2 and infinity, exact in binary. The textbook's 0, +-1, +-2 lose 2.3 times as much; that other
/// points are better: Barabasz et al. 2018, arXiv 1803.10986. Measured for sets +-a, +-b: best near a = 0.7, b = 1.45.
template <>
struct winograd<4> {
  static constexpr int A = 6;
  template <class P>
  static INSULA_INLINE void input(P const (&d)[6], P (&o)[6]) {
    using T = number<P>;
    P const p = d[4] - T(b2) * d[2], q = T(a) * (d[3] - T(b2) * d[1]);
    P const r = d[4] - T(a2) * d[2], s = T(b) * (d[3] - T(a2) * d[1]);
    o[0] = T(a2 * b2) * d[0] + (d[4] - T(a2 + b2) * d[2]), o[1] = p + q, o[2] = p - q;
    o[3] = r + s, o[4] = r - s, o[5] = T(a2 * b2) * d[1] + (d[5] - T(a2 + b2) * d[3]);
  }
  template <class P>
  static INSULA_INLINE void output(P const (&m)[6], P (&y)[4]) {
    using T = number<P>;
    P const p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];
    y[0] = m[0] + p + r, y[1] = T(a) * q + T(b) * s;
    y[2] = T(a2) * p + T(b2) * r, y[3] = T(a * a2) * q + (T(b * b2) * s + m[5]);
  }
  template <class T, class P>
  static INSULA_INLINE void weight(P const (&g)[3], P (&u)[6]) {
    P const p = T(1 / na) * g[0] + T(a2 / na) * g[2], q = T(a / na) * g[1];
    P const r = T(1 / nb) * g[0] + T(b2 / nb) * g[2], s = T(b / nb) * g[1];
    u[0] = T(1 / (a2 * b2)) * g[0], u[1] = p + q, u[2] = p - q, u[3] = r + s, u[4] = r - s, u[5] = g[2];
  }
  template <class P>
  static INSULA_INLINE void output_adjoint(P const (&y)[4], P (&m)[6]) {
    using T = number<P>;
    P const p = y[0] + T(a2) * y[2], q = T(a) * (y[1] + T(a2) * y[3]);
    P const r = y[0] + T(b2) * y[2], s = T(b) * (y[1] + T(b2) * y[3]);
    m[0] = y[0], m[1] = p + q, m[2] = p - q, m[3] = r + s, m[4] = r - s, m[5] = y[3];
  }
  template <class T, class P>
  static INSULA_INLINE void weight_adjoint(P const (&u)[6], P (&g)[3]) {
    P const p = u[1] + u[2], q = u[1] - u[2], r = u[3] + u[4], s = u[3] - u[4];
    g[0] = T(1 / (a2 * b2)) * u[0] + T(1 / na) * p + T(1 / nb) * r;
    g[1] = T(a / na) * q + T(b / nb) * s;
    g[2] = T(a2 / na) * p + T(b2 / nb) * r + u[5];
  }

 private:
  template <class P>
  using number = std::remove_cvref_t<decltype(std::declval<P>()[0])>;
  static constexpr double a = 0.75, b = 1.5, a2 = a * a, b2 = b * b;
  static constexpr double na = 2 * a2 * (a2 - b2), nb = 2 * b2 * (b2 - a2);  // of the Lagrange polynomials
};

/// Whether the lattice is one of stride 1 with 3 x 3 taps in height and width, with channels enough to pay for the
/// transforms.
inline bool suits_winograd(lattice const& l) {
  for (int a = 0; a < 3; ++a)
    if (l.at[a].stride != 1 || l.at[a].step != 1 || l.at[a].tap_step != 1) return false;
  return l.at[1].taps == 3 && l.at[2].taps == 3 && l.at[1].kernel == 3 && l.at[2].kernel == 3 &&
         l.groups == 1 && l.in_channels >= 16 && l.out_channels >= 16;
}

/// The number of tiles' outputs per axis, of 1 (direct), 2 and at most `most` = 4, that costs least: products of each weight,
/// plus what it costs to bring in and to transform the weight, which counts for small volumes.
inline int cheapest_winograd(lattice const& l, int most) {
  constexpr index_t weight_cost = 8;  // in products
  auto const cost = [&](int m) {
    index_t const a = m == 1 ? 3 : m + 2;
    index_t const tiles =
        l.batch * l.at[0].count * ceil_divide(l.at[1].count, m) * ceil_divide(l.at[2].count, m);
    return a * a * (tiles + weight_cost);
  };
  int best = 1;
  for (int m = 2; m <= most; m += 2)
    if (cost(m) < cost(best)) best = m;
  return best;
}

/// Tiles of M x M outputs of one plane, in runs of `run`, times `planes` planes: what one task computes.
template <int M>
struct winograd_cut {
  static constexpr index_t products = winograd<M>::A * winograd<M>::A;
  index_t tiles_h, tiles_w, run, runs, planes, slabs;

  /// Runs and planes whose transformed inputs stay within about `bytes`, if that leaves enough of both.
  template <scalar T>
  static winograd_cut of(lattice const& l, index_t channels, index_t bytes) {
    constexpr index_t most_planes = 8, least_planes = 4,
                      least_rows = 48;  // rows that share a weight in cache
    index_t const halo = l.at[0].taps - 1, all = bytes / (products * channels * index_t(sizeof(T)));
    winograd_cut c;
    c.tiles_h = ceil_divide(l.at[1].count, M), c.tiles_w = ceil_divide(l.at[2].count, M);
    index_t const tiles = c.tiles_h * c.tiles_w;
    index_t const few = least_rows / most_planes < tiles ? least_rows / most_planes : tiles;
    c.planes = all / few - halo;
    if (c.planes < least_planes) c.planes = least_planes;
    if (c.planes * few < least_rows) c.planes = ceil_divide(least_rows, few);
    if (c.planes > most_planes) c.planes = most_planes;
    c.slabs = ceil_divide(l.at[0].count, c.planes), c.planes = ceil_divide(l.at[0].count, c.slabs);
    c.slabs = ceil_divide(l.at[0].count, c.planes);
    index_t const least_run = ceil_divide(least_rows, c.planes);
    c.run = all / (c.planes + halo);
    c.run = c.run < least_run ? least_run : c.run > least_rows ? least_rows : c.run;
    c.runs = ceil_divide(tiles, c.run), c.run = ceil_divide(tiles, c.runs);
    c.runs = ceil_divide(tiles, c.run);
    return c;
  }
  /// All tiles and planes of a sample in one piece.
  static winograd_cut whole(lattice const& l) {
    winograd_cut c{};
    c.tiles_h = ceil_divide(l.at[1].count, M), c.tiles_w = ceil_divide(l.at[2].count, M);
    c.run = c.tiles_h * c.tiles_w, c.runs = 1, c.planes = l.at[0].count, c.slabs = 1;
    return c;
  }
  index_t tasks(index_t batch) const { return batch * slabs * runs; }
};

/// Elements from one of the products' matrices to the next: not less than n, and an odd number of cache lines, for A A
/// matrices that start in the same set of the L1 cache would drive one another out.
template <scalar T>
constexpr index_t spread(index_t n) {
  constexpr index_t line_elements = index_t(cache_line / sizeof(T));
  return (ceil_divide(n, line_elements) | 1) * line_elements;
}

/// One task's tiles [from, to) of output planes [d_from, d_to) of a sample.
struct winograd_block {
  index_t sample, d_from, d_to, from, to;

  template <int M>
  static winograd_block of(lattice const& l, winograd_cut<M> const& cut, index_t i) {
    winograd_block b;
    index_t const tiles = cut.tiles_h * cut.tiles_w, count = l.at[0].count;
    b.from = i % cut.runs * cut.run, b.to = b.from + cut.run < tiles ? b.from + cut.run : tiles;
    b.d_from = i / cut.runs % cut.slabs * cut.planes, b.sample = i / cut.runs / cut.slabs;
    b.d_to = b.d_from + cut.planes < count ? b.d_from + cut.planes : count;
    return b;
  }
  index_t run() const { return to - from; }
  index_t planes() const { return d_to - d_from; }
};

/// Calls f(d, end, first tap, taps) for runs of output planes [d, end) of a block that meet the same depth taps, those
/// whose input planes exist.
template <class F>
void each_depth(lattice const& l, winograd_block const& b, F f) {
  line const& n = l.at[0];
  auto const first = [&](index_t d) { return d + n.start < 0 ? -(d + n.start) : 0; };
  auto const last = [&](index_t d) { return d + n.start + n.taps > n.in ? n.in - d - n.start : n.taps; };
  for (index_t d = b.d_from, end; d < b.d_to; d = end) {
    for (end = d + 1; end < b.d_to && first(end) == first(d) && last(end) == last(d);) ++end;
    index_t const some = last(d) - first(d);
    f(d, end, first(d), some > 0 ? some : 0);
  }
}

/// v[A A][plane][run][channels padded], `each` from one matrix to the next: the transformed inputs of a block, channels
/// [from, to). Planes outside of the input are left as they are.
template <int M, scalar T>
void transform_inputs(lattice const& l, winograd_cut<M> const& cut, T const* x, winograd_block const& b,
                      index_t from, index_t to, index_t padded, index_t each, T* v) {
  constexpr int A = winograd<M>::A, w = simd::width<T>;
  line const &hl = l.at[1], &wl = l.at[2];
  index_t const ci = l.in_channels, d_from = b.d_from + l.at[0].start,
                d_to = b.d_to + l.at[0].start + l.at[0].taps - 1;
  for (index_t d = d_from; d < d_to; ++d, v += b.run() * padded) {
    if (d < 0 || d >= l.at[0].in) continue;  // never read
    for (index_t t = b.from; t < b.to; ++t) {
      index_t const h = t / cut.tiles_w * M + hl.start, q = t % cut.tiles_w * M + wl.start;
      bool const inside = h >= 0 && q >= 0 && h + A <= hl.in && q + A <= wl.in;
      for (index_t c = from; c < to; c += w) {
        int const some = to - c < w ? int(to - c) : w;
        simd::pack<T> half[A][A];
        for (int r = 0; r < A; ++r) {
          simd::pack<T> in[A];
          index_t const row = ((b.sample * l.at[0].in + d) * hl.in + h + r) * wl.in + q;
#pragma GCC unroll 8
          for (int s = 0; s < A; ++s) {
            bool const there = inside || (h + r >= 0 && h + r < hl.in && q + s >= 0 && q + s < wl.in);
            in[s] = !there      ? simd::zero<T>()
                    : some == w ? simd::load(x + (row + s) * ci + c)
                                : simd::load(x + (row + s) * ci + c, some);
          }
          winograd<M>::input(in, half[r]);
        }
        T* const at = v + (t - b.from) * padded + c - from;
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

/// u[A A][in channel][panel's columns], `each` from one matrix to the next: the transformed weights of a panel and of
/// in channels [0, count), rows of whole registers. w: the first of the panel's 3 x 3 weights, rows and taps apart by `row`
/// and `tap`; of the last register of a row `last` elements are read.
template <int M, scalar T>
void transform_panel(panel const& p, index_t count, index_t each, T const* w, index_t row, index_t tap,
                     int last, T* u) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  index_t const columns = p.registers * width;
  for (index_t i = 0; i < count; ++i)
    for (int v = 0; v < p.registers; ++v) {
      int const some = v + 1 < p.registers ? width : last;
      T const* s = w + i * row + v * width;
      T* y = u + i * columns + v * width;
      if (v == 0)
        for (int k = 0; k < 9; ++k) __builtin_prefetch(s + k * tap + 4 * row, 0, 2);  // strided: not foreseen
      simd::pack<T> half[3][A];
      for (int c = 0; c < 3; ++c) {
        simd::pack<T> g[3];
        for (int r = 0; r < 3; ++r)
          g[r] = some == width ? simd::load(s + (r * 3 + c) * tap) : simd::load(s + (r * 3 + c) * tap, some);
        winograd<M>::template weight<T>(g, half[c]);
      }
      for (int r = 0; r < A; ++r) {
        simd::pack<T> const g[3] = {half[0][r], half[1][r], half[2][r]};
        simd::pack<T> out[A];
        winograd<M>::template weight<T>(g, out);
        for (int c = 0; c < A; ++c) simd::store(y + (r * A + c) * each, out[c]);
      }
    }
}

/// u[panel][A A][depth tap][in channel][panel's columns], `each` from one matrix to the next: all transformed weights.
template <int M, scalar T>
void transform_weights(context<cpu>& cx, lattice const& l, panels<T> const& cut_channels, index_t each,
                       T const* w, T* u) {
  constexpr int A = winograd<M>::A;
  index_t const ci = l.in_channels, taps = l.at[0].taps, pieces = ceil_divide(ci, 16);
  cx.pool.run(cut_channels.count * taps * pieces, [&](index_t task, int) {
    index_t const from = task % pieces * 16, td = task / pieces % taps, i = task / pieces / taps;
    panel const p = cut_channels.at(i);
    transform_panel<M>(p, from + 16 < ci ? 16 : ci - from, each,
                       w + ((l.at[0].tap + td) * 9 * ci + from) * l.out_channels + p.from, l.out_channels,
                       ci * l.out_channels, p.last,
                       u + i * A * A * each + (td * ci + from) * p.registers * simd::width<T>);
  });
}

/// y (+)= b + the transformed products m[A A][run][columns] of a block's output plane d, back in place.
template <int M, scalar T>
void transform_outputs(lattice const& l, winograd_cut<M> const& cut, T const* m, index_t each,
                       winograd_block const& block, index_t d, panel const& p, T const* b, bool adds, T* y) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  index_t const columns = p.registers * width, co = l.out_channels;
  for (index_t t = block.from; t < block.to; ++t) {
    index_t const h = t / cut.tiles_w * M, q = t % cut.tiles_w * M;
    for (int v = 0; v < p.registers; ++v) {
      int const some = v + 1 < p.registers ? width : p.last;
      T const* const at = m + (t - block.from) * columns + v * width;
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
        T* to_y = y + (((block.sample * l.at[0].out + d) * l.at[1].out + h + r) * l.at[2].out + q) * co +
                  p.from + v * width;
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

/// Of the transformed inputs that one task keeps: what fits the L2 cache beside the products.
inline constexpr index_t winograd_bytes = simd::register_count == 32 ? 768 << 10 : 384 << 10;

/// y (+)= b + the lattice's convolution of x with w; needs suits_winograd(l). Planes and tiles of a task are the rows of
/// one matrix per product; a depth tap is a shift by the rows of a plane.
template <int M, scalar T>
void convolve_winograd(context<cpu>& cx, lattice const& l, T const* x, T const* w, T const* b, bool adds,
                       T* y) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  line const& dl = l.at[0];
  index_t const ci = l.in_channels, padded = ceil_divide(ci, width) * width;
  panels<T> const cut_channels(l.out_channels);
  auto const cut = winograd_cut<M>::template of<T>(l, padded, winograd_bytes);
  index_t const most = cut_channels.at(0).registers * width;
  index_t const u_each = spread<T>(dl.taps * ci * most), m_each = spread<T>(cut.planes * cut.run * most),
                v_each = spread<T>((cut.planes + dl.taps - 1) * cut.run * padded);

  constexpr index_t least_tasks = 4;  // tasks of a few panels transform the same inputs again
  index_t const blocks = cut.tasks(l.batch);
  index_t const wanted = blocks > 0 ? ceil_divide(least_tasks, blocks) : 1;
  index_t const parts = wanted < cut_channels.count ? wanted : cut_channels.count;

  scratch shared(cx);
  T* const u = shared.take<T>(cut_channels.count * A * A * u_each);
  transform_weights<M>(cx, l, cut_channels, u_each, w, u);
  cx.pool.run(blocks * parts, [&](index_t task, int worker) {
    auto const block = winograd_block::of(l, cut, task / parts);
    index_t const part = task % parts;
    scratch memory(cx, worker);
    T* const v = memory.take<T>(A * A * v_each);
    T* const m = memory.take<T>(A * A * m_each);
    stretch* const list = memory.take<stretch>(dl.taps);
    transform_inputs<M>(l, cut, x, block, 0, ci, padded, v_each, v);

    for (index_t i = cut_channels.count * part / parts; i < cut_channels.count * (part + 1) / parts; ++i) {
      panel const p = cut_channels.at(i);
      index_t const columns = p.registers * width, run = block.run();
      for (index_t k = 0; k < A * A; ++k)
        each_depth(l, block, [&](index_t d, index_t end, index_t tap, index_t taps) {
          for (index_t t = 0; t < taps; ++t) list[t] = {(tap + t) * run * padded, (tap + t) * ci * columns};
          product<T> const one{list,    taps,
                               ci,      v + k * v_each + (d - block.d_from) * run * padded,
                               padded,  u + (i * A * A + k) * u_each,
                               nullptr, false,
                               columns, width};
          multiply(one, p.registers, (end - d) * run, m + k * m_each + (d - block.d_from) * run * columns);
        });
      for (index_t d = block.d_from; d < block.d_to; ++d)
        transform_outputs<M>(l, cut, m + (d - block.d_from) * run * columns, m_each, block, d, p, b, adds, y);
    }
  });
}

/// m[A A][plane][run][columns]: what the transformed products of a block gain from gy.
template <int M, scalar T>
void transform_gradients(lattice const& l, winograd_cut<M> const& cut, T const* gy,
                         winograd_block const& block, panel const& p, index_t each, T* m) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  line const &hl = l.at[1], &wl = l.at[2];
  index_t const columns = p.registers * width, co = l.out_channels;
  for (index_t d = block.d_from; d < block.d_to; ++d, m += block.run() * columns)
    for (index_t t = block.from; t < block.to; ++t) {
      index_t const h = t / cut.tiles_w * M, q = t % cut.tiles_w * M;
      for (int v = 0; v < p.registers; ++v) {
        int const some = v + 1 < p.registers ? width : p.last;
        simd::pack<T> half[M][A];
        for (int r = 0; r < M; ++r) {
          simd::pack<T> in[M];
          T const* s = gy + (((block.sample * l.at[0].out + d) * hl.out + h + r) * wl.out + q) * co + p.from +
                       v * width;
#pragma GCC unroll 4
          for (int c = 0; c < M; ++c, s += co)
            in[c] = h + r >= hl.count || q + c >= wl.count ? simd::zero<T>()
                    : some == width                        ? simd::load(s)
                                                           : simd::load(s, some);
          winograd<M>::output_adjoint(in, half[r]);
        }
        T* const at = m + (t - block.from) * columns + v * width;
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

/// gw += the adjoint weight transform of the sum over lanes of u[A A][in channel][panel's columns], for one depth tap and in
/// channels [from, to); `each` from one matrix to the next.
template <int M, scalar T>
void add_panel_gradient(lattice const& l, panel const& p, index_t tap, index_t from, index_t to, T const* u,
                        index_t each, index_t lanes, index_t lane_size, T* gw) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  index_t const ci = l.in_channels, co = l.out_channels, columns = p.registers * width;
  for (index_t i = from; i < to; ++i, u += columns)
    for (int v = 0; v < p.registers; ++v) {
      int const some = v + 1 < p.registers ? width : p.last;
      T* const y = gw + ((l.at[0].tap + tap) * 9 * ci + i) * co + p.from + v * width;
      simd::pack<T> half[A][3];
      for (int r = 0; r < A; ++r) {
        simd::pack<T> in[A];
        for (int c = 0; c < A; ++c) {
          T const* part = u + v * width + (r * A + c) * each;
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
          T* const to_y = y + (r * 3 + c) * ci * co;
          if (some == width)
            simd::store(to_y, simd::load(to_y) + out[r]);
          else
            simd::store(to_y, simd::load(to_y, some) + out[r], some);
        }
      }
    }
}

/// The same for all weights, u laid out as transform_weights does.
template <int M, scalar T>
void add_weight_gradients(context<cpu>& cx, lattice const& l, panels<T> const& cut_channels, index_t each,
                          index_t lanes, index_t lane_size, T const* u, T* gw) {
  constexpr int A = winograd<M>::A;
  index_t const ci = l.in_channels, taps = l.at[0].taps, pieces = ceil_divide(ci, 16);
  cx.pool.run(cut_channels.count * taps * pieces, [&](index_t task, int) {
    index_t const from = task % pieces * 16, td = task / pieces % taps, i = task / pieces / taps;
    panel const p = cut_channels.at(i);
    add_panel_gradient<M>(l, p, td, from, from + 16 < ci ? from + 16 : ci,
                          u + i * A * A * each + (td * ci + from) * p.registers * simd::width<T>, each, lanes,
                          lane_size, gw);
  });
}

/// gw += the weight gradient of the lattice's convolution: the adjoint of convolve_winograd; needs suits_winograd(l).
/// A task adds up one lane of blocks for some panels, which share the transformed inputs.
template <int M, scalar T>
void weight_gradient_winograd(context<cpu>& cx, lattice const& l, T const* x, T const* gy, T* gw) {
  constexpr int A = winograd<M>::A, width = simd::width<T>;
  constexpr index_t lanes_bytes = 15 << 20;  // of the sums of all lanes
  line const& dl = l.at[0];
  index_t const ci = l.in_channels, padded = ceil_divide(ci, width) * width;
  panels<T> const cut_channels(l.out_channels);
  auto const cut = winograd_cut<M>::template of<T>(l, padded, winograd_bytes);
  index_t const most = cut_channels.at(0).registers * width, blocks = cut.tasks(l.batch);
  index_t const u_each = spread<T>(dl.taps * ci * most), m_each = spread<T>(cut.planes * cut.run * most),
                v_each = spread<T>((cut.planes + dl.taps - 1) * cut.run * padded);
  index_t const lane_size = cut_channels.count * A * A * u_each;
  index_t lanes = lanes_bytes / (lane_size * index_t(sizeof(T)));
  lanes = lanes > enough_tasks ? enough_tasks : lanes > 1 ? lanes : 1;
  lanes = lanes < blocks ? lanes : blocks;
  index_t parts = ceil_divide(enough_tasks, lanes);
  parts = parts < cut_channels.count ? parts : cut_channels.count;

  scratch shared(cx);
  T* const u = shared.take<T>(lanes * lane_size);
  cx.pool.run(lanes * parts, [&](index_t task, int worker) {
    index_t const part = task % parts, lane = task / parts;
    scratch memory(cx, worker);
    T* const v = memory.take<T>(A * A * v_each);
    T* const m = memory.take<T>(A * A * m_each);
    index_t const first = blocks * lane / lanes;
    for (index_t i = first; i < blocks * (lane + 1) / lanes; ++i) {
      auto const block = winograd_block::of(l, cut, i);
      index_t const run = block.run();
      transform_inputs<M>(l, cut, x, block, 0, ci, padded, v_each, v);
      for (index_t q = cut_channels.count * part / parts; q < cut_channels.count * (part + 1) / parts; ++q) {
        panel const p = cut_channels.at(q);
        index_t const columns = p.registers * width;
        transform_gradients<M>(l, cut, gy, block, p, m_each, m);
        for (index_t k = 0; k < A * A; ++k)
          for (index_t t = 0; t < dl.taps; ++t) {
            index_t d = block.d_from, end = block.d_to;  // planes whose input at this tap exists
            if (d + dl.start + t < 0) d = -dl.start - t;
            if (end + dl.start + t > dl.in) end = dl.in - dl.start - t;
            index_t const some = end > d ? end - d : 0, at = some > 0 ? d - block.d_from : 0;
            stretch const all{(at + t) * run * padded, at * run * columns};
            product<T> const one{&all,           1,       some * run, v + k * v_each, padded,
                                 m + k * m_each, nullptr, i > first,  columns,        width};
            multiply_across(one, p.registers, ci,
                            u + lane * lane_size + (q * A * A + k) * u_each + t * ci * columns);
          }
      }
    }
  });
  add_weight_gradients<M>(cx, l, cut_channels, u_each, lanes, lane_size, u, gw);
}

}  // namespace insula::detail::conv
