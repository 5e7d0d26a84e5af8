// SPDX-License-Identifier: Apache-2.0
// 3D convolution and transposed convolution on the CPU: which algorithm computes which case.
#pragma once

#include "insula/kernels/cpu/conv_depthwise.hpp"
#include "insula/kernels/cpu/conv_depthwise_weights.hpp"
#include "insula/kernels/cpu/conv_direct.hpp"
#include "insula/kernels/cpu/conv_flip.hpp"
#include "insula/kernels/cpu/conv_patch.hpp"
#include "insula/kernels/cpu/conv_small.hpp"
#include "insula/kernels/cpu/conv_weights.hpp"
#include "insula/kernels/cpu/conv_winograd_small.hpp"
#include "insula/kernels/cpu/gemm.hpp"

namespace insula {

/// How a convolution with stride 1 and 3 x 3 taps in height and width may be computed, all three passes. Relative
/// error in float, 16 to 320 channels, uniform inputs: exact 2e-7 to 6e-7; winograd2, 2.25 times fewer products, 2e-7
/// to 9e-7; winograd4, 4 times fewer, 7e-7 to 2.8e-6. A convolution that does not suit Winograd's algorithm
/// (suits_winograd), or for which smaller tiles cost less (cheapest_winograd), is computed with these or exactly.
enum class conv_policy { exact, winograd2, winograd4 };

inline constexpr conv_policy default_conv_policy = conv_policy::winograd4;

namespace detail::conv {

inline bool is_depthwise(lattice const& l) {
  return l.groups > 1 && l.groups == l.in_channels && l.groups == l.out_channels;
}

/// Outputs per axis of the Winograd tiles that compute the lattice under a policy; 1: no Winograd.
inline int winograd_of(lattice const& l, conv_policy policy) {
  if (policy == conv_policy::exact || !suits_winograd(l)) return 1;
  return cheapest_winograd(l, policy == conv_policy::winograd4 ? 4 : 2);
}

/// y (+)= b + the lattice's convolution of x with w, if it has few positions and many weights; whether it has.
template <scalar T>
bool convolve_few(context<cpu>& cx, lattice const& l, T const* x, weight_source<T> w, T const* b, bool adds,
                  T* y, conv_policy policy) {
  if (l.groups > 1) return false;
  int const m = winograd_of(l, policy);
  if (m == 2 && is_winograd_small<2, T>(l)) return convolve_winograd_small<2>(cx, l, x, w, b, adds, y), true;
  if (m == 4 && is_winograd_small<4, T>(l)) return convolve_winograd_small<4>(cx, l, x, w, b, adds, y), true;
  if (m == 1 && is_small(l)) return convolve_small(cx, l, x, w, b, adds, y), true;
  return false;
}

/// y (+)= b + the lattice's convolution of x with w, by the algorithm that suits it.
template <scalar T>
void convolve_any(context<cpu>& cx, lattice const& l, T const* x, T const* w, T const* b, bool adds, T* y,
                  conv_policy policy) {
  bool const reads =
      l.at[0].taps > 0 && l.at[1].taps > 0 && l.at[2].taps > 0;  // not where strides step over the kernel
  if (is_depthwise(l) && reads) return convolve_depthwise(cx, l, x, w, b, adds, y);
  if (convolve_few(cx, l, x, weight_source<T>{w, false}, b, adds, y, policy)) return;
  int const m = winograd_of(l, policy);
  if (m == 2) return convolve_winograd<2>(cx, l, x, w, b, adds, y);
  if (m == 4) return convolve_winograd<4>(cx, l, x, w, b, adds, y);
  convolve(cx, l, x, w, b, adds, y);
}

}  // namespace detail::conv

template <scalar T>
struct kernel<op::conv3d, cpu, T> {
  static void run(context<cpu>& cx, op::conv3d::args<T> const& a, conv_policy policy = default_conv_policy) {
    op::conv3d_geometry const& g = a.g;
    detail::conv::check_geometry(g);
    if (detail::conv::is_product(g))
      return kernel<op::linear, cpu, T>::run(
          cx, {g.batch * g.in.size(), g.in_channels, g.out_channels, a.x, a.w, a.b, a.y});
    if (detail::conv::has_patches_of_eight(g))
      return detail::conv::convolve_patches_of_eight(cx, g, a.x, a.w, a.b, a.y);
    detail::conv::convolve_any(cx, detail::conv::forward_lattice(a.g), a.x, a.w, a.b, false, a.y, policy);
  }
};

template <scalar T>
struct kernel<op::conv3d_grad, cpu, T> {
  static void run(context<cpu>& cx, op::conv3d_grad::args<T> const& a,
                  conv_policy policy = default_conv_policy) {
    op::conv3d_geometry const& g = a.g;
    detail::conv::check_geometry(g);
    if (detail::conv::is_product(g))
      return kernel<op::linear_grad, cpu, T>::run(cx, {g.batch * g.in.size(), g.in_channels, g.out_channels,
                                                       a.x, a.w, a.gy, a.adds, a.gx, a.gw, a.gb});
    if (a.gb) detail::conv::bias_gradient(cx, g.batch * g.out().size(), g.out_channels, a.gy, a.gb);
    if (a.gw) weight_gradient(cx, a, policy);
    if (a.gx) input_gradient(cx, a, policy);
  }

