// SPDX-License-Identifier: Apache-2.0
// CPU kernels of batch_norm, batch_norm_pool and their gradients.
#pragma once

#include <cmath>

#include "insula/kernels/cpu/norm.hpp"
#include "insula/kernels/cpu/pool.hpp"
#include "insula/kernels/plain/batch_norm.hpp"

namespace insula {

namespace detail::batch {

inline constexpr index_t most_tasks = 256;  // whose partial sums are kept

/// How many rows a task takes: a whole number of blocks that fit the cache.
inline index_t task_rows(index_t rows, index_t channels) {
  index_t const block = chunk_rows(channels), share = chunk_count(rows, most_tasks);
  return rows > 0 ? chunk_count(share, block) * block : block;
}

/// What normalises a channel: (x - mean) factor + offset.
template <scalar T>
struct affine {
  T *mean, *factor, *offset;
};

/// Moments of each channel over the rows of this rank, merged in order; 0 if it has none.
template <scalar T>
void batch_moments(context<cpu>& cx, index_t rows, index_t channels, T const* x, double* mean,
                   double* squares) {
  index_t const each = task_rows(rows, channels), block = chunk_rows(channels);
  index_t const tasks = chunk_count(rows, each);
  scratch s(cx);
  double* const partial = s.take<double>(tasks * 2 * channels);
  run_chunks(cx, rows, each, [&](index_t begin, index_t end, index_t task, int worker) {
    scratch mine(cx, worker);
    double *const to = partial + task * 2 * channels, *const one = mine.take<double>(2 * channels);
    for (index_t r = begin; r < end; r += block) {
      index_t const n = end - r < block ? end - r : block;
      channel_moments(n, channels, x + r * channels, r == begin ? to : one);
      if (r > begin) merge_moments(double(r - begin), double(n), channels, one, to);
    }
  });
  for (index_t t = 1; t < tasks; ++t)
    merge_moments(double(t * each), double(t + 1 < tasks ? each : rows - t * each), channels,
                  partial + t * 2 * channels, partial);
  for (index_t c = 0; c < channels; ++c)
    mean[c] = tasks > 0 ? partial[c] : 0, squares[c] = tasks > 0 ? partial[channels + c] : 0;
}

/// Statistics by the rule of a.from as (x - mean) factor + offset; moves the running ones and writes a.stats. From the kept
/// statistics the same bits follow as in the pass that left them.
template <scalar T, class Args>
void set_affine(context<cpu>& cx, Args const& a, index_t rows, index_t channels, affine<T> to) {
  scratch s(cx);
  double* const mean = s.take<double>(channels);
  double* const spread = s.take<double>(channels);
  double count = double(rows);
  if (a.from == norm_statistics::batch) {
    batch_moments(cx, rows, channels, a.x, mean, spread);
    count = merge_ranks(a.ranks, channels, count, mean, spread, s.take<double>(channels + 1));
    check_rows(count);
    if (a.running_mean)
      follow_batch(channels, count, mean, spread, a.momentum, a.running_mean, a.running_var);
  }
  for (index_t c = 0; c < channels; ++c) {
    bool const kept = a.from == norm_statistics::kept, batch = a.from == norm_statistics::batch;
    double const m = batch ? mean[c] : double(kept ? a.stats[c] : a.running_mean[c]);
    T const center = T(m), rest = kept ? a.stats[2 * channels + c] : T(m - double(center));
    T const rstd = kept ? a.stats[channels + c]
                        : T(1 / std::sqrt((batch ? spread[c] / count : double(a.running_var[c])) + a.eps));
    double const factor = double(rstd) * (a.w ? double(a.w[c]) : 1.0);
    to.mean[c] = center, to.factor[c] = T(factor);
    to.offset[c] = T((a.b ? double(a.b[c]) : 0.0) - double(rest) * factor);
    if (a.stats) a.stats[c] = center, a.stats[channels + c] = rstd, a.stats[2 * channels + c] = rest;
  }
}

/// The same from what the forward pass left in stats.
template <scalar T, class Args>
void kept_affine(Args const& a, index_t channels, affine<T> to) {
  for (index_t c = 0; c < channels; ++c) {
    double const factor = double(a.stats[channels + c]) * (a.w ? double(a.w[c]) : 1.0);
    to.mean[c] = a.stats[c], to.factor[c] = T(factor);
    to.offset[c] = T((a.b ? double(a.b[c]) : 0.0) - double(a.stats[2 * channels + c]) * factor);
  }
}

template <scalar T>
affine<T> take_affine(scratch& s, index_t channels) {
  return {s.take<T>(channels), s.take<T>(channels), s.take<T>(channels)};
}

/// gx = gu factor - constant - (x - mean) slope
template <scalar T>
struct projection {
  T *constant, *slope;
};

/// Weight gradients and the projection, from sums (2, channels) of gu and of gu (x - mean) over this rank's rows. message: 2
/// channels + 1 numbers.
template <scalar T, class Args>
void finish_sums(Args const& a, index_t rows, index_t channels, double const* sums, double* message,
                 projection<T> to) {
  for (index_t c = 0; c < channels; ++c) {  // sums over x minus the unrounded mean
    message[c] = sums[c];
    message[channels + c] = sums[channels + c] - double(a.stats[2 * channels + c]) * sums[c];
    if (a.gb) a.gb[c] += T(sums[c]);
    if (a.gw) a.gw[c] += T(message[channels + c] * double(a.stats[channels + c]));
  }
  message[2 * channels] = double(rows);
  bool const projects = a.from != norm_statistics::running;
  if (projects && a.ranks.sum) a.ranks.sum(a.ranks.self, message, 2 * channels + 1);
  double const all = message[2 * channels];
  for (index_t c = 0; c < channels; ++c) {
    double const rstd = double(a.stats[channels + c]), factor = rstd * (a.w ? double(a.w[c]) : 1.0);
    double const slope = projects ? factor * rstd * rstd * message[channels + c] / all : 0;
    to.slope[c] = T(slope);
    to.constant[c] =
        T((projects ? factor * message[c] / all : 0) - double(a.stats[2 * channels + c]) * slope);
  }
}

/// sum[c] = the partial sums of all tasks in order.
inline void add_tasks(index_t tasks, index_t width, double const* partial, double* sum) {
  for (index_t i = 0; i < width; ++i) sum[i] = 0;
  for (index_t t = 0; t < tasks; ++t)
    for (index_t i = 0; i < width; ++i) sum[i] += partial[t * width + i];
}

}  // namespace detail::batch

/// Moments per block and channel, merged in order; then one pass that normalises, adds and activates.
template <scalar T>
struct kernel<op::batch_norm, cpu, T> {
  static void run(context<cpu>& cx, op::batch_norm::args<T> const& a) {
    index_t const channels = a.channels;
    scratch s(cx);
    auto const f = detail::batch::take_affine<T>(s, channels);
    detail::batch::set_affine<T>(cx, a, a.rows, channels, f);
    simd::with_far(a.y, a.rows * channels, channels, a.y == a.x || a.y == a.skip, [&](auto past) {
      simd::with_activation(a.act,
                            [&](auto act) { write<decltype(past)::value, decltype(act)::value>(cx, a, f); });
    });
  }

