// SPDX-License-Identifier: Apache-2.0
// Resizing on the CPU: one plane per task, blended axis by axis through rows that stay in the cache.
#pragma once

#include <cmath>

#include "insula/kernels/cpu/row.hpp"
#include "insula/op/resample.hpp"

namespace insula {

namespace detail::resize_rows {

/// One axis: output o reads (1 - t[o]) x[low[o]] + t[o] x[high[o]]. low and high never decrease.
template <scalar T>
struct axis {
  index_t in, out;
  index_t *low, *high;
  T* t;
};

template <scalar T>
axis<T> make_axis(scratch& s, index_t in, index_t out, resizing how) {
  axis<T> const a{in, out, s.take<index_t>(out), s.take<index_t>(out), s.take<T>(out)};
  float const scale = float(in) / float(out);  // in float32, as is its product with o: the published rule
  for (index_t o = 0; o < out; ++o) {
    if (how == resizing::nearest) {
      index_t const i = out == in ? o : out == 2 * in ? o / 2 : index_t(std::floor(float(o) * scale));
      a.low[o] = a.high[o] = i < in - 1 ? i : in - 1;
      a.t[o] = T(0);
      continue;
    }
    double const at = (double(o) + 0.5) * double(in) / double(out) - 0.5, x = at > 0 ? at : 0;
    a.low[o] = index_t(x);
    a.t[o] = T(x - double(a.low[o]));
    a.high[o] = a.t[o] > T(0) && a.low[o] + 1 < in ? a.low[o] + 1 : a.low[o];
  }
  return a;
}

/// The transposed axis: input i collects the outputs first[i] .. end[i] - 1.
template <scalar T>
struct readers {
  axis<T> map;
  index_t *first, *end;
  index_t most;  // readers of one input

