// SPDX-License-Identifier: Apache-2.0
// Convolution layers: conv3d and conv3d_transpose.
#pragma once

#include "insula/net/layer.hpp"
#include "insula/op/conv.hpp"

namespace insula {

/// pad is symmetric zero padding.
struct conv_opts {
  extent stride{1, 1, 1};
  extent pad{0, 0, 0};
  int groups = 1;
  bool bias = true;
  start weights = start::fan_uniform;  ///< how the weight starts; the bias always starts fan_uniform
};

/// y = conv(x, w) + b, cross-correlation. (C, D, H, W) -> (Out, D', H', W'), D' = (D + 2 pad - kernel) / stride + 1.
/// Parameters: weight (Out, C / groups, kd, kh, kw), bias (Out). Both start fan_uniform with fan_in = C/groups * kernel, unless
/// O.weights says otherwise.
template <int Out, extent Kernel, conv_opts O = conv_opts{}>
struct conv3d : leaf<conv3d<Out, Kernel, O>> {
  static constexpr char const* name = "conv3d";
  static constexpr traits trait{.gx_is_x = true};

  static constexpr op::conv3d_geometry geometry(dims in, index_t batch) {
    return {batch, spatial(in), in.n[0], Out, Kernel, O.stride, O.pad, O.groups};
  }
  static constexpr inferred infer(dims in) {
    if (in.rank != 4) return misfit(fault::rank, in.rank, 4);
    if (in.n[0] % O.groups != 0) return misfit(fault::groups, in.n[0], O.groups);
    if (Out % O.groups != 0) return misfit(fault::groups, Out, O.groups);
    for (int i = 0; i < 3; ++i)
      if (in.n[i + 1] + 2 * O.pad[i] < Kernel[i])
        return misfit(fault::kernel, in.n[i + 1] + 2 * O.pad[i], Kernel[i]);
    return fits(volume_dims(Out, geometry(in, 1).out()));
  }
  static constexpr parameter_list parameters(dims in) {
    index_t const each = in.n[0] / O.groups, fan = each * Kernel.size();
    parameter const w{"weight", make_dims(index_t(Out), each, Kernel.d, Kernel.h, Kernel.w), layout::conv,
                      O.weights, fan};
    if constexpr (O.bias)
      return {w, parameter{"bias", make_dims(index_t(Out)), layout::same, start::fan_uniform, fan}};
    else
      return {w};
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::conv3d, B, T>(cx, {geometry(s->in, m.batch), m.read(s->x), m.weight(s, 0),
                               O.bias ? m.weight(s, 1) : nullptr, m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    typename op::conv3d_grad::template args<T> const all{geometry(s->in, m.batch),
                                                         m.read(s->x),
                                                         m.weight(s, 0),
                                                         m.read(s->gy),
                                                         s->gx_adds,
                                                         m.write(s->gx),
                                                         m.weight_gradient(s, 0),
                                                         O.bias ? m.weight_gradient(s, 1) : nullptr};
    detail::weights_before_input<op::conv3d_grad, B, T>(cx, s, all);
  }
};

/// Transposed convolution without overlap (stride = kernel): every axis grows by the kernel. No bias by default.
/// Parameters: weight (C, Out, kd, kh, kw), start fan_uniform with fan_in = Out * kernel (PyTorch's rule); bias (Out).
template <int Out, extent Kernel = cube(2), bool Bias = false>
struct conv3d_transpose : leaf<conv3d_transpose<Out, Kernel, Bias>> {
  static constexpr char const* name = "conv3d_transpose";
  static constexpr traits trait{};

  static constexpr inferred infer(dims in) {
    if (in.rank != 4) return misfit(fault::rank, in.rank, 4);
    return fits(make_dims(index_t(Out), in.n[1] * Kernel.d, in.n[2] * Kernel.h, in.n[3] * Kernel.w));
  }
  static constexpr parameter_list parameters(dims in) {
    index_t const fan = Out * Kernel.size();
    parameter const w{"weight", make_dims(in.n[0], index_t(Out), Kernel.d, Kernel.h, Kernel.w),
                      layout::conv_transpose, start::fan_uniform, fan};
    if constexpr (Bias)
      return {w, parameter{"bias", make_dims(index_t(Out)), layout::same, start::fan_uniform, fan}};
    else
      return {w};
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::conv3d_transpose, B, T>(cx, {m.batch, spatial(s->in), s->in.n[0], Out, Kernel, m.read(s->x),
                                         m.weight(s, 0), Bias ? m.weight(s, 1) : nullptr, m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    run<op::conv3d_transpose_grad, B, T>(
        cx, {m.batch, spatial(s->in), s->in.n[0], Out, Kernel, m.read(s->x), m.weight(s, 0), m.read(s->gy),
             s->gx_adds, m.write(s->gx), m.weight_gradient(s, 0), Bias ? m.weight_gradient(s, 1) : nullptr});
  }
};

}  // namespace insula