 private:
  /// y = act(normalised x + skip)
  template <bool Past, activation Act>
  static void write(context<cpu>& cx, op::batch_norm::args<T> const& a, detail::batch::affine<T> const& f) {
    index_t const channels = a.channels;
    run_chunks(cx, a.rows, chunk_rows(channels), [&](index_t begin, index_t end, index_t, int) {
      auto const take = [&, x = a.x, skip = a.skip, y = a.y](index_t from, auto rows, index_t c,
                                                             auto registers, auto lanes) {
        constexpr int V = decltype(registers)::value, N = V * int(rows());
        detail::line<V, T> const m(f.mean + c, lanes), k(f.factor + c, lanes), o(f.offset + c, lanes);
        auto const at = [&](int i) { return from + i / V * channels + i % V * simd::width<T>; };
        simd::pack<T> u[N];
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) {
          simd::ask_ahead(x + at(i));
          if constexpr (!Past) simd::ask_ahead(y + at(i));
          if (skip) simd::ask_ahead(skip + at(i));
          u[i] = simd::fma(simd::load(x + at(i), lanes) - m[i % V], k[i % V], o[i % V]);
          if (skip) u[i] += simd::load(skip + at(i), lanes);
        }
        simd::activate_all<Act, T>(u);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) simd::put<Past>(y + at(i), u[i], lanes);
      };
      detail::each_rows<T>(begin, end, channels, take);
      if constexpr (Past) simd::end_stream();
    });
  }
};

/// Two passes: sums per block, in double over blocks, added in order; then gx and gskip. Both recompute the activation's
/// input.
template <scalar T>
struct kernel<op::batch_norm_grad, cpu, T> {
  using args = op::batch_norm_grad::args<T>;