  T weight(index_t i, index_t o) const {
    return (map.low[o] == i ? 1 - map.t[o] : T(0)) + (map.high[o] == i ? map.t[o] : T(0));
  }
};

template <scalar T>
readers<T> make_readers(scratch& s, index_t in, index_t out, resizing how) {
  readers<T> r{make_axis<T>(s, in, out, how), s.take<index_t>(in), s.take<index_t>(in), 1};
  index_t first = 0, end = 0;
  for (index_t i = 0; i < in; ++i) {
    while (first < out && r.map.high[first] < i) ++first;
    while (end < out && r.map.low[end] <= i) ++end;
    r.first[i] = first, r.end[i] = end > first ? end : first;
    if (r.end[i] - first > r.most) r.most = r.end[i] - first;
  }
  return r;
}

/// y = (1 - t) a + t b over n elements
template <scalar T>
void blend(index_t n, T t, T const* a, T const* b, T* y) {
  auto const u = simd::broadcast(T(1) - t), v = simd::broadcast(t);
  simd::each_register<T>(n, [=](index_t i, auto lanes) {
    simd::store(y + i, simd::fma(v, simd::load(b + i, lanes), u * simd::load(a + i, lanes)), lanes);
  });
}

/// y (+)= w a over n elements
template <scalar T>
void weigh(bool adds, index_t n, T w, T const* a, T* y) {
  auto const v = simd::broadcast(w);
  if (adds)
    simd::each_register<T>(n, [=](index_t i, auto lanes) {
      simd::store(y + i, simd::fma(v, simd::load(a + i, lanes), simd::load(y + i, lanes)), lanes);
    });
  else
    simd::each_register<T>(
        n, [=](index_t i, auto lanes) { simd::store(y + i, v * simd::load(a + i, lanes), lanes); });
}

/// One row along w with exactly twice as many voxels: weights 1/4 and 3/4, neighbours kept in registers.
template <scalar T>
void double_row(index_t in, index_t channels, T const* x, T* y) {
  auto const near = simd::broadcast(T(0.75)), far = simd::broadcast(T(0.25));
  simd::each_register<T>(channels, [=](index_t c, auto lanes) {
    auto before = simd::load(x + c, lanes), here = before;
    for (index_t i = 0; i < in; ++i) {
      auto const after = i + 1 < in ? simd::load(x + (i + 1) * channels + c, lanes) : here;
      simd::store(y + 2 * i * channels + c, simd::fma(near, here, far * before), lanes);
      simd::store(y + (2 * i + 1) * channels + c, simd::fma(near, here, far * after), lanes);
      before = here, here = after;
    }
  });
}

/// The transposed map of double_row: gx (+)= from gy with 2 in voxels.
template <scalar T>
void halve_row(bool adds, index_t in, index_t channels, T const* gy, T* gx) {
  auto const near = simd::broadcast(T(0.75)), far = simd::broadcast(T(0.25));
  simd::each_register<T>(channels, [=](index_t c, auto lanes) {
    auto const at = [=](index_t o) { return simd::load(gy + o * channels + c, lanes); };
    auto before = at(0);  // beyond the border the outermost output counts once more
    for (index_t i = 0; i < in; ++i) {
      auto const even = at(2 * i), odd = at(2 * i + 1), after = i + 1 < in ? at(2 * i + 2) : odd;
      auto sum = simd::fma(near, even + odd, far * (before + after));
      T* g = gx + i * channels + c;
      if (adds) sum += simd::load(g, lanes);
      simd::store(g, sum, lanes);
      before = odd;
    }
  });
}

}  // namespace detail::resize_rows

template <scalar T>
struct kernel<op::resize, cpu, T> {
  static void run(context<cpu>& cx, typename op::resize::args<T> const& a) {
    using namespace detail::resize_rows;
    scratch s(cx);
    axis<T> const depth = make_axis<T>(s, a.in.d, a.out.d, a.how),
                  height = make_axis<T>(s, a.in.h, a.out.h, a.how),
                  width = make_axis<T>(s, a.in.w, a.out.w, a.how);
    bool const doubles = a.how == resizing::trilinear && a.out.w == 2 * a.in.w;
    index_t const channels = a.channels, in_row = a.in.w * channels, out_row = a.out.w * channels;
    cx.pool.run(a.batch * a.out.d, [&](index_t task, int worker) {
      index_t const n = task / a.out.d, od = task % a.out.d;
      T const* x = a.x + n * a.in.size() * channels;
      T const *front = x + depth.low[od] * a.in.h * in_row, *back = x + depth.high[od] * a.in.h * in_row;
      T const t = depth.t[od];
      scratch mine(cx, worker);
      T *const ring = mine.take<T>(2 * in_row), *const mixed = mine.take<T>(in_row);
      index_t held[2] = {-1, -1};
      auto const plane_row = [&](index_t h) -> T const* {  // row h of the input, blended along d
        if (t == T(0)) return front + h * in_row;
        T* const row = ring + h % 2 * in_row;
        if (held[h % 2] != h) blend(in_row, t, front + h * in_row, back + h * in_row, row), held[h % 2] = h;
        return row;
      };
      for (index_t oh = 0; oh < a.out.h; ++oh) {
        T const* row = plane_row(height.low[oh]);
        if (height.t[oh] != T(0)) {
          blend(in_row, height.t[oh], row, plane_row(height.high[oh]), mixed);
          row = mixed;
        }
        T* y = a.y + (task * a.out.h + oh) * out_row;
        if (doubles && channels > 1) {
          double_row(a.in.w, channels, row, y);
          continue;
        }
        if (channels == 1) {
          for (index_t ow = 0; ow < a.out.w;
               ++ow) {  // t == 0 apart, as everywhere: 0 times infinity is no number
            T const t = width.t[ow], left = row[width.low[ow]];
            y[ow] = t == T(0) ? left : (1 - t) * left + t * row[width.high[ow]];
          }
          continue;
        }
        for (index_t ow = 0; ow < a.out.w; ++ow, y += channels) {
          T const *left = row + width.low[ow] * channels, *right = row + width.high[ow] * channels;
          if (width.t[ow] == T(0))
            simd::copy(channels, left, y);
          else
            blend(channels, width.t[ow], left, right, y);
        }
      }
    });
  }
};

template <scalar T>
struct kernel<op::resize_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::resize_grad::args<T> const& a) {
    using namespace detail::resize_rows;
    if (!a.gx) return;
    scratch s(cx);
    readers<T> const depth = make_readers<T>(s, a.in.d, a.out.d, a.how),
                     height = make_readers<T>(s, a.in.h, a.out.h, a.how),
                     width = make_readers<T>(s, a.in.w, a.out.w, a.how);
    bool const doubles = a.how == resizing::trilinear && a.out.w == 2 * a.in.w;
    index_t const channels = a.channels, in_row = a.in.w * channels, out_row = a.out.w * channels;
    cx.pool.run(a.batch * a.in.d, [&](index_t task, int worker) {
      index_t const n = task / a.in.d, id = task % a.in.d;
      T const* gy = a.gy + n * a.out.size() * channels;
      scratch mine(cx, worker);
      T *const ring = mine.take<T>(height.most * out_row), *const mixed = mine.take<T>(out_row);
      index_t done = 0;  // rows of the output plane already collected along d
      auto const collect = [&](index_t oh) {
        T* const row = ring + oh % height.most * out_row;
        for (index_t od = depth.first[id]; od < depth.end[id]; ++od)
          weigh(od > depth.first[id], out_row, depth.weight(id, od), gy + (od * a.out.h + oh) * out_row, row);
      };
      for (index_t ih = 0; ih < a.in.h; ++ih) {
        T* gx = a.gx + (task * a.in.h + ih) * in_row;
        index_t const first = height.first[ih], end = height.end[ih];
        if (first == end || depth.first[id] == depth.end[id]) {  // no output reads this row
          if (!a.adds) simd::clear(in_row, gx);
          continue;
        }
        if (done < first) done = first;
        for (; done < end; ++done) collect(done);
        for (index_t oh = first; oh < end; ++oh)
          weigh(oh > first, out_row, height.weight(ih, oh), ring + oh % height.most * out_row, mixed);
        if (doubles && channels > 1) {
          halve_row(a.adds, a.in.w, channels, mixed, gx);
          continue;
        }
        if (channels == 1) {
          for (index_t iw = 0; iw < a.in.w; ++iw) {
            T sum = a.adds ? gx[iw] : T(0);
            for (index_t ow = width.first[iw]; ow < width.end[iw]; ++ow)
              sum += width.weight(iw, ow) * mixed[ow];
            gx[iw] = sum;
          }
          continue;
        }
        for (index_t iw = 0; iw < a.in.w; ++iw, gx += channels) {
          if (width.first[iw] == width.end[iw] && !a.adds) simd::clear(channels, gx);
          for (index_t ow = width.first[iw]; ow < width.end[iw]; ++ow)
            weigh(a.adds || ow > width.first[iw], channels, width.weight(iw, ow), mixed + ow * channels, gx);
        }
      }
    });
  }
};

}  // namespace insula
