// SPDX-License-Identifier: Apache-2.0
// CPU kernels of layer_norm, group_norm and their gradients.
#pragma once

#include <cmath>
#include <type_traits>

#include "insula/kernels/cpu/activation.hpp"
#include "insula/kernels/cpu/norm_row.hpp"
#include "insula/kernels/cpu/product.hpp"
#include "insula/kernels/cpu/stream.hpp"
#include "insula/op/norm.hpp"

namespace insula {

template <scalar T>
struct kernel<op::layer_norm, cpu, T> {
  static void run(context<cpu>& cx, typename op::layer_norm::args<T> const& a) {
    run_chunks(cx, a.rows, chunk_rows(a.width), [&](index_t begin, index_t end, index_t, int) {
      simd::each_statistics(begin, end, a.width, a.x, a.eps, [&](index_t r, simd::row_statistics<T> stats) {
        simd::normalise_row(a.width, a.x + r * a.width, stats, a.w, a.b, a.y + r * a.width);
        if (!a.stats) return;
        T* const kept = a.stats + 3 * r;
        kept[0] = stats.mean, kept[1] = stats.rstd, kept[2] = stats.shift;
      });
    });
  }
};

/// Sums of gw and gb are kept per chunk of rows and added in order.
template <scalar T>
struct kernel<op::layer_norm_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::layer_norm_grad::args<T> const& a) {
    index_t const share = chunk_count(a.rows, 64), fit = chunk_rows(a.width);
    index_t const each = share > fit ? share : fit, chunks = chunk_count(a.rows, each);
    scratch s(cx);
    T* const partial = a.gw || a.gb ? s.take<T>(chunks * 2 * a.width) : nullptr;
    run_chunks(cx, a.rows, each, [&](index_t begin, index_t end, index_t chunk, int) {
      T* const gw = partial ? partial + chunk * 2 * a.width : nullptr;
      T* const gb = gw ? gw + a.width : nullptr;
      if (gw) simd::clear(2 * a.width, gw);
      for (index_t r = begin; r < end; ++r) {
        simd::row_statistics<T> const stats{a.stats[3 * r], a.stats[3 * r + 2], a.stats[3 * r + 1]};
        index_t const at = r * a.width;
        simd::normalise_row_grad<T>(a.width, a.x + at, stats, a.w, a.gy + at, nullptr, a.adds,
                                    a.gx ? a.gx + at : nullptr, gw, gb);
      }
    });
    if (a.gw) detail::add_partials(cx, a.width, chunks, 2 * a.width, partial, a.gw);
    if (a.gb) detail::add_partials(cx, a.width, chunks, 2 * a.width, partial + a.width, a.gb);
  }
};

namespace detail {

/// How group_norm cuts its work: chunks of positions of one sample.
struct group_chunks {
  index_t positions, each, per_sample;
  group_chunks(index_t p, index_t channels)
      : positions(p), each(chunk_rows(channels)), per_sample(chunk_count(p, each)) {}

  /// Calls f(sample, first position, end position, chunk) in parallel.
  template <class F>
  void run(context<cpu>& cx, index_t batch, F const& f) const {
    cx.pool.run(batch * per_sample, [&](index_t task, int) {
      index_t const begin = task % per_sample * each;
      f(task / per_sample, begin, begin + each < positions ? begin + each : positions, task);
    });
  }
};

/// For which what belongs to a channel is loaded once. Of more, the machine no longer sees that they follow each other.
inline constexpr index_t rows_at_once = 2;

/// Calls f(at, rows, c, registers, lanes) for all channels of the rows [begin, end), rows_at_once of them at a time and line by
/// line: at is where channel c of the first one is. rows and registers are known to the compiler.
template <scalar T, class F>
INSULA_INLINE void each_rows(index_t begin, index_t end, index_t channels, F f) {
  auto const some = [&]<index_t Rows>(index_t r, std::integral_constant<index_t, Rows> rows) {
    simd::each_columns<T, simd::line_registers<T>>(channels, [&](index_t c, auto registers, auto lanes) {
      f(r * channels + c, rows, c, registers, lanes);
    });
  };
  index_t r = begin;
  for (; r + rows_at_once <= end; r += rows_at_once) some(r, std::integral_constant<index_t, rows_at_once>{});
  for (; r < end; ++r) some(r, std::integral_constant<index_t, 1>{});
}

/// V registers, one behind the other.
template <int V, scalar T>
struct line {
  simd::pack<T> part[V];
  template <class Lanes>
  INSULA_INLINE line(T const* x, Lanes lanes) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) part[v] = simd::load(x + v * simd::width<T>, lanes);
  }
  INSULA_INLINE simd::pack<T> operator[](int v) const { return part[v]; }
};