  static void run(context<cpu>& cx, args const& a) {
    simd::with_activation(a.act, [&](auto act) { run_with<decltype(act)::value>(cx, a); });
  }

 private:
  template <activation Act>
  static void run_with(context<cpu>& cx, args const& a) {
    index_t const channels = a.channels, each = detail::batch::task_rows(a.rows, channels);
    index_t const tasks = chunk_count(a.rows, each), block = chunk_rows(channels);
    scratch s(cx);
    auto const f = detail::batch::take_affine<T>(s, channels);
    detail::batch::kept_affine<T>(a, channels, f);
    detail::batch::projection<T> const to{s.take<T>(channels), s.take<T>(channels)};
    double *const partial = s.take<double>(tasks * 2 * channels), *const sums = s.take<double>(2 * channels);
    run_chunks(cx, a.rows, each, [&](index_t begin, index_t end, index_t task, int worker) {
      scratch mine(cx, worker);
      T* const one = mine.take<T>(2 * channels);
      double* const out = partial + task * 2 * channels;
      for (index_t i = 0; i < 2 * channels; ++i) out[i] = 0;
      for (index_t r = begin; r < end; r += block) {
        add_sums<Act>(a, f, r, end - r < block ? end : r + block, one);
        for (index_t i = 0; i < 2 * channels; ++i) out[i] += double(one[i]);
      }
    });
    detail::batch::add_tasks(tasks, 2 * channels, partial, sums);
    detail::batch::finish_sums<T>(a, a.rows, channels, sums, s.take<double>(2 * channels + 1), to);
    if (!a.gx && !a.gskip) return;
    simd::with_far(a.gx, a.rows * channels, channels, a.adds || a.gx == a.gy, [&](auto past) {
      run_chunks(cx, a.rows, block, [&](index_t begin, index_t end, index_t, int) {
        write_gradients<Act, decltype(past)::value>(a, f, to, begin, end);
      });
    });
  }

  /// The gradient at the activation's input, of one register. d: x - mean; f, o: factor and offset.
  template <activation Act, class Lanes>
  INSULA_INLINE static simd::pack<T> before(args const& a, index_t at, simd::pack<T> d, simd::pack<T> f,
                                            simd::pack<T> o, Lanes lanes) {
    simd::ask_ahead(a.x + at, a.gy + at);
    if (Act != activation::none && a.skip) simd::ask_ahead(a.skip + at);
    auto const gy = simd::load(a.gy + at, lanes);
    if constexpr (Act == activation::none) return gy;
    auto u = simd::fma(d, f, o);
    if (a.skip) u += simd::load(a.skip + at, lanes);
    return simd::through_activation<Act, T>(u, gy);
  }

  template <activation Act>
  static void add_sums(args const& a, detail::batch::affine<T> const& f, index_t begin, index_t end,
                       T* sums) {
    index_t const channels = a.channels;
    simd::clear(2 * channels, sums);
    auto const take = [&](index_t from, index_t rows, index_t c, auto registers, auto lanes) {
      constexpr int V = decltype(registers)::value, w = simd::width<T>;
      detail::line<V, T> const m(f.mean + c, lanes), k(f.factor + c, lanes), o(f.offset + c, lanes);
      detail::line<V, T> total(sums + c, lanes), slope(sums + channels + c, lanes);
      for (index_t row = 0; row < rows; ++row)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          index_t const at = from + row * channels + v * w;
          auto const d = simd::load(a.x + at, lanes) - m[v];
          auto const gu = before<Act>(a, at, d, k[v], o[v], lanes);
          total.part[v] += gu;
          slope.part[v] = simd::fma(gu, d, slope[v]);
        }
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        simd::store(sums + c + v * w, total[v], lanes);
        simd::store(sums + channels + c + v * w, slope[v], lanes);
      }
    };
    detail::each_rows<T>(begin, end, channels, take);
  }

  template <activation Act, bool Past>
  static void write_gradients(args const& a, detail::batch::affine<T> const& f,
                              detail::batch::projection<T> const& p, index_t begin, index_t end) {
    index_t const channels = a.channels;
    auto const take = [&](index_t from, index_t rows, index_t c, auto registers, auto lanes) {
      constexpr int V = decltype(registers)::value;
      detail::line<V, T> const m(f.mean + c, lanes), k(f.factor + c, lanes), o(f.offset + c, lanes),
          constant(p.constant + c, lanes), slope(p.slope + c, lanes);
      for (index_t row = 0; row < rows; ++row)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          index_t const at = from + row * channels + v * simd::width<T>;
          auto const d = simd::load(a.x + at, lanes) - m[v];
          auto const gu = before<Act>(a, at, d, k[v], o[v], lanes);
          if (!Past && a.gx) simd::ask_ahead(a.gx + at);
          if (a.gskip) simd::ask_ahead(a.gskip + at);
          if (a.gskip)
            simd::store(a.gskip + at, a.skip_adds ? simd::load(a.gskip + at, lanes) + gu : gu, lanes);
          if (!a.gx) continue;
          auto g = simd::fnma(d, slope[v], simd::fma(gu, k[v], -constant[v]));
          if (a.adds) g += simd::load(a.gx + at, lanes);
          simd::put<Past>(a.gx + at, g, lanes);
        }
    };
    detail::each_rows<T>(begin, end, channels, take);
    if constexpr (Past) simd::end_stream();
  }
};

