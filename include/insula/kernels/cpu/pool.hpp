// SPDX-License-Identifier: Apache-2.0
// CPU kernels of max_pool3d and its gradient, and the window loops that batch_norm_pool shares with them.
#pragma once

#include <limits>
#include <type_traits>

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

/// One tap of a window, or one window of a voxel: where its channels begin, and the tap's number.
struct place {
  index_t at;
  std::uint8_t tap;
};
inline constexpr index_t most_places = 256;  // check_pool: taps are counted in a byte

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
      place taps[most_places];  // found once for all channels
      taps[0] = {};
      int n = 0;
      for (index_t kd = d.from; kd < d.to; ++kd)
        for (index_t kh = h.from; kh < h.to; ++kh) {
          index_t const from = ((d.first + kd) * g.in.h + h.first + kh) * row + w.first * channels;
          index_t const k = (kd * g.kernel.h + kh) * g.kernel.w;
          for (index_t kw = w.from; kw < w.to; ++kw) taps[n++] = {from + kw * channels, std::uint8_t(k + kw)};
        }
      auto const largest = [&](index_t c, auto lanes, auto registers) {
        constexpr int count = decltype(registers)::value;  // side by side: comparisons wait for one another
        simd::pack<T> most[count];
        simd::mask<T> first[count];
        for (int v = 0; v < count; ++v)
          most[v] = simd::broadcast(-std::numeric_limits<T>::infinity()),
          first[v] = lane(taps[0].tap) - simd::mask<T>{};
        for (int t = 0; t < n; ++t)
#pragma GCC unroll 2
          for (int v = 0; v < count; ++v) {
            index_t const at = c + v * simd::width<T>;
            auto const u = f(at, lanes, simd::load(x + taps[t].at + at, lanes));
            auto const better = (u > most[v]) | (u != u);
            most[v] = better ? u : most[v];
            first[v] = better ? lane(taps[t].tap) - simd::mask<T>{} : first[v];
          }
        for (int v = 0; v < count; ++v) {
          simd::store(y + c + v * simd::width<T>, most[v], lanes);
          if (pick) store_bytes<T>(pick + c + v * simd::width<T>, first[v], lanes);
        }
      };
      constexpr index_t pair = 2 * simd::width<T>;
      index_t const paired = channels / pair * pair;
      for (index_t c = 0; c < paired; c += pair) largest(c, simd::whole{}, std::integral_constant<int, 2>{});
      simd::each_register<T>(channels - paired, [&](index_t c, auto lanes) {
        largest(paired + c, lanes, std::integral_constant<int, 1>{});
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
      place windows[most_places];
      windows[0] = {};
      int n = 0;
      for (index_t od = d.from; od < d.to; ++od)
        for (index_t oh = h.from; oh < h.to; ++oh) {
          index_t const kd = plane + g.pad.d - od * g.stride.d, kh = ih + g.pad.h - oh * g.stride.h;
          for (index_t ow = w.from; ow < w.to; ++ow) {
            index_t const kw = iw + g.pad.w - ow * g.stride.w;
            windows[n++] = {((od * out.h + oh) * out.w + ow) * channels,
                            std::uint8_t((kd * g.kernel.h + kh) * g.kernel.w + kw)};
          }
        }
      simd::each_register<T>(channels, [&](index_t c, auto lanes) {
        auto sum = simd::zero<T>();
        for (int t = 0; t < n; ++t) {
          index_t const at = windows[t].at + c;
          auto const mine = load_bytes<T>(pick + at, lanes) == lane(windows[t].tap) - simd::mask<T>{};
          sum += mine ? simd::load(gy + at, lanes) : simd::zero<T>();
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