 private:
  static void weight_gradient(context<cpu>& cx, op::conv3d_grad::args<T> const& a, conv_policy policy) {
    if (detail::conv::has_patches_of_eight(a.g))
      return detail::conv::weight_gradient_of_eight(cx, a.g, a.x, a.gy, a.gw);
    auto const l = detail::conv::forward_lattice(a.g);
    if (detail::conv::is_depthwise(l)) return detail::conv::depthwise_weight_gradient(cx, l, a.x, a.gy, a.gw);
    int const m = detail::conv::winograd_of(l, policy);
    if (m == 2 && detail::conv::is_winograd_small<2, T>(l))
      return detail::conv::weight_gradient_winograd_small<2>(cx, l, a.x, a.gy, a.gw);
    if (m == 4 && detail::conv::is_winograd_small<4, T>(l))
      return detail::conv::weight_gradient_winograd_small<4>(cx, l, a.x, a.gy, a.gw);
    if (m == 2) return detail::conv::weight_gradient_winograd<2>(cx, l, a.x, a.gy, a.gw);
    if (m == 4) return detail::conv::weight_gradient_winograd<4>(cx, l, a.x, a.gy, a.gw);
    if (detail::conv::is_small(l)) return detail::conv::weight_gradient_small(cx, l, a.x, a.gy, a.gw);
    if (detail::conv::is_stepping_product(a.g))
      return detail::conv::stepping_weight_gradient(cx, a.g, a.x, a.gy, a.gw);
    detail::conv::weight_gradient(cx, l, a.x, a.gy, a.gw);
  }
  static void input_gradient(context<cpu>& cx, op::conv3d_grad::args<T> const& a, conv_policy policy) {
    op::conv3d_geometry const& g = a.g;
    if (detail::conv::is_patches(g)) return detail::conv::patch_gradient(cx, g, a.gy, a.w, a.adds, a.gx);
    scratch shared(cx);
    T* flipped = nullptr;
    detail::conv::each_offset(g.stride, [&](extent r) {
      auto const l = detail::conv::backward_lattice(g, r);
      detail::conv::weight_source<T> const turned{a.w, true};
      if (detail::conv::convolve_few<T>(cx, l, a.gy, turned, nullptr, a.adds, a.gx, policy)) return;
      if (!flipped) {
        flipped = shared.take<T>(g.weights());
        detail::conv::flip_weights(cx, g.kernel.size(), g.in_channels, g.out_channels, g.groups, true, a.w,
                                   flipped);
      }
      detail::conv::convolve_any<T>(cx, l, a.gy, flipped, nullptr, a.adds, a.gx, policy);
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