/// Moments, then every window from the volume as it is: nothing of the normalised volume is written.
template <scalar T>
struct kernel<op::batch_norm_pool, cpu, T> {
  static void run(context<cpu>& cx, op::batch_norm_pool::args<T> const& a) {
    op::pool3d_geometry const& g = a.g;
    detail::check_pool(g, "batch_norm_pool");
    extent const out = g.out();
    index_t const channels = g.channels, inputs = g.in.size() * channels, plane = out.h * out.w * channels;
    scratch s(cx);
    auto const f = detail::batch::take_affine<T>(s, channels);
    detail::batch::set_affine<T>(cx, a, g.batch * g.in.size(), channels, f);
    simd::with_activation(a.act, [&](auto act) {
      cx.pool.run(g.batch * out.d, [&](index_t task, int) {
        detail::pool::pool_plane(
            g, task % out.d, a.x + task / out.d * inputs, a.y + task * plane,
            a.pick ? a.pick + task * plane : nullptr, [&](index_t c, auto lanes, auto x) {
              auto const u = simd::fma(x - simd::load(f.mean + c, lanes), simd::load(f.factor + c, lanes),
                                       simd::load(f.offset + c, lanes));
              return simd::activated<decltype(act)::value, T>(u);
            });
      });
    });
  }
};

/// Sums over windows, each of which passes its gradient to the voxel that it picked; then gx voxel by voxel.
template <scalar T>
struct kernel<op::batch_norm_pool_grad, cpu, T> {
  using args = op::batch_norm_pool_grad::args<T>;

  static void run(context<cpu>& cx, args const& a) {
    detail::check_pool(a.g, "batch_norm_pool");
    simd::with_activation(a.act, [&](auto act) { run_with<decltype(act)::value>(cx, a); });
  }

 private:
  template <activation Act>
  static void run_with(context<cpu>& cx, args const& a) {
    op::pool3d_geometry const& g = a.g;
    index_t const channels = g.channels, tasks = g.batch * g.out().d, rows = g.batch * g.in.size();
    index_t const reach = g.kernel.d * g.in.h * g.in.w * channels;
    check(reach <= std::numeric_limits<std::int32_t>::max(), "batch_norm_pool: a window of ", g.kernel.d,
          " planes reaches over ", reach,
          " numbers, at most are 2^31 - 1: use fewer channels or smaller planes");
    scratch s(cx);
    auto const f = detail::batch::take_affine<T>(s, channels);
    detail::batch::kept_affine<T>(a, channels, f);
    detail::batch::projection<T> const to{s.take<T>(channels), s.take<T>(channels)};
    double *const partial = s.take<double>(tasks * 2 * channels), *const sums = s.take<double>(2 * channels);
    cx.pool.run(tasks, [&](index_t task, int worker) {
      scratch mine(cx, worker);
      add_sums<Act>(a, f, task, mine.take<T>(2 * channels), mine.take<std::int32_t>(g.kernel.size()),
                    partial + task * 2 * channels);
    });
    detail::batch::add_tasks(tasks, 2 * channels, partial, sums);
    detail::batch::finish_sums<T>(a, rows, channels, sums, s.take<double>(2 * channels + 1), to);
    if (!a.gx) return;
    index_t const outputs = g.out().size() * channels, plane = g.in.h * g.in.w * channels;
    simd::with_far(a.gx, rows * channels, channels, a.adds, [&](auto past) {
      cx.pool.run(g.batch * g.in.d, [&](index_t task, int) {
        index_t const n = task / g.in.d;
        T const* const x = a.x + task * plane;
        T* const gx = a.gx + task * plane;
        detail::pool::unpool_plane<T>(
            g, task % g.in.d, a.gy + n * outputs, a.pick + n * outputs,
            [&](index_t p, index_t c, auto lanes, auto gy) {
              index_t const at = p * channels + c;
              auto const d = simd::load(x + at, lanes) - simd::load(f.mean + c, lanes);
              auto const u = simd::fma(d, simd::load(f.factor + c, lanes), simd::load(f.offset + c, lanes));
              auto const gu = simd::through_activation<Act, T>(u, gy);
              auto v = simd::fma(gu, simd::load(f.factor + c, lanes), -simd::load(to.constant + c, lanes));
              v = simd::fnma(d, simd::load(to.slope + c, lanes), v);
              simd::put<decltype(past)::value>(gx + at, a.adds ? v + simd::load(gx + at, lanes) : v, lanes);
            });
        if constexpr (decltype(past)::value) simd::end_stream();
      });
    });
  }

