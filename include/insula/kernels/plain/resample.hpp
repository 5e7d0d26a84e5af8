// SPDX-License-Identifier: Apache-2.0
// Reference twin of resizing.
#pragma once

#include <cmath>

#include "insula/device/cpu.hpp"
#include "insula/op/resample.hpp"

namespace insula {

namespace detail::resample_rule {

/// Output index o of one axis reads (1 - t) x[low] + t x[high].
struct source {
  index_t low, high;
  double t;
};
inline source source_of(index_t o, index_t in, index_t out, resizing how) {
  if (how == resizing::nearest) {
    if (out == in) return {o, o, 0};
    if (out == 2 * in) return {o / 2, o / 2, 0};
    float const scale = float(in) / float(out), at = float(o) * scale;
    index_t const i = index_t(std::floor(at));
    index_t const low = i < in - 1 ? i : in - 1;
    return {low, low, 0};
  }
  double s = (double(o) + 0.5) * double(in) / double(out) - 0.5;
  if (s < 0) s = 0;
  index_t const low = index_t(std::floor(s));
  return {low, low + 1 < in ? low + 1 : in - 1, s - double(low)};
}

/// Calls f(output position, input position, weight) for every term of the linear map of one sample.
template <class F>
void each_term(extent in, extent out, resizing how, F f) {
  for (index_t d = 0; d < out.d; ++d)
    for (index_t h = 0; h < out.h; ++h)
      for (index_t w = 0; w < out.w; ++w) {
        source const z = source_of(d, in.d, out.d, how), r = source_of(h, in.h, out.h, how),
                     q = source_of(w, in.w, out.w, how);
        for (int corner = 0; corner < 8; ++corner) {
          bool const a = corner & 4, b = corner & 2, c = corner & 1;
          double const weight = (a ? z.t : 1 - z.t) * (b ? r.t : 1 - r.t) * (c ? q.t : 1 - q.t);
          if (weight != 0)
            f((d * out.h + h) * out.w + w,
              ((a ? z.high : z.low) * in.h + (b ? r.high : r.low)) * in.w + (c ? q.high : q.low), weight);
        }
      }
}

}  // namespace detail::resample_rule

template <class T>
struct kernel<op::resize, plain, T> {
  static void run(context<plain>&, typename op::resize::args<T> const& a) {
    for (index_t i = 0; i < a.batch * a.out.size() * a.channels; ++i) a.y[i] = 0;
    for (index_t n = 0; n < a.batch; ++n) {
      T const* x = a.x + n * a.in.size() * a.channels;
      T* y = a.y + n * a.out.size() * a.channels;
      detail::resample_rule::each_term(a.in, a.out, a.how, [&](index_t o, index_t i, double weight) {
        for (index_t c = 0; c < a.channels; ++c) y[o * a.channels + c] += T(weight) * x[i * a.channels + c];
      });
    }
  }
};

template <class T>
struct kernel<op::resize_grad, plain, T> {
  static void run(context<plain>&, typename op::resize_grad::args<T> const& a) {
    if (!a.gx) return;
    if (!a.adds)
      for (index_t i = 0; i < a.batch * a.in.size() * a.channels; ++i) a.gx[i] = 0;
    for (index_t n = 0; n < a.batch; ++n) {
      T const* gy = a.gy + n * a.out.size() * a.channels;
      T* gx = a.gx + n * a.in.size() * a.channels;
      detail::resample_rule::each_term(a.in, a.out, a.how, [&](index_t o, index_t i, double weight) {
        for (index_t c = 0; c < a.channels; ++c) gx[i * a.channels + c] += T(weight) * gy[o * a.channels + c];
      });
    }
  }
};

}  // namespace insula
