// SPDX-License-Identifier: Apache-2.0
// 3D convolution and transposed convolution on the CPU: which algorithm computes which case.
#pragma once

#include "insula/kernels/cpu/conv_depthwise.hpp"
#include "insula/kernels/cpu/conv_direct.hpp"
#include "insula/kernels/cpu/conv_flip.hpp"
#include "insula/kernels/cpu/conv_weights.hpp"
#include "insula/kernels/cpu/conv_winograd.hpp"

namespace insula {

/// How a convolution with stride 1 and 3 x 3 taps in height and width may be computed, all three passes. Relative
/// error of the forward pass in float, 16 to 192 channels, uniform inputs: exact 4e-7 to 5e-7; winograd2, 2.25 times
/// fewer products, 2e-7 to 7e-7; winograd4, 4 times fewer, 2e-6 to 5e-6. A convolution that does not suit Winograd's
/// algorithm (suits_winograd) is computed exactly whatever the policy.
enum class conv_policy { exact, winograd2, winograd4 };

inline constexpr conv_policy default_conv_policy = conv_policy::winograd2;

namespace detail::conv {

inline bool is_depthwise(lattice const& l) {
  return l.groups > 1 && l.groups == l.in_channels && l.groups == l.out_channels;
}

/// y (+)= b + the lattice's convolution of x with w, by the algorithm that suits it.
template <scalar T>
void convolve_any(context<cpu>& cx, lattice const& l, T const* x, T const* w, T const* b, bool adds, T* y,
                  conv_policy policy) {
  if (is_depthwise(l))
    convolve_depthwise(cx, l, x, w, b, adds, y);
  else if (policy == conv_policy::winograd2 && suits_winograd(l))
    convolve_winograd<2>(cx, l, x, w, b, adds, y);
  else if (policy == conv_policy::winograd4 && suits_winograd(l))
    convolve_winograd<4>(cx, l, x, w, b, adds, y);
  else
    convolve(cx, l, x, w, b, adds, y);
}

}  // namespace detail::conv

template <scalar T>
struct kernel<op::conv3d, cpu, T> {
  static void run(context<cpu>& cx, op::conv3d::args<T> const& a, conv_policy policy = default_conv_policy) {
    detail::conv::check_geometry(a.g);
    detail::conv::convolve_any(cx, detail::conv::forward_lattice(a.g), a.x, a.w, a.b, false, a.y, policy);
  }
};

template <scalar T>
struct kernel<op::conv3d_grad, cpu, T> {
  static void run(context<cpu>& cx, op::conv3d_grad::args<T> const& a,
                  conv_policy policy = default_conv_policy) {
    op::conv3d_geometry const& g = a.g;
    detail::conv::check_geometry(g);
    if (a.gb) detail::conv::bias_gradient(cx, g.batch * g.out().size(), g.out_channels, a.gy, a.gb);
    if (a.gw) weight_gradient(cx, a, policy);
    if (a.gx) input_gradient(cx, a, policy);
  }

 private:
  static void weight_gradient(context<cpu>& cx, op::conv3d_grad::args<T> const& a, conv_policy policy) {
    auto const l = detail::conv::forward_lattice(a.g);
    if (detail::conv::is_depthwise(l))
      detail::conv::depthwise_weight_gradient(cx, l, a.x, a.gy, a.gw);
    else if (policy == conv_policy::winograd2 && detail::conv::suits_winograd(l))
      detail::conv::weight_gradient_winograd<2>(cx, l, a.x, a.gy, a.gw);
    else if (policy == conv_policy::winograd4 && detail::conv::suits_winograd(l))
      detail::conv::weight_gradient_winograd<4>(cx, l, a.x, a.gy, a.gw);
    else
      detail::conv::weight_gradient(cx, l, a.x, a.gy, a.gw);
  }
  static void input_gradient(context<cpu>& cx, op::conv3d_grad::args<T> const& a, conv_policy policy) {
    op::conv3d_geometry const& g = a.g;
    scratch shared(cx);
    T* const w = shared.take<T>(g.weights());
    detail::conv::flip_weights(cx, g.kernel.size(), g.in_channels, g.out_channels, g.groups, true, a.w, w);
    detail::conv::each_offset(g.stride, [&](extent r) {
      detail::conv::convolve_any<T>(cx, detail::conv::backward_lattice(g, r), a.gy, w, nullptr, a.adds, a.gx,
                                    policy);
    });
  }
};

template <scalar T>
struct kernel<op::conv3d_transpose, cpu, T> {
  static void run(context<cpu>& cx, op::conv3d_transpose::args<T> const& a) {
    index_t const size = a.in_channels * a.out_channels;
    T const* w = a.w;
    detail::conv::each_offset(a.kernel, [&](extent k) {
      auto const l =
          detail::conv::transpose_lattice(a.batch, a.in, a.in_channels, a.out_channels, a.kernel, k);
      detail::conv::convolve(cx, l, a.x, w, a.b, false, a.y);
      w += size;
    });
  }
};

template <scalar T>
struct kernel<op::conv3d_transpose_grad, cpu, T> {
  static void run(context<cpu>& cx, op::conv3d_transpose_grad::args<T> const& a) {
    extent const k = a.kernel, out{a.in.d * k.d, a.in.h * k.h, a.in.w * k.w};
    index_t const size = a.in_channels * a.out_channels;
    if (a.gb) detail::conv::bias_gradient(cx, a.batch * out.size(), a.out_channels, a.gy, a.gb);
    if (T* gw = a.gw)
      detail::conv::each_offset(k, [&](extent r) {
        auto const l = detail::conv::transpose_lattice(a.batch, a.in, a.in_channels, a.out_channels, k, r);
        detail::conv::weight_gradient(cx, l, a.x, a.gy, gw);
        gw += size;
      });
    if (a.gx) {  // the convolution with stride = kernel and transposed weights
      scratch shared(cx);
      T* const w = shared.take<T>(k.size() * size);
      detail::conv::flip_weights(cx, k.size(), a.in_channels, a.out_channels, 1, false, a.w, w);
      op::conv3d_geometry const g{a.batch, out, a.out_channels, a.in_channels, k, k};
      detail::conv::convolve<T>(cx, detail::conv::forward_lattice(g), a.gy, w, nullptr, a.adds, a.gx);
    }
  }
};

}  // namespace insula