  /// Asks for what window (od, oh, ow) reads and the row of windows before it does not: picks jump, which no cache foresees.
  INSULA_INLINE static void ask_ahead(op::pool3d_geometry const& g, T const* x, index_t od, index_t oh,
                                      index_t ow) {
    if (oh >= g.out().h) return;
    detail::pool::span const d(g, 0, od), h(g, 1, oh);
    index_t const from = ow * g.stride.w, voxels = g.in.w - from < g.stride.w ? g.in.w - from : g.stride.w;
    index_t const shared = g.kernel.h - g.stride.h, first = h.from > shared ? h.from : shared;
    for (index_t kd = d.from; kd < d.to; ++kd)
      for (index_t kh = first; kh < h.to; ++kh) {
        T const* const row = x + (((d.first + kd) * g.in.h + h.first + kh) * g.in.w + from) * g.channels;
        for (index_t i = 0; i < voxels * g.channels; i += index_t(cache_line / sizeof(T)))
          __builtin_prefetch(row + i, 0, 2);
      }
  }

  /// Sums of gu and of gu (x - mean) over one plane of windows; rows of windows in T, planes in double.
  template <activation Act>
  static void add_sums(args const& a, detail::batch::affine<T> const& f, index_t task, T* one,
                       std::int32_t* offset, double* out) {
    op::pool3d_geometry const& g = a.g;
    extent const o = g.out(), k = g.kernel;
    index_t const channels = g.channels, od = task % o.d;
    for (index_t t = 0; t < k.size(); ++t)
      offset[t] = std::int32_t(((t / (k.h * k.w) * g.in.h + t / k.w % k.h) * g.in.w + t % k.w) * channels);
    for (index_t i = 0; i < 2 * channels; ++i) out[i] = 0;
    index_t at = task * o.h * o.w * channels;
    for (index_t oh = 0; oh < o.h; ++oh) {
      simd::clear(2 * channels, one);
      for (index_t ow = 0; ow < o.w; ++ow, at += channels) {
        index_t const voxel = ((od * g.stride.d - g.pad.d) * g.in.h + oh * g.stride.h - g.pad.h) * g.in.w +
                              ow * g.stride.w - g.pad.w;
        T const* const x = a.x + task / o.d * g.in.size() * channels;
        index_t const inside = voxel > 0 ? voxel : 0;  // a window may begin in the padding before the volume
        auto const shift = std::int32_t((voxel - inside) * channels);
        ask_ahead(g, x, od, oh + 1, ow);
        simd::each_register<T>(channels, [&](index_t c, auto lanes) {
          auto const most =
              detail::pool::picked(x + inside * channels + c, shift, offset, a.pick + at + c, lanes);
          auto const d = most - simd::load(f.mean + c, lanes);
          auto const u = simd::fma(d, simd::load(f.factor + c, lanes), simd::load(f.offset + c, lanes));
          auto const gu = simd::through_activation<Act, T>(u, simd::load(a.gy + at + c, lanes));
          simd::store(one + c, simd::load(one + c, lanes) + gu, lanes);
          simd::store(one + channels + c, simd::fma(gu, d, simd::load(one + channels + c, lanes)), lanes);
        });
      }
      for (index_t i = 0; i < 2 * channels; ++i) out[i] += double(one[i]);
    }
  }
};

}  // namespace insula
