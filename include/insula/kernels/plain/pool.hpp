// SPDX-License-Identifier: Apache-2.0
// Reference twins of max_pool3d and its gradient.
#pragma once

#include <limits>

#include "insula/base/check.hpp"
#include "insula/device/cpu.hpp"
#include "insula/op/pool.hpp"

namespace insula {

namespace detail {

inline void check_pool(op::pool3d_geometry const& g, char const* name) {
  for (int i = 0; i < 3; ++i) {
    check(g.kernel[i] >= 1 && g.stride[i] >= 1 && g.pad[i] >= 0, name, ": axis ", i, " has kernel ",
          g.kernel[i], ", stride ", g.stride[i], " and padding ", g.pad[i],
          ": kernel and stride are at least 1, the padding is not negative");
    check(2 * g.pad[i] <= g.kernel[i] && g.in[i] + 2 * g.pad[i] >= g.kernel[i], name, ": axis ", i,
          " has kernel ", g.kernel[i], ", padding ", g.pad[i], " and extent ", g.in[i],
          ": the padding is at most half the kernel, and the padded extent at least the kernel");
  }
  check(g.kernel.size() <= 255, name, ": a window has ", g.kernel.size(), " voxels, at most are 255");
}

/// Calls f(tap, voxel) for the taps of window o (flat index of one sample's output) that lie in the volume, in order.
template <class F>
void each_tap(op::pool3d_geometry const& g, index_t o, F f) {
  extent const out = g.out(), at{o / (out.h * out.w), o / out.w % out.h, o % out.w};
  for (index_t k = 0; k < g.kernel.size(); ++k) {
    index_t const d = at.d * g.stride.d - g.pad.d + k / (g.kernel.h * g.kernel.w),
                  h = at.h * g.stride.h - g.pad.h + k / g.kernel.w % g.kernel.h,
                  w = at.w * g.stride.w - g.pad.w + k % g.kernel.w;
    if (d >= 0 && d < g.in.d && h >= 0 && h < g.in.h && w >= 0 && w < g.in.w)
      f(k, (d * g.in.h + h) * g.in.w + w);
  }
}

}  // namespace detail

template <class T>
struct kernel<op::max_pool3d, plain, T> {
  static void run(context<plain>&, typename op::max_pool3d::args<T> const& a) {
    op::pool3d_geometry const& g = a.g;
    detail::check_pool(g, "max_pool3d");
    index_t const outputs = g.out().size();
    for (index_t n = 0; n < g.batch; ++n)
      for (index_t o = 0; o < outputs; ++o)
        for (index_t c = 0; c < g.channels; ++c) {
          T most = -std::numeric_limits<T>::infinity();
          index_t first = -1;
          detail::each_tap(g, o, [&](index_t k, index_t p) {
            T const v = a.x[(n * g.in.size() + p) * g.channels + c];
            if (first < 0 || v > most || v != v) most = v, first = k;
          });
          index_t const i = (n * outputs + o) * g.channels + c;
          a.y[i] = most;
          if (a.pick) a.pick[i] = std::uint8_t(first);
        }
  }
};

template <class T>
struct kernel<op::max_pool3d_grad, plain, T> {
  static void run(context<plain>&, typename op::max_pool3d_grad::args<T> const& a) {
    if (!a.gx) return;
    op::pool3d_geometry const& g = a.g;
    detail::check_pool(g, "max_pool3d");
    index_t const outputs = g.out().size();
    if (!a.adds)
      for (index_t i = 0; i < g.batch * g.in.size() * g.channels; ++i) a.gx[i] = 0;
    for (index_t n = 0; n < g.batch; ++n)
      for (index_t o = 0; o < outputs; ++o)
        detail::each_tap(g, o, [&](index_t k, index_t p) {
          for (index_t c = 0; c < g.channels; ++c) {
            index_t const i = (n * outputs + o) * g.channels + c;
            if (a.pick[i] == k) a.gx[(n * g.in.size() + p) * g.channels + c] += a.gy[i];
          }
        });
  }
};

}  // namespace insula
