// SPDX-License-Identifier: Apache-2.0
// Convolutions that are matrix products: one tap, and patches that do not overlap.
#pragma once

#include <cstring>
#include <type_traits>

#include "insula/kernels/cpu/conv_lattice.hpp"
#include "insula/kernels/cpu/conv_weights.hpp"
#include "insula/kernels/cpu/product.hpp"
#include "insula/kernels/cpu/stream.hpp"

namespace insula::detail::conv {

/// Whether y = x w, one row per voxel.
inline bool is_product(op::conv3d_geometry const& g) {
  return g.kernel == cube(1) && g.stride == cube(1) && g.pad == extent{0, 0, 0} && g.groups == 1;
}

/// Whether every input belongs to one output at most, as in patch embeddings and in shortcuts of stride 2.
inline bool is_patches(op::conv3d_geometry const& g) {
  for (int i = 0; i < 3; ++i)
    if (g.kernel[i] > g.stride[i] || g.pad[i] != 0) return false;
  return g.groups == 1;
}

/// Whether y = x w for some of the voxels, as in shortcuts of stride 2.
inline bool is_stepping_product(op::conv3d_geometry const& g) { return is_patches(g) && g.kernel == cube(1); }

/// Whether a patch is eight inputs, as 2^3 voxels of an image are.
inline bool has_patches_of_eight(op::conv3d_geometry const& g) {
  return is_patches(g) && g.kernel.size() * g.in_channels == 8;
}

/// Where the inputs of patches of eight are.
struct eight_inputs {
  op::conv3d_geometry const& g;
  index_t at[8];  // of the inputs of a patch, from its first

  explicit eight_inputs(op::conv3d_geometry const& shape) : g(shape), at{} {
    extent const k = g.kernel;
    index_t const ci = g.in_channels;
    for (index_t i = 0; i < 8; ++i) {
      index_t const tap = i / ci;
      at[i] = ((tap / k.w / k.h * g.in.h + tap / k.w % k.h) * g.in.w + tap % k.w) * ci + i % ci;
    }
  }
  /// Of the first patch of the i-th row of outputs, all samples and planes counted.
  index_t row(index_t i) const {
    extent const out = g.out();
    index_t const oh = i % out.h, od = i / out.h % out.d, sample = i / out.h / out.d;
    return ((sample * g.in.d + od * g.stride.d) * g.in.h + oh * g.stride.h) * g.in.w * g.in_channels;
  }
};

/// y[q co + o] = b[o] + sum over i of x[at[i] + q hop] w[i co + o] for q < count, eight inputs and V registers of output
/// channels, the last of which has `last` channels (simd::whole: all; a number that the loop asked for would cost it the weights'
/// registers). All their weights stay in registers. Past: past the cache, where can_stream.
template <int V, bool Past, scalar T, class Lanes>
void convolve_eight(index_t count, T const* x, index_t const (&inputs)[8], index_t hop, T const* w,
                    T const* b, index_t co, Lanes last, T* y) {
  constexpr int width = simd::width<T>, chains = V == 1 ? 2 : 1;  // of sums that wait for one another
  auto const load = [&](T const* from, int v) {
    return v + 1 < V ? simd::load(from + v * width) : simd::load(from + v * width, last);
  };
  simd::pack<T> weight[8][V], bias[V];
  index_t at[8];  // a copy: the stores could change what is captured
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    at[i] = inputs[i];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) weight[i][v] = load(w + i * co, v);
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) bias[v] = b ? load(b, v) : simd::zero<T>();
  for (index_t q = 0; q < count; ++q, x += hop, y += co) {
    simd::pack<T> sum[chains][V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      sum[0][v] = bias[v];
      if constexpr (chains == 2) sum[1][v] = simd::zero<T>();
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      simd::pack<T> const one = simd::broadcast(x[at[i]]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[i % chains][v] = simd::fma(one, weight[i][v], sum[i % chains][v]);
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      simd::pack<T> const total = chains == 2 ? sum[0][v] + sum[chains - 1][v] : sum[0][v];
      if constexpr (Past)
        simd::stream(y + v * width, total);
      else if (v + 1 < V)
        simd::store(y + v * width, total);
      else
        simd::store(y + v * width, total, last);
    }
  }
}

