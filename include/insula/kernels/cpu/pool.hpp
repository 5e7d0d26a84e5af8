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

/// x[shift + offset[pick[i]] + i] of every lane.
template <scalar T, class Lanes>
INSULA_INLINE simd::pack<T> picked(T const* x, std::int32_t shift, std::int32_t const* offset,
                                   std::uint8_t const* pick, Lanes lanes) {
#if defined(INSULA_AVX512)
  if constexpr (sizeof(T) == 4 && std::is_same_v<Lanes, simd::whole>) {
    simd::mask<T> const lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    __m512i const taps = (__m512i)simd::load_bytes<T>(pick, lanes), none = _mm512_setzero_si512();
    auto const from =
        lane + shift + (simd::mask<T>)_mm512_mask_i32gather_epi32(none, __mmask16(-1), taps, offset, 4);
    return (simd::pack<T>)_mm512_mask_i32gather_ps((__m512)none, __mmask16(-1), (__m512i)from, x, 4);
  }
#elif defined(INSULA_AVX2)
  if constexpr (sizeof(T) == 4 && std::is_same_v<Lanes, simd::whole>) {
    simd::mask<T> const lane = {0, 1, 2, 3, 4, 5, 6, 7};
    __m256i const taps = (__m256i)simd::load_bytes<T>(pick, lanes);
    auto const from = lane + shift + (simd::mask<T>)_mm256_i32gather_epi32(offset, taps, 4);
    return (simd::pack<T>)_mm256_i32gather_ps(x, (__m256i)from, 4);
  }
#endif
  constexpr int w = simd::width<T>;
  int n = w;
  if constexpr (std::is_same_v<Lanes, int>) n = lanes;
  simd::pack<T> v{};
  for (int i = 0; i < n; ++i) v[i] = x[shift + offset[pick[i]] + i];
  return v;
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
          if (pick) simd::store_bytes<T>(pick + c + v * simd::width<T>, first[v], lanes);
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
    place rows[most_places];  // of windows, found once for a row of voxels
    rows[0] = {};
    int row_count = 0;
    for (index_t od = d.from; od < d.to; ++od)
      for (index_t oh = h.from; oh < h.to; ++oh) {
        index_t const kd = plane + g.pad.d - od * g.stride.d, kh = ih + g.pad.h - oh * g.stride.h;
        rows[row_count++] = {(od * out.h + oh) * out.w, std::uint8_t((kd * g.kernel.h + kh) * g.kernel.w)};
      }
    for (index_t iw = 0; iw < g.in.w; ++iw) {
      holders const w(g, 2, iw, out.w);
      place windows[most_places];  // once for all channels of a voxel
      windows[0] = {};
      int n = 0;
      for (int r = 0; r < row_count; ++r)
        for (index_t ow = w.from; ow < w.to; ++ow)
          windows[n++] = {(rows[r].at + ow) * channels,
                          std::uint8_t(rows[r].tap + iw + g.pad.w - ow * g.stride.w)};
      simd::each_columns<T>(channels, [&](index_t c, auto registers, auto lanes) {
        constexpr int count = decltype(registers)::value;
        simd::pack<T> sum[count]{};
        for (int t = 0; t < n; ++t) {
          index_t const at = windows[t].at + c;
          auto const tap = lane(windows[t].tap) - simd::mask<T>{};
#pragma GCC unroll 4
          for (int v = 0; v < count; ++v) {
            index_t const i = at + v * simd::width<T>;
            auto const mine = simd::load_bytes<T>(pick + i, lanes) == tap;
            sum[v] += mine ? simd::load(gy + i, lanes) : simd::zero<T>();
          }
        }
#pragma GCC unroll 4
        for (int v = 0; v < count; ++v) f(ih * g.in.w + iw, c + v * simd::width<T>, lanes, sum[v]);
      });
    }
  }
}

}  // namespace detail::pool

template <scalar T>
struct kernel<op::max_pool3d, cpu, T> {
  static void run(context<cpu>& cx, op::max_pool3d::args<T> const& a) {
    op::pool3d_geometry const& g = a.g;
    detail::check_pool(g, "max_pool3d");
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
    detail::check_pool(g, "max_pool3d");
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