/// Mean and sum of squared deviations of `count` numbers.
struct moments {
  double count = 0, mean = 0, squares = 0;
  /// Chan, Golub and LeVeque 1983: moments of two sets together.
  void merge(moments o) {
    if (o.count == 0) return;
    double const total = count + o.count, difference = o.mean - mean;
    mean += difference * o.count / total;
    squares += o.squares + difference * difference * count * o.count / total;
    count = total;
  }
};

inline constexpr index_t moments_ahead = 8192;  // bytes: a block is half read when the next one is asked for

/// Takes the moments of V registers of channels over `rows` more positions into mean and squares, which cover `before`: sums of
/// differences from the mean so far, or from that of the first `rows`, which are read twice. If that mean is off by d, the sums
/// lose digits of rows d^2; but the squares then grow by rows d^2 / 2 or more (before >= rows), so relative to the result no more
/// is lost than in any sum. rows d^2 must not overflow.
template <int V, scalar T, class Lanes>
INSULA_INLINE void take_moments(index_t before, index_t rows, index_t stride, T const* x, Lanes lanes,
                                index_t valid, double* __restrict mean, double* __restrict squares) {
  constexpr int w = simd::width<T>;
  constexpr int chains = V > 2 ? 1 : 4 / V;  // rows at a time, for an addition takes some cycles
  T c[V * w], one[V * w], two[V * w];
  simd::pack<T> centre[V]{}, first[chains][V]{}, second[chains][V]{};
  if (before == 0) {
    for (index_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) centre[v] += simd::load(x + r * stride + v * w, lanes);
    for (int v = 0; v < V; ++v) simd::store(c + v * w, centre[v] / simd::broadcast(T(rows)));
  } else {
    for (index_t i = 0; i < V * w; ++i) c[i] = i < valid ? T(mean[i]) : T(0);
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) centre[v] = simd::load(c + v * w);
  auto const take = [&](T const* from, int chain) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      T const* const at = from + v * w;
      if (v % simd::line_registers<T> == 0) __builtin_prefetch(at + moments_ahead / sizeof(T));
      auto const d = simd::load(at, lanes) - centre[v];
      first[chain][v] += d;
      second[chain][v] = simd::fma(d, d, second[chain][v]);
    }
  };
  index_t r = 0;
  for (; r + chains <= rows; r += chains)
#pragma GCC unroll 4
    for (int k = 0; k < chains; ++k) take(x + (r + k) * stride, k);
  for (; r < rows; ++r) take(x + r * stride, 0);
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
#pragma GCC unroll 4
    for (int k = 1; k < chains; ++k) first[0][v] += first[k][v], second[0][v] += second[k][v];
    simd::store(one + v * w, first[0][v]), simd::store(two + v * w, second[0][v]);
  }
  double const n = double(rows), part = n / (double(before) + n), weight = double(before) * part,
               each = 1 / n;
  auto const merge = [&](index_t count) __attribute__((always_inline)) {
    for (index_t i = 0; i < count; ++i) {
      double const shift = double(one[i]) * each, squared = double(two[i]) - shift * double(one[i]);
      double const difference = double(c[i]) + shift - mean[i];  // Chan, Golub and LeVeque 1983
      mean[i] += difference * part;
      squares[i] += squared + difference * difference * weight;
    }
  };
  if constexpr (std::is_same_v<Lanes, simd::whole>)
    merge(V * w);
  else
    merge(valid);
}

/// Moments of each channel over more positions, `from`, into those over as many as `before`; both as channel_moments leaves them.
inline void merge_moments(double before, double more, index_t channels, double const* __restrict from,
                          double* __restrict to) {
  double const part = more / (before + more), weight = before * part;
  for (index_t c = 0; c < channels; ++c) {
    double const difference = from[c] - to[c];  // Chan, Golub and LeVeque 1983
    to[c] += difference * part;
    to[channels + c] += from[channels + c] + difference * difference * weight;
  }
}

