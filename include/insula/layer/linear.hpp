// SPDX-License-Identifier: Apache-2.0
// Linear layers: linear over the channels of any shape, and the transformer's feed-forward half-block.
#pragma once

#include "insula/net/layer.hpp"
#include "insula/op/gemm.hpp"
#include "insula/op/pointwise.hpp"

namespace insula {

namespace detail {
/// The same positions with another number of channels.
constexpr dims with_channels(dims in, index_t channels) {
  in.n[in.rank == 4 ? 0 : in.rank - 1] = channels;
  return in;
}
}  // namespace detail

enum class bias { no, yes };

/// y = x W^T + b over the channel axis of a vector, a sequence or a volume.
/// Parameters: weight (Out, C), bias (Out), both fan_uniform with fan_in = C.
template <int Out, bias Bias = bias::yes>
struct linear : leaf<linear<Out, Bias>> {
  static constexpr char const* name = "linear";
  static constexpr traits trait{.gx_is_x = true};

  static constexpr inferred infer(dims in) {
    return in.rank >= 1 ? fits(detail::with_channels(in, Out)) : misfit(fault::rank, in.rank, 2);
  }
  static constexpr parameter_list parameters(dims in) {
    index_t const fan = in.channels();
    parameter const w{"weight", make_dims(index_t(Out), fan), layout::linear, start::fan_uniform, fan};
    if constexpr (Bias == bias::yes)
      return {w, parameter{"bias", make_dims(index_t(Out)), layout::same, start::fan_uniform, fan}};
    else
      return {w};
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::linear, B, T>(cx, {m.batch * s->in.positions(), s->in.channels(), Out, m.read(s->x),
                               m.weight(s, 0), Bias == bias::yes ? m.weight(s, 1) : nullptr, m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    detail::weights_before_input<op::linear_grad, B, T>(
        cx, s,
        {m.batch * s->in.positions(), s->in.channels(), Out, m.read(s->x), m.weight(s, 0), m.read(s->gy),
         s->gx_adds, m.write(s->gx), m.weight_gradient(s, 0),
         Bias == bias::yes ? m.weight_gradient(s, 1) : nullptr});
  }
};

/// y = gelu(x W^T + b) over the channel axis: the layers linear and gelu in one pass, with the parameters of linear. What
/// gelu was taken of is kept for the backward pass, which leaves its gradient there.
template <int Out>
struct linear_gelu : leaf<linear_gelu<Out>> {
  static constexpr char const* name = "linear_gelu";
  static constexpr traits trait{.gx_is_x = true};

  static constexpr inferred infer(dims in) { return linear<Out>::infer(in); }
  static constexpr parameter_list parameters(dims in) { return linear<Out>::parameters(in); }
  static constexpr index_t saved(dims in) { return detail::with_channels(in, Out).size(); }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::linear_gelu, B, T>(cx, {m.batch * s->in.positions(), s->in.channels(), Out, m.read(s->x),
                                    m.weight(s, 0), m.weight(s, 1), m.write(s->saved), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    index_t const rows = m.batch * s->in.positions();
    T* const u = m.write(s->saved);
    run<op::activate_grad, B, T>(cx, {rows * Out, activation::gelu, u, m.read(s->gy), false, u});
    detail::weights_before_input<op::linear_grad, B, T>(
        cx, s,
        {rows, s->in.channels(), Out, m.read(s->x), m.weight(s, 0), u, s->gx_adds, m.write(s->gx),
         m.weight_gradient(s, 0), m.weight_gradient(s, 1)});
  }
};

/// Names and eps of MONAI's Swin block.
struct monai_names {
  static constexpr double eps = 1e-5;
  static constexpr char const *weight1 = "mlp.linear1.weight", *bias1 = "mlp.linear1.bias",
                              *weight2 = "mlp.linear2.weight", *bias2 = "mlp.linear2.bias";
};
/// Names and eps of timm's vision transformer block, which MAE and DINOv2 share.
struct timm_names {
  static constexpr double eps = 1e-6;
  static constexpr char const *weight1 = "mlp.fc1.weight", *bias1 = "mlp.fc1.bias",
                              *weight2 = "mlp.fc2.weight", *bias2 = "mlp.fc2.bias";
};

/// y = x + W2 gelu(W1 norm(x) + b1) + b2, hidden width Ratio * C, fused: nothing but x is kept for the backward pass.
/// Parameters: norm2.{weight,bias}, and weight and bias of the two linear layers with the names of Names.
template <int Ratio, class Names = monai_names>
struct feed_forward : leaf<feed_forward<Ratio, Names>> {
  static constexpr char const* name = "feed_forward";
  static constexpr traits trait{.in_place = true, .gx_is_gy = true};
  static constexpr double eps = Names::eps;

  static constexpr inferred infer(dims in) {
    return in.rank >= 1 ? fits(in) : misfit(fault::rank, in.rank, 2);
  }
  static constexpr parameter_list parameters(dims in) {
    index_t const c = in.channels(), h = Ratio * c;
    return {parameter{"norm2.weight", make_dims(c), layout::same, start::ones},
            parameter{"norm2.bias", make_dims(c), layout::same, start::zeros},
            parameter{Names::weight1, make_dims(h, c), layout::linear, start::fan_uniform, c},
            parameter{Names::bias1, make_dims(h), layout::same, start::fan_uniform, c},
            parameter{Names::weight2, make_dims(c, h), layout::linear, start::fan_uniform, h},
            parameter{Names::bias2, make_dims(c), layout::same, start::fan_uniform, h}};
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    index_t const c = s->in.channels();
    run<op::mlp, B, T>(
        cx, {m.batch * s->in.positions(), c, Ratio * c, eps, m.read(s->x), m.weight(s, 0), m.weight(s, 1),
             m.weight(s, 2), m.weight(s, 3), m.weight(s, 4), m.weight(s, 5), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    index_t const c = s->in.channels();
    run<op::mlp_grad, B, T>(cx, {m.batch * s->in.positions(),
                                 c,
                                 Ratio * c,
                                 eps,
                                 m.read(s->x),
                                 m.weight(s, 0),
                                 m.weight(s, 1),
                                 m.weight(s, 2),
                                 m.weight(s, 3),
                                 m.weight(s, 4),
                                 m.weight(s, 5),
                                 m.read(s->gy),
                                 s->gx_adds,
                                 m.write(s->gx),
                                 m.weight_gradient(s, 0),
                                 m.weight_gradient(s, 1),
                                 m.weight_gradient(s, 2),
                                 m.weight_gradient(s, 3),
                                 m.weight_gradient(s, 4),
                                 m.weight_gradient(s, 5)});
  }
};

}  // namespace insula