/// The same for machines with 16 registers, which do not hold the weights of two registers of channels beside sums: P patches together
/// that each complete a line of the cache.
template <int P, bool Past, scalar T>
INSULA_INLINE void convolve_eight_lines(T const* x, index_t const (&inputs)[8], index_t const (&hops)[P],
                                        T const* w, T const* b, index_t co, T* y) {
  constexpr int width = simd::width<T>;
  simd::pack<T> sum[P][2];
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    simd::pack<T> const start = b ? simd::load(b + v * width) : simd::zero<T>();
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) sum[p][v] = start;
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    simd::pack<T> weight[2]{simd::load(w + i * co), simd::load(w + i * co + width)};
    simd::keep<T>(weight[0]), simd::keep<T>(weight[1]);
    T const* from = x + inputs[i];
    asm("" : "+r"(from));  // one address: compilers would compute each patch's
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      simd::pack<T> const one = simd::broadcast(from[hops[p]]);
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) sum[p][v] = simd::fma(one, weight[v], sum[p][v]);
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) simd::put<Past>(y + p * co + v * width, sum[p][v], simd::whole{});
}
/// All whole lines of the channels, for all patches.
template <bool Past, scalar T>
void convolve_eight_lines(index_t count, T const* x, index_t const (&inputs)[8], index_t hop, T const* w,
                          T const* b, index_t co, T* y) {
  constexpr int together = 6;
  constexpr index_t line = 2 * simd::width<T>;
  index_t hops[together];
  for (int p = 0; p < together; ++p) hops[p] = p * hop;
  auto const some = [&]<int P>(index_t q, index_t const(&apart)[P]) {
    for (index_t o = 0; o + line <= co; o += line)
      convolve_eight_lines<P, Past>(x + q * hop, inputs, apart, w + o, b ? b + o : nullptr, co,
                                    y + q * co + o);
  };
  index_t q = 0;
  for (; q + together <= count; q += together) some(q, hops);
  for (; q < count; ++q) some.template operator()<1>(q, {0});
}

/// y = b + the convolution of x with w over patches of eight inputs; sums this short would cost convolve more to begin and to
/// end than to compute.
template <scalar T>
void convolve_patches_of_eight(context<cpu>& cx, op::conv3d_geometry const& g, T const* x, T const* w,
                               T const* b, T* y) {
  constexpr int width = simd::width<T>;
  extent const out = g.out();
  index_t const co = g.out_channels, hop = g.stride.w * g.in_channels;
  eight_inputs const inputs(g);
  panels<T> const cut_channels(co);
  bool const past_cache = g.batch * out.size() * co * index_t(sizeof(T)) >= simd::stream_bytes;
  constexpr bool few_registers = simd::register_count == 16;
  bool const straight = past_cache && (few_registers ? co % (2 * width) == 0 && simd::can_stream_in_order(y)
                                                     : co % width == 0 && simd::can_stream(y));
  index_t const each = chunk_rows(
      ceil_divide(out.w * co, 4));  // rows of a task: its end waits for what was written past the cache
  auto const compute_row = [&](index_t task, int worker) {
    scratch memory(cx, worker);
    T* const row = y + task * out.w * co;
    T* const result = past_cache && !straight ? memory.take<T>(out.w * co) : row;
    T const* const from = x + inputs.row(task);
    auto const compute = [&](auto registers, auto past, index_t o, int last) {
      auto const run = [&](auto lanes) {
        convolve_eight<registers(), past()>(out.w, from, inputs.at, hop, w + o, b ? b + o : nullptr, co,
                                            lanes, result + o);
      };
      last == width ? run(simd::whole{}) : run(last);
    };
    auto const all = [&](auto past) {
      if constexpr (simd::register_count == 32) {
        for (index_t i = 0; i < cut_channels.count; ++i) {
          panel const p = cut_channels.at(i);
          if (p.registers == 1)
            compute(std::integral_constant<int, 1>{}, past, p.from, p.last);
          else if (p.registers == 2)
            compute(std::integral_constant<int, 2>{}, past, p.from, p.last);
          else
            compute(std::integral_constant<int, 3>{}, past, p.from, p.last);
        }
      } else {
        convolve_eight_lines<past()>(out.w, from, inputs.at, hop, w, b, co, result);
        for (index_t o = co / (2 * width) * (2 * width); o < co; o += width)
          compute(std::integral_constant<int, 1>{}, past, o, co - o < width ? int(co - o) : width);
      }
    };
    straight ? all(std::true_type{}) : all(std::false_type{});
    if (past_cache && !straight) simd::stream(out.w * co, result, row);
  };
  run_chunks(cx, g.batch * out.d * out.h, each, [&](index_t begin, index_t end, index_t, int worker) {
    for (index_t i = begin; i < end; ++i) compute_row(i, worker);
    if (straight) simd::end_stream();
  });
}