inline constexpr index_t moment_elements = 4096;  // that the L1 cache holds from some channels to the next

/// Moments of each channel over `rows` positions: out[c] mean, out[channels + c] squares.
template <scalar T>
void channel_moments(index_t rows, index_t channels, T const* x, double* out) {
  index_t const block = channels < moment_elements ? moment_elements / channels : 1;
  for (index_t i = 0; i < 2 * channels; ++i) out[i] = 0;
  for (index_t r = 0; r < rows; r += block) {
    index_t const n = rows - r < block ? rows - r : block;
    simd::each_columns<T>(channels, [&](index_t c, auto registers, auto lanes) {
      constexpr int v = decltype(registers)::value;
      index_t const valid = channels - c < v * simd::width<T> ? channels - c : v * simd::width<T>;
      take_moments<v, T>(r, n, channels, x + r * channels + c, lanes, valid, out + c, out + channels + c);
    });
  }
}

}  // namespace detail

/// Moments per chunk and channel, merged in order; then one pass that normalises, adds and activates.
template <scalar T>
struct kernel<op::group_norm, cpu, T> {
  static void run(context<cpu>& cx, typename op::group_norm::args<T> const& a) {
    detail::group_chunks const chunks(a.positions, a.channels);
    index_t const channels = a.channels, per_group = a.channels / a.groups;
    scratch s(cx);
    double* const partial = s.take<double>(a.batch * chunks.per_sample * 2 * channels);
    T* const affine = s.take<T>(a.batch * 3 * channels);  // mean, factor, offset of each channel
    chunks.run(cx, a.batch, [&](index_t n, index_t begin, index_t end, index_t chunk) {
      detail::channel_moments(end - begin, channels, a.x + (n * a.positions + begin) * channels,
                              partial + chunk * 2 * channels);
    });

    for (index_t n = 0; n < a.batch; ++n)
      for (index_t k = 1; k < chunks.per_sample; ++k) {
        double* const to = partial + n * chunks.per_sample * 2 * channels;
        index_t const before = k * chunks.each, left = a.positions - before;
        detail::merge_moments(double(before), double(left < chunks.each ? left : chunks.each), channels,
                              to + k * 2 * channels, to);
      }
    cx.pool.run(a.batch * a.groups, [&](index_t task, int) {
      index_t const n = task / a.groups, first = task % a.groups * per_group;
      double const* const from = partial + n * chunks.per_sample * 2 * channels;
      detail::moments all;
      for (index_t c = first; c < first + per_group; ++c)
        all.merge({double(a.positions), from[c], from[channels + c]});
      double const rstd = 1 / std::sqrt(all.squares / all.count + a.eps);
      T const mean = T(all.mean), rest = T(all.mean - double(mean));
      a.stats[3 * task] = mean, a.stats[3 * task + 1] = T(rstd), a.stats[3 * task + 2] = rest;
      for (index_t c = first; c < first + per_group; ++c) {
        double const factor = rstd * (a.w ? double(a.w[c]) : 1.0);
        T* const to = affine + n * 3 * channels + c;
        to[0] = mean, to[channels] = T(factor);  // the offset makes up for the rounding of the mean
        to[2 * channels] = T((a.b ? double(a.b[c]) : 0.0) - double(rest) * factor);
      }
    });

    // With registers of half a line, a GELU keeps the halves from meeting on their way past the cache.
    bool const apart = a.act == activation::gelu && simd::register_bytes < cache_line;
    bool const reads = a.y == a.x || a.y == a.skip || apart;
    simd::with_far(a.y, a.batch * a.positions * channels, channels, reads, [&](auto past) {
      simd::with_activation(a.act, [&](auto act) {
        write<decltype(past)::value, decltype(act)::value>(cx, a, chunks, affine);
      });
    });
  }

