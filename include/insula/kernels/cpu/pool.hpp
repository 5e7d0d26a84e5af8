// SPDX-License-Identifier: Apache-2.0
// CPU kernels of max_pool3d and its gradient, and the window loops that batch_norm_pool shares with them.
#pragma once

#include <limits>

#include "insula/kernels/cpu/row.hpp"
#include "insula/kernels/plain/pool.hpp"

namespace insula {

namespace detail::pool {

/// Taps [from, to) of a window on one axis that lie in the volume; `first` is the voxel of tap 0, perhaps outside.
struct span {
  index_t first, from, to;
  span(op::pool3d_geometry const& g, int axis, index_t o)
      : first(o * g.stride[axis] - g.pad[axis]),
        from(first < 0 ? -first : 0),
        to(first + g.kernel[axis] > g.in[axis] ? g.in[axis] - first : g.kernel[axis]) {}
};

/// Windows [from, to) on one axis that hold voxel i.
struct holders {
  index_t from, to;
  holders(op::pool3d_geometry const& g, int axis, index_t i, index_t out) {
    index_t const low = i + g.pad[axis] - g.kernel[axis] + 1, s = g.stride[axis];
    from = low <= 0 ? 0 : (low + s - 1) / s;
    to = (i + g.pad[axis]) / s + 1;
    to = to < out ? to : out;
  }
};

/// Bytes of the first lanes of a register of small integers.
template <scalar T>
INSULA_INLINE void store_bytes(std::uint8_t* p, simd::mask<T> v, simd::whole) {
  typedef std::uint8_t bytes __attribute__((vector_size(simd::register_bytes / sizeof(T))));
  bytes const b = __builtin_convertvector(v, bytes);
  std::memcpy(p, &b, sizeof b);
}
template <scalar T>
INSULA_INLINE void store_bytes(std::uint8_t* p, simd::mask<T> v, int lanes) {
  for (int i = 0; i < lanes; ++i) p[i] = std::uint8_t(v[i]);
}
template <scalar T>
INSULA_INLINE simd::mask<T> load_bytes(std::uint8_t const* p, simd::whole) {
  typedef std::uint8_t bytes __attribute__((vector_size(simd::register_bytes / sizeof(T))));
  bytes b;
  std::memcpy(&b, p, sizeof b);
  return __builtin_convertvector(b, simd::mask<T>);
}
template <scalar T>
INSULA_INLINE simd::mask<T> load_bytes(std::uint8_t const* p, int lanes) {
  simd::mask<T> b{};
  for (int i = 0; i < lanes; ++i) b[i] = p[i];
  return b;
}

/// y and pick of one plane of windows: the largest f(c, lanes, value of x) over each window. x: one sample.
template <scalar T, class F>
void pool_plane(op::pool3d_geometry const& g, index_t plane, T const* x, T* y, std::uint8_t* pick, F f) {
  using lane = std::remove_cvref_t<decltype(simd::mask<T>{}[0])>;
  extent const out = g.out();
  index_t const channels = g.channels, row = g.in.w * channels;
  span const d(g, 0, plane);
  for (index_t oh = 0; oh < out.h; ++oh) {
    span const h(g, 1, oh);
    for (index_t ow = 0; ow < out.w; ++ow, y += channels, pick += pick ? channels : 0) {
      span const w(g, 2, ow);
      simd::each_register<T>(channels, [&](index_t c, auto lanes) {
        auto most = simd::broadcast(-std::numeric_limits<T>::infinity());
        index_t const tap = (d.from * g.kernel.h + h.from) * g.kernel.w + w.from;
        simd::mask<T> first = lane(tap) - simd::mask<T>{};
        for (index_t kd = d.from; kd < d.to; ++kd)
          for (index_t kh = h.from; kh < h.to; ++kh) {
            T const* from =
                x + ((d.first + kd) * g.in.h + h.first + kh) * row + (w.first + w.from) * channels + c;
            index_t k = (kd * g.kernel.h + kh) * g.kernel.w + w.from;
            for (index_t kw = w.from; kw < w.to; ++kw, ++k, from += channels) {
              auto const v = f(c, lanes, simd::load(from, lanes));
              auto const better = (v > most) | (v != v);
              most = better ? v : most;
              first = better ? lane(k) - simd::mask<T>{} : first;
            }
          }
        simd::store(y + c, most, lanes);
        if (pick) store_bytes<T>(pick + c, first, lanes);
      });
    }
  }
}

/// Calls f(voxel within the plane, c, lanes, sum of gy over the windows that picked the voxel) for one plane of voxels.
template <scalar T, class F>
void unpool_plane(op::pool3d_geometry const& g, index_t plane, T const* gy, std::uint8_t const* pick, F f) {
  using lane = std::remove_cvref_t<decltype(simd::mask<T>{}[0])>;
  extent const out = g.out();
  index_t const channels = g.channels;
  holders const d(g, 0, plane, out.d);
  for (index_t ih = 0; ih < g.in.h; ++ih) {
    holders const h(g, 1, ih, out.h);
    for (index_t iw = 0; iw < g.in.w; ++iw) {
      holders const w(g, 2, iw, out.w);
      simd::each_register<T>(channels, [&](index_t c, auto lanes) {
        auto sum = simd::zero<T>();
        for (index_t od = d.from; od < d.to; ++od)
          for (index_t oh = h.from; oh < h.to; ++oh) {
            index_t const kd = plane + g.pad.d - od * g.stride.d, kh = ih + g.pad.h - oh * g.stride.h;
            for (index_t ow = w.from; ow < w.to; ++ow) {
              index_t const kw = iw + g.pad.w - ow * g.stride.w;
              index_t const at = ((od * out.h + oh) * out.w + ow) * channels + c;
              auto const mine = load_bytes<T>(pick + at, lanes) ==
                                lane((kd * g.kernel.h + kh) * g.kernel.w + kw) - simd::mask<T>{};
              sum += mine ? simd::load(gy + at, lanes) : simd::zero<T>();
            }
          }
        f(ih * g.in.w + iw, c, lanes, sum);
      });
    }
  }
}

}  // namespace detail::pool

template <scalar T>
struct kernel<op::max_pool3d, cpu, T> {
  static void run(context<cpu>& cx, op::max_pool3d::args<T> const& a) {
    op::pool3d_geometry const& g = a.g;
    detail::check_pool(g);
    extent const out = g.out();
    index_t const inputs = g.in.size() * g.channels, plane = out.h * out.w * g.channels;
    cx.pool.run(g.batch * out.d, [&](index_t task, int) {
      detail::pool::pool_plane(g, task % out.d, a.x + task / out.d * inputs, a.y + task * plane,
                               a.pick ? a.pick + task * plane : nullptr,
                               [](index_t, auto, auto v) { return v; });
    });
  }
};

template <scalar T>
struct kernel<op::max_pool3d_grad, cpu, T> {
  static void run(context<cpu>& cx, op::max_pool3d_grad::args<T> const& a) {
    if (!a.gx) return;
    op::pool3d_geometry const& g = a.g;
    detail::check_pool(g);
    index_t const outputs = g.out().size() * g.channels, plane = g.in.h * g.in.w * g.channels;
    cx.pool.run(g.batch * g.in.d, [&](index_t task, int) {
      index_t const n = task / g.in.d;
      T* const gx = a.gx + task * plane;
      detail::pool::unpool_plane<T>(g, task % g.in.d, a.gy + n * outputs, a.pick + n * outputs,
                                    [&](index_t p, index_t c, auto lanes, auto v) {
                                      T* const to = gx + p * g.channels + c;
                                      simd::store(to, a.adds ? simd::load(to, lanes) + v : v, lanes);
                                    });
    });
  }
};

}  // namespace insula