/// sum[i][o] += sum over q < count of x[at[i] + q hop] gy[q co + o] for eight inputs and V registers of output channels, the
/// last of which has `last` channels.
template <int V, scalar T>
void add_patch_products(index_t count, T const* x, index_t const (&at)[8], index_t hop, T const* gy,
                        index_t co, int last, T* sum) {
  constexpr int w = simd::width<T>;
  constexpr index_t ahead =
      32;  // rows of gy: what the machine foresees ends with a page, 21 rows of 48 channels
  bool const full = last == w;
  simd::pack<T> total[8][V];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) total[i][v] = simd::zero<T>();
  for (index_t q = 0; q < count; ++q, x += hop, gy += co) {
    simd::pack<T> g[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      g[v] = full || v + 1 < V ? simd::load(gy + v * w) : simd::load(gy + v * w, last);
      if (simd::register_count == 32) __builtin_prefetch(gy + ahead * co + v * w);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      simd::pack<T> const one = simd::broadcast(x[at[i]]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) total[i][v] = simd::fma(one, g[v], total[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)  // unrolled as well: sums that a number counts through would be kept in memory
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      T* const to = sum + i * co + v * w;
      if (full || v + 1 < V)
        simd::store(to, simd::load(to) + total[i][v]);
      else
        simd::store(to, simd::load(to, last) + total[i][v], last);
    }
}

/// gw += the weight gradient of a convolution over patches of eight inputs. All sums of some registers of output channels
/// stay in registers along a row, so that gy is read once.
template <scalar T>
void weight_gradient_of_eight(context<cpu>& cx, op::conv3d_geometry const& g, T const* x, T const* gy,
                              T* gw) {
  constexpr index_t most_parts = 32;
  extent const out = g.out();
  index_t const co = g.out_channels, rows = g.batch * out.d * out.h;
  index_t const parts = rows < most_parts ? rows : most_parts, hop = g.stride.w * g.in_channels;
  if (parts == 0) return;
  eight_inputs const from(g);
  panels<T> const cut_channels(co);
  scratch shared(cx);
  T* const part = shared.take<T>(parts * 8 * co);
  cx.pool.run(parts, [&](index_t task, int) {
    T* const sum = part + task * 8 * co;
    std::memset(sum, 0, std::size_t(8 * co) * sizeof(T));
    for (index_t row = rows * task / parts; row < rows * (task + 1) / parts; ++row) {
      T const* const in = x + from.row(row);
      for (index_t i = 0; i < cut_channels.count; ++i) {
        panel const p = cut_channels.at(i);
        T const* const gradients = gy + row * out.w * co + p.from;
        if (p.registers == 1)
          add_patch_products<1>(out.w, in, from.at, hop, gradients, co, p.last, sum + p.from);
        else if (p.registers == 2)
          add_patch_products<2>(out.w, in, from.at, hop, gradients, co, p.last, sum + p.from);
        else
          add_patch_products<3>(out.w, in, from.at, hop, gradients, co, p.last, sum + p.from);
      }
    }
  });
  add_parts(cx, parts, 8 * co, part, gw);
}

/// gw += the weight gradient of a convolution of 1^3 that steps over inputs: that of a linear layer, after the inputs it sees were put
/// behind each other, so many at a time as the caches hold.
template <scalar T>
void stepping_weight_gradient(context<cpu>& cx, op::conv3d_geometry const& g, T const* x, T const* gy,
                              T* gw) {
  constexpr index_t held = index_t{1} << 20;  // elements
  extent const out = g.out(), step = g.stride;
  index_t const ci = g.in_channels, co = g.out_channels, rows = g.batch * out.d * out.h, length = out.w * ci;
  index_t const some = length < held ? held / length : 1;  // rows of outputs
  scratch shared(cx);
  T* const seen = shared.take<T>((some < rows ? some : rows) * length);
  for (index_t from = 0; from < rows; from += some) {
    index_t const count = rows - from < some ? rows - from : some;
    cx.pool.run(count, [&](index_t i, int) {
      index_t const h = (from + i) % out.h * step.h, plane = (from + i) / out.h;
      index_t const d = plane / out.d * g.in.d + plane % out.d * step.d;
      T const* in = x + (d * g.in.h + h) * g.in.w * ci;
      T* to = seen + i * length;
      for (index_t w = 0; w < out.w; ++w, in += step.w * ci, to += ci) simd::copy(ci, in, to);
    });
    detail::add_weight_gradient<T>(cx, count * out.w, ci, co, seen, gy + from * out.w * co, gw, nullptr);
  }
}

/// gx (+)= the input gradient of a convolution over patches: per some rows of outputs a product with the transposed weights,
/// whose columns (tap, channel) are then put where they belong, or are written there at once if a row of outputs is a row of
/// inputs. Inputs between and behind the patches get nothing.
template <scalar T>
void patch_gradient(context<cpu>& cx, op::conv3d_geometry const& g, T const* gy, T const* w, bool adds,
                    T* gx) {
  constexpr index_t enough_rows = 96,
                    wide = 64;  // of a product; columns of one tap that are a product of their own
  constexpr index_t least_row =
      12;  // outputs whose inputs follow each other: a product of their own is written in place
  extent const out = g.out(), k = g.kernel, step = g.stride;
  index_t const co = g.out_channels, segment = k.w * g.in_channels, taps = k.d * k.h;
  index_t const together = segment < wide ? taps : 1, columns = together * segment;
  index_t const row = g.in.w * g.in_channels, between = (step.w - k.w) * g.in_channels;
  simd::columns<T> const c{columns, true};
  bool const direct = segment >= wide && between == 0 && out.w * segment == row && out.w >= least_row;
  scratch shared(cx);
  T* const packed = shared.take<T>(taps / together * co * c.padded());
  for (index_t t = 0; t < taps; t += together)
    detail::pack_weights<true>(cx, co, c, w + t * segment * co, packed + t / together * co * c.padded());
  auto const put = [&](T const* from, T* y) {  // one row of inputs, from every output's columns
    index_t at = 0;
    for (index_t i = 0; i < out.w; ++i, from += columns) {
      for (index_t j = 0; j < segment; ++j) y[at + j] = adds ? y[at + j] + from[j] : from[j];
      at += segment;
      index_t const none = at + between < row ? between : row - at;
      if (!adds) std::memset(y + at, 0, std::size_t(none) * sizeof(T));
      at += none;
    }
    if (!adds) std::memset(y + at, 0, std::size_t(row - at) * sizeof(T));
  };
  // a task: the input rows from some rows of outputs to the next
  index_t const rows_h = ceil_divide(g.in.h, step.h), planes = ceil_divide(g.in.d, step.d);
  index_t const some = ceil_divide(enough_rows, out.w), blocks = ceil_divide(rows_h, some);
  cx.pool.run(g.batch * planes * blocks, [&](index_t task, int worker) {
    index_t const od = task / blocks % planes, sample = task / blocks / planes;
    index_t const from = task % blocks * some, to = from + some < rows_h ? from + some : rows_h;
    index_t const end = od == out.d ? from : to < out.h ? to : out.h;  // of the rows that are there
    scratch memory(cx, worker);
    T* const part = direct ? nullptr : memory.take<T>(some * out.w * columns);
    auto const input = [&](index_t oh, index_t d, index_t h) {
      return gx + ((sample * g.in.d + od * step.d + d) * g.in.h + oh * step.h + h) * row;
    };
    for (index_t t = 0; direct && t < taps; ++t)
      for (index_t p = 0; p < c.panels(); ++p)  // each meets all rows, while a cache holds it
        for (index_t oh = from; oh < end; ++oh)
          simd::panel_product(out.w, c, p, p + 1, co, gy + ((sample * out.d + od) * out.h + oh) * out.w * co,
                              co, simd::right_operand<T>{packed + t * co * c.padded(), co}, 0,
                              {nullptr, adds}, input(oh, t / k.h, t % k.h), columns);
    for (index_t t = 0; !direct && t < taps && end > from; t += together) {
      simd::panel_product((end - from) * out.w, c, 0, c.panels(), co,
                          gy + ((sample * out.d + od) * out.h + from) * out.w * co, co,
                          simd::right_operand<T>{packed + t / together * co * c.padded(), co}, 0, {}, part,
                          columns);
      for (index_t s = 0; s < together; ++s)
        for (index_t oh = from; oh < end; ++oh)
          put(part + (oh - from) * out.w * columns + s * segment, input(oh, (t + s) / k.h, (t + s) % k.h));
    }
    if (adds) return;
    for (index_t oh = from; oh < to; ++oh)
      for (index_t d = 0; d < step.d && od * step.d + d < g.in.d; ++d)
        for (index_t h = 0; h < step.h && oh * step.h + h < g.in.h; ++h)
          if (oh >= end || d >= k.d || h >= k.h)
            std::memset(input(oh, d, h), 0, std::size_t(row) * sizeof(T));
  });
}

}  // namespace insula::detail::conv