 private:
  /// y = act(normalised x + skip)
  template <bool Past, activation Act>
  static void write(context<cpu>& cx, op::group_norm::args<T> const& a, detail::group_chunks const& chunks,
                    T const* affine) {
    index_t const channels = a.channels;
    chunks.run(cx, a.batch, [&](index_t n, index_t begin, index_t end, index_t) {
      T const* const mean = affine + n * 3 * channels;
      T const *const factor = mean + channels, *const offset = factor + channels;
      index_t const sample = n * a.positions;
      auto const take = [&](index_t from, auto rows, index_t c, auto registers, auto lanes) {
        constexpr int V = decltype(registers)::value, N = V * int(rows());
        detail::line<V, T> const m(mean + c, lanes), f(factor + c, lanes), o(offset + c, lanes);
        auto const at = [&](int i) { return from + i / V * channels + i % V * simd::width<T>; };
        simd::pack<T> u[N];
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) {
          if constexpr (Act == activation::gelu && simd::register_count < 32) {
            // A GELU is so long that the machine, which looks some hundred instructions ahead, would not see what comes.
            if constexpr (!Past) __builtin_prefetch(a.y + at(i) + 2048 / sizeof(T), 1);
            __builtin_prefetch(a.x + at(i) + 2048 / sizeof(T));
          }
          simd::ask_ahead(a.x + at(i));
          if constexpr (!Past) simd::ask_ahead(a.y + at(i));
          if (a.skip) simd::ask_ahead(a.skip + at(i));
          u[i] = simd::fma(simd::load(a.x + at(i), lanes) - m[i % V], f[i % V], o[i % V]);
          if (a.skip) u[i] += simd::load(a.skip + at(i), lanes);
        }
        simd::activate_all<Act, T>(u);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) simd::put<Past>(a.y + at(i), u[i], lanes);
      };
      detail::each_rows<T>(sample + begin, sample + end, channels, take);
      if constexpr (Past) simd::end_stream();
    });
  }
};

/// Two passes: sums per chunk and channel, added in order; then gx and gskip. Where the gradient at the activation's input is
/// to be written anyway (gskip), or is costly (GELU), the first pass leaves it where the second one writes; else both compute it.
template <scalar T>
struct kernel<op::group_norm_grad, cpu, T> {
  using args = typename op::group_norm_grad::args<T>;

  static void run(context<cpu>& cx, args const& a) {
    simd::with_activation(a.act, [&](auto act) { run_with<decltype(act)::value>(cx, a); });
  }

 private:
  template <activation Act>
  static void run_with(context<cpu>& cx, args const& a) {
    detail::group_chunks const chunks(a.positions, a.channels);
    index_t const channels = a.channels;
    scratch s(cx);
    T* const affine = s.take<T>(a.batch * constants * channels);
    set_affine(a, affine);
    T* const kept = kept_gradient<Act>(a);
    if (a.gx || a.gw || a.gb) {
      T* const partial = s.take<T>(a.batch * chunks.per_sample * 2 * channels);
      double* const sums = s.take<double>(a.batch * 2 * channels);
      chunks.run(cx, a.batch, [&](index_t n, index_t begin, index_t end, index_t chunk) {
        add_sums<Act>(a, affine + n * constants * channels, n, begin, end, kept,
                      partial + chunk * 2 * channels);
      });
      run_chunks(cx, a.batch * 2 * channels, 256, [&](index_t begin, index_t end, index_t, int) {
        for (index_t i = begin; i < end; ++i) {
          T const* const from = partial + i / (2 * channels) * chunks.per_sample * 2 * channels;
          double total = 0;
          for (index_t k = 0; k < chunks.per_sample; ++k)
            total += double(from[k * 2 * channels + i % (2 * channels)]);
          sums[i] = total;
        }
      });
      for (index_t i = 0; i < a.batch * channels; ++i) {  // sums over x minus the unrounded mean
        index_t const n = i / channels, c = i % channels;
        double* const of = sums + n * 2 * channels;
        of[channels + c] -= double(a.stats[3 * (n * a.groups + c / (channels / a.groups)) + 2]) * of[c];
      }
      add_weights(a, sums);
      if (a.gx) set_projection(a, sums, affine);
    }
    bool const reads = a.adds || a.gx == a.gy || kept == a.gx;
    simd::with_far(a.gx, a.batch * a.positions * channels, channels, reads, [&](auto past) {
      constexpr bool far = decltype(past)::value;
      if (kept) return write_kept<far>(cx, a, chunks, affine, kept);
      if (a.gx || a.gskip)
        chunks.run(cx, a.batch, [&](index_t n, index_t begin, index_t end, index_t) {
          write_gradients<Act, far>(a, affine + n * constants * channels, n, begin, end);
        });
    });
  }

