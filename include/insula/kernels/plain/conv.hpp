// SPDX-License-Identifier: Apache-2.0
// 3D convolution and transposed convolution as plain loops: the reference every fast kernel is held against.
#pragma once

#include "insula/device/cpu.hpp"
#include "insula/op/conv.hpp"

namespace insula {
namespace detail::conv {

/// Calls f(n, o, k, i) for every sample n, output position o and kernel offset k whose input position i exists.
template <class F>
void each_conv3d_tap(op::conv3d_geometry const& g, F f) {
  extent const out = g.out();
  for (index_t n = 0; n < g.batch; ++n)
    for (index_t d = 0; d < out.d; ++d)
      for (index_t h = 0; h < out.h; ++h)
        for (index_t w = 0; w < out.w; ++w)
          for (index_t a = 0; a < g.kernel.d; ++a)
            for (index_t b = 0; b < g.kernel.h; ++b)
              for (index_t c = 0; c < g.kernel.w; ++c) {
                extent const i{d * g.stride.d - g.pad.d + a, h * g.stride.h - g.pad.h + b,
                               w * g.stride.w - g.pad.w + c};
                if (i.d < 0 || i.d >= g.in.d || i.h < 0 || i.h >= g.in.h || i.w < 0 || i.w >= g.in.w)
                  continue;
                f(((n * out.d + d) * out.h + h) * out.w + w, (a * g.kernel.h + b) * g.kernel.w + c,
                  ((n * g.in.d + i.d) * g.in.h + i.h) * g.in.w + i.w);
              }
}

/// Calls f(input position, kernel offset, output position) for every pair of a transposed convolution without overlap.
template <class F>
void each_transpose_tap(index_t batch, extent in, extent kernel, F f) {
  for (index_t n = 0; n < batch; ++n)
    for (index_t d = 0; d < in.d; ++d)
      for (index_t h = 0; h < in.h; ++h)
        for (index_t w = 0; w < in.w; ++w)
          for (index_t a = 0; a < kernel.d; ++a)
            for (index_t b = 0; b < kernel.h; ++b)
              for (index_t c = 0; c < kernel.w; ++c)
                f(((n * in.d + d) * in.h + h) * in.w + w, (a * kernel.h + b) * kernel.w + c,
                  ((n * in.d * kernel.d + d * kernel.d + a) * in.h * kernel.h + h * kernel.h + b) * in.w *
                          kernel.w +
                      w * kernel.w + c);
}

/// y[r,:] = b, or 0 where b is null.
template <class T>
void fill_bias(index_t rows, index_t width, T const* b, T* y) {
  for (index_t r = 0; r < rows; ++r)
    for (index_t o = 0; o < width; ++o) y[r * width + o] = b ? b[o] : T(0);
}

/// gb += sum over rows of gy. gb may be null.
template <class T>
void add_bias_gradient(index_t rows, index_t width, T const* gy, T* gb) {
  if (!gb) return;
  for (index_t r = 0; r < rows; ++r)
    for (index_t o = 0; o < width; ++o) gb[o] += gy[r * width + o];
}

template <class T>
void fill_zero(index_t n, T* x) {
  for (index_t i = 0; i < n; ++i) x[i] = T(0);
}

}  // namespace detail::conv

template <class T>
struct kernel<op::conv3d, plain, T> {
  static void run(context<plain>&, op::conv3d::args<T> const& a) {
    op::conv3d_geometry const& g = a.g;
    index_t const ci = g.in_channels / g.groups, co = g.out_channels / g.groups;
    detail::conv::fill_bias(g.batch * g.out().size(), g.out_channels, a.b, a.y);
    detail::conv::each_conv3d_tap(g, [&](index_t p, index_t k, index_t q) {
      T const* w = a.w + k * ci * g.out_channels;
      for (index_t o = 0; o < g.out_channels; ++o) {
        T const* x = a.x + q * g.in_channels + o / co * ci;
        for (index_t i = 0; i < ci; ++i) a.y[p * g.out_channels + o] += x[i] * w[i * g.out_channels + o];
      }
    });
  }
};

template <class T>
struct kernel<op::conv3d_grad, plain, T> {
  static void run(context<plain>&, op::conv3d_grad::args<T> const& a) {
    op::conv3d_geometry const& g = a.g;
    index_t const ci = g.in_channels / g.groups, co = g.out_channels / g.groups;
    if (a.gx && !a.adds) detail::conv::fill_zero(g.batch * g.in.size() * g.in_channels, a.gx);
    detail::conv::add_bias_gradient(g.batch * g.out().size(), g.out_channels, a.gy, a.gb);
    detail::conv::each_conv3d_tap(g, [&](index_t p, index_t k, index_t q) {
      for (index_t o = 0; o < g.out_channels; ++o) {
        T const gy = a.gy[p * g.out_channels + o];
        index_t const x = q * g.in_channels + o / co * ci;
        for (index_t i = 0; i < ci; ++i) {
          index_t const w = (k * ci + i) * g.out_channels + o;
          if (a.gx) a.gx[x + i] += gy * a.w[w];
          if (a.gw) a.gw[w] += gy * a.x[x + i];
        }
      }
    });
  }
};

template <class T>
struct kernel<op::conv3d_transpose, plain, T> {
  static void run(context<plain>&, op::conv3d_transpose::args<T> const& a) {
    detail::conv::fill_bias(a.batch * a.in.size() * a.kernel.size(), a.out_channels, a.b, a.y);
    detail::conv::each_transpose_tap(a.batch, a.in, a.kernel, [&](index_t q, index_t k, index_t p) {
      for (index_t i = 0; i < a.in_channels; ++i)
        for (index_t o = 0; o < a.out_channels; ++o)
          a.y[p * a.out_channels + o] +=
              a.x[q * a.in_channels + i] * a.w[(k * a.in_channels + i) * a.out_channels + o];
    });
  }
};

template <class T>
struct kernel<op::conv3d_transpose_grad, plain, T> {
  static void run(context<plain>&, op::conv3d_transpose_grad::args<T> const& a) {
    if (a.gx && !a.adds) detail::conv::fill_zero(a.batch * a.in.size() * a.in_channels, a.gx);
    detail::conv::add_bias_gradient(a.batch * a.in.size() * a.kernel.size(), a.out_channels, a.gy, a.gb);
    detail::conv::each_transpose_tap(a.batch, a.in, a.kernel, [&](index_t q, index_t k, index_t p) {
      for (index_t i = 0; i < a.in_channels; ++i)
        for (index_t o = 0; o < a.out_channels; ++o) {
          index_t const w = (k * a.in_channels + i) * a.out_channels + o;
          T const gy = a.gy[p * a.out_channels + o];
          if (a.gx) a.gx[q * a.in_channels + i] += gy * a.w[w];
          if (a.gw) a.gw[w] += gy * a.x[q * a.in_channels + i];
        }
    });
  }
};

}  // namespace insula