  /// Where the first pass leaves the gradient at the activation's input, or null.
  template <activation Act>
  static T* kept_gradient(args const& a) {
    if (Act == activation::none || !a.gx) return nullptr;
    if (a.gskip && !a.skip_adds) return a.gskip;
    return Act == activation::gelu && !a.adds ? a.gx : nullptr;
  }

  static constexpr index_t constants =
      5;  // per channel: mean, factor, offset; constant and slope of the projection

  static void set_affine(args const& a, T* affine) {
    index_t const per_group = a.channels / a.groups;
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t c = 0; c < a.channels; ++c) {
        T const* const stats = a.stats + 3 * (n * a.groups + c / per_group);
        T* const to = affine + n * constants * a.channels + c;
        double const factor = double(stats[1]) * (a.w ? double(a.w[c]) : 1.0);
        to[0] = stats[0];
        to[a.channels] = T(factor);
        to[2 * a.channels] = T((a.b ? double(a.b[c]) : 0.0) - double(stats[2]) * factor);
      }
  }

  /// Sum of gu, and of gu (x - mean), of each channel over positions [begin, end): gu is the gradient at the
  /// activation's input, which is also written to `kept` unless that is null.
  template <activation Act>
  static void add_sums(args const& a, T const* mean, index_t n, index_t begin, index_t end, T* kept,
                       T* sums) {
    index_t const channels = a.channels;
    T const *const factor = mean + channels, *const offset = factor + channels;
    simd::clear(2 * channels, sums);
    index_t const sample = n * a.positions;
    auto const take = [&](index_t from, auto rows, index_t c, auto registers, auto lanes) {
      constexpr int V = decltype(registers)::value, N = V * int(rows()), w = simd::width<T>;
      detail::line<V, T> const m(mean + c, lanes), f(factor + c, lanes), o(offset + c, lanes);
      detail::line<V, T> total(sums + c, lanes), slope(sums + channels + c, lanes);
      auto const at = [&](int i) { return from + i / V * channels + i % V * w; };
      simd::pack<T> gu[N], u[N], d[N];
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) {
        simd::ask_ahead(a.gy + at(i), a.x + at(i));
        if (Act != activation::none && a.skip) simd::ask_ahead(a.skip + at(i));
        if (kept) simd::ask_ahead(kept + at(i));
        gu[i] = simd::load(a.gy + at(i), lanes);
        d[i] = simd::load(a.x + at(i), lanes) - m[i % V];
        if constexpr (Act != activation::none) {
          u[i] = simd::fma(d[i], f[i % V], o[i % V]);
          if (a.skip) u[i] += simd::load(a.skip + at(i), lanes);
        }
      }
      if constexpr (Act != activation::none) {
        simd::through_activation_all<Act, T>(u, gu);
        if (kept)
#pragma GCC unroll 8
          for (int i = 0; i < N; ++i) simd::store(kept + at(i), gu[i], lanes);
      }
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) {
        total.part[i % V] += gu[i];
        slope.part[i % V] = simd::fma(gu[i], d[i], slope[i % V]);
      }
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        simd::store(sums + c + v * w, total[v], lanes);
        simd::store(sums + channels + c + v * w, slope[v], lanes);
      }
    };
    detail::each_rows<T>(sample + begin, sample + end, channels, take);
  }

  /// gx, and gskip if it does not hold its result yet, from what the first pass left.
  template <bool Past>
  static void write_kept(context<cpu>& cx, args const& a, detail::group_chunks const& chunks, T const* affine,
                         T const* kept) {
    index_t const channels = a.channels;
    T* const gskip = kept == a.gskip ? nullptr : a.gskip;
    chunks.run(cx, a.batch, [&](index_t n, index_t begin, index_t end, index_t) {
      T const* const mean = affine + n * constants * channels;
      T const *const factor = mean + channels, *const constant = mean + 3 * channels,
                     *const slope = constant + channels;
      index_t const sample = n * a.positions;
      auto const take = [&](index_t from, index_t rows, index_t c, auto registers, auto lanes) {
        constexpr int V = decltype(registers)::value;
        detail::line<V, T> const m(mean + c, lanes), f(factor + c, lanes), k(constant + c, lanes),
            l(slope + c, lanes);
        for (index_t row = 0; row < rows; ++row)
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) {
            index_t const at = from + row * channels + v * simd::width<T>;
            simd::ask_ahead(a.x + at, kept + at);
            if constexpr (!Past) simd::ask_ahead(a.gx + at);
            auto const d = simd::load(a.x + at, lanes) - m[v], gu = simd::load(kept + at, lanes);
            if (gskip)  // which adds: else the first pass would have left gu there
              simd::store(gskip + at, simd::load(gskip + at, lanes) + gu, lanes);
            auto g = simd::fnma(d, l[v], simd::fma(gu, f[v], -k[v]));
            if (a.adds) g += simd::load(a.gx + at, lanes);
            simd::put<Past>(a.gx + at, g, lanes);
          }
      };
      detail::each_rows<T>(sample + begin, sample + end, channels, take);
      if constexpr (Past) simd::end_stream();
    });
  }

  static void add_weights(args const& a, double const* sums) {
    index_t const per_group = a.channels / a.groups;
    for (index_t c = 0; c < a.channels; ++c) {
      double gw = 0, gb = 0;
      for (index_t n = 0; n < a.batch; ++n) {
        double const* const from = sums + n * 2 * a.channels + c;
        gb += from[0];
        gw += from[a.channels] * double(a.stats[3 * (n * a.groups + c / per_group) + 1]);
      }
      if (a.gw) a.gw[c] += T(gw);
      if (a.gb) a.gb[c] += T(gb);
    }
  }

  /// gx = gu factor - constant - (x - mean) slope
  static void set_projection(args const& a, double const* sums, T* affine) {
    index_t const per_group = a.channels / a.groups;
    double const count = double(a.positions * per_group);
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t g = 0; g < a.groups; ++g) {
        T const* const stats = a.stats + 3 * (n * a.groups + g);
        double const rstd = double(stats[1]);
        double const* const from = sums + n * 2 * a.channels;
        double sum = 0, slope = 0;
        for (index_t c = g * per_group; c < (g + 1) * per_group; ++c) {
          double const w = a.w ? double(a.w[c]) : 1.0;
          sum += w * from[c], slope += w * from[a.channels + c];
        }
        for (index_t c = g * per_group; c < (g + 1) * per_group; ++c) {
          T* const to = affine + n * constants * a.channels + c;
          double const lean = rstd * rstd * rstd * slope / count;
          to[3 * a.channels] = T(rstd * sum / count - double(stats[2]) * lean);
          to[4 * a.channels] = T(lean);
        }
      }
  }

  template <activation Act, bool Past>
  static void write_gradients(args const& a, T const* mean, index_t n, index_t begin, index_t end) {
    index_t const channels = a.channels;
    T const *const factor = mean + channels, *const offset = factor + channels;
    T const *const constant = offset + channels, *const slope = constant + channels;
    index_t const sample = n * a.positions;
    auto const take = [&](index_t from, index_t rows, index_t c, auto registers, auto lanes) {
      constexpr int V = decltype(registers)::value;
      detail::line<V, T> const m(mean + c, lanes), f(factor + c, lanes), o(offset + c, lanes),
          k(constant + c, lanes), l(slope + c, lanes);
      for (index_t row = 0; row < rows; ++row)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          index_t const at = from + row * channels + v * simd::width<T>;
          simd::ask_ahead(a.x + at, a.gy + at);
          if (!Past && a.gx) simd::ask_ahead(a.gx + at);
          auto const d = simd::load(a.x + at, lanes) - m[v];
          auto gu = simd::load(a.gy + at, lanes);
          if constexpr (Act != activation::none) {
            auto u = simd::fma(d, f[v], o[v]);
            if (a.skip) u += simd::load(a.skip + at, lanes);
            gu = simd::through_activation<Act, T>(u, gu);
          }
          if (Act != activation::none && a.skip) simd::ask_ahead(a.skip + at);
          if (a.gskip) simd::ask_ahead(a.gskip + at);
          if (a.gskip)
            simd::store(a.gskip + at, a.skip_adds ? simd::load(a.gskip + at, lanes) + gu : gu, lanes);
          if (!a.gx) continue;
          auto g = simd::fnma(d, l[v], simd::fma(gu, f[v], -k[v]));
          if (a.adds) g += simd::load(a.gx + at, lanes);
          simd::put<Past>(a.gx + at, g, lanes);
        }
    };
    detail::each_rows<T>(sample + begin, sample + end, channels, take);
    if constexpr (Past) simd::end_stream();
  }
};

}  // namespace insula
