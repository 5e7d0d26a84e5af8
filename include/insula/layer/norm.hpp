// SPDX-License-Identifier: Apache-2.0
// Normalisation layers: layer, group and instance norm, with the activation and the shortcut that follow them.
#pragma once

#include "insula/layer/activation.hpp"
#include "insula/op/norm.hpp"

namespace insula {

enum class learned { no, yes };

/// What a norm adds to the variance: 1e-5, the default of PyTorch and MONAI, or 1e-6, that of vision transformers.
enum class norm_eps { five, six };
constexpr double number(norm_eps e) { return e == norm_eps::five ? 1e-5 : 1e-6; }

/// y = (x - mean) / sqrt(var + eps) [* weight + bias], statistics over the channels of each position.
template <learned Affine = learned::yes, norm_eps Eps = norm_eps::five>
struct layer_norm_with : leaf<layer_norm_with<Affine, Eps>> {
  static constexpr char const* name = "layer_norm";
  static constexpr traits trait{.gx_is_gy = true};
  static constexpr double eps = number(Eps);

  static constexpr inferred infer(dims in) {
    return in.rank >= 1 ? fits(in) : misfit(fault::rank, in.rank, 2);
  }
  static constexpr parameter_list parameters(dims in) {
    if constexpr (Affine == learned::yes)
      return {parameter{"weight", make_dims(in.channels()), layout::same, start::ones},
              parameter{"bias", make_dims(in.channels()), layout::same, start::zeros}};
    else
      return {};
  }
  static constexpr index_t saved(dims in) { return 3 * in.positions(); }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    constexpr bool a = Affine == learned::yes;
    run<op::layer_norm, B, T>(
        cx, {m.batch * s->in.positions(), s->in.channels(), eps, m.read(s->x), a ? m.weight(s, 0) : nullptr,
             a ? m.weight(s, 1) : nullptr, m.write(s->y), m.write(s->saved)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    constexpr bool a = Affine == learned::yes;
    run<op::layer_norm_grad, B, T>(
        cx, {m.batch * s->in.positions(), s->in.channels(), m.read(s->x), a ? m.weight(s, 0) : nullptr,
             m.read(s->saved), m.read(s->gy), s->gx_adds, m.write(s->gx),
             a ? m.weight_gradient(s, 0) : nullptr, a ? m.weight_gradient(s, 1) : nullptr});
  }
};
using layer_norm = layer_norm_with<learned::yes>;
using plain_layer_norm = layer_norm_with<learned::no>;

namespace detail {

/// Groups == 0 means one group per channel (instance norm).
template <int Groups>
constexpr index_t group_count(dims in) {
  return Groups == 0 ? in.n[0] : index_t(Groups);
}
template <int Groups>
constexpr inferred group_infer(dims in) {
  if (in.rank != 4) return misfit(fault::rank, in.rank, 4);
  return in.n[0] % group_count<Groups>(in) == 0 ? fits(in)
                                                : misfit(fault::groups, in.n[0], group_count<Groups>(in));
}
template <learned Affine>
constexpr parameter_list affine_parameters(dims in) {
  if constexpr (Affine == learned::yes)
    return {parameter{"weight", make_dims(in.n[0]), layout::same, start::ones},
            parameter{"bias", make_dims(in.n[0]), layout::same, start::zeros}};
  else
    return {};
}
template <int Groups, learned Affine, activation Act, class B, class T>
void group_norm_forward(context<B>& cx, step const* s, arena<T> const& m, T const* skip) {
  constexpr bool a = Affine == learned::yes;
  index_t const groups = group_count<Groups>(s->in);
  run<op::group_norm, B, T>(
      cx, {m.batch, s->in.positions(), s->in.n[0], groups, 1e-5, Act, m.read(s->x), skip,
           a ? m.weight(s, 0) : nullptr, a ? m.weight(s, 1) : nullptr, m.write(s->y), m.write(s->saved)});
}
template <int Groups, learned Affine, activation Act, class B, class T>
void group_norm_backward(context<B>& cx, step const* s, arena<T> const& m, T const* skip, T* gskip) {
  if (!s->active) return;
  constexpr bool a = Affine == learned::yes;
  run<op::group_norm_grad, B, T>(
      cx, {m.batch, s->in.positions(), s->in.n[0], group_count<Groups>(s->in), Act, m.read(s->x), skip,
           a ? m.weight(s, 0) : nullptr, a ? m.weight(s, 1) : nullptr, m.read(s->saved), m.read(s->gy),
           s->gx_adds, m.write(s->gx), s->gx2_adds, gskip, a ? m.weight_gradient(s, 0) : nullptr,
           a ? m.weight_gradient(s, 1) : nullptr});
}

}  // namespace detail

/// y = act(groupnorm(x)): statistics per sample over (channels of a group x positions), eps 1e-5.
/// Groups == 0: one group per channel. Parameters: weight (C), bias (C) if learned.
template <int Groups, activation Act = activation::none, learned Affine = learned::yes>
struct group_norm : leaf<group_norm<Groups, Act, Affine>> {
  static constexpr char const* name = Groups == 0 ? "instance_norm" : "group_norm";
  static constexpr traits trait{.gx_is_gy = true, .saves_always = true};

  static constexpr inferred infer(dims in) { return detail::group_infer<Groups>(in); }
  static constexpr parameter_list parameters(dims in) { return detail::affine_parameters<Affine>(in); }
  static constexpr index_t saved(dims in) { return 3 * detail::group_count<Groups>(in); }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::group_norm_forward<Groups, Affine, Act, B, T>(cx, s, m, nullptr);
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::group_norm_backward<Groups, Affine, Act, B, T>(cx, s, m, nullptr, nullptr);
  }
};
template <activation Act = activation::none>
using instance_norm = group_norm<0, Act, learned::no>;

/// Join: y = act(groupnorm(a) + b), the end of a residual convolution block.
template <int Groups, activation Act = activation::none, learned Affine = learned::yes>
struct group_norm_add : join<group_norm_add<Groups, Act, Affine>> {
  static constexpr char const* name = Groups == 0 ? "instance_norm_add" : "group_norm_add";
  static constexpr traits trait{.gx_is_gy = true, .saves_always = true};

  static constexpr inferred infer(dims a, dims b) {
    return a == b ? detail::group_infer<Groups>(a) : misfit(fault::residual, a.size(), b.size());
  }
  static constexpr parameter_list parameters(dims in) { return detail::affine_parameters<Affine>(in); }
  static constexpr index_t saved(dims in) { return 3 * detail::group_count<Groups>(in); }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::group_norm_forward<Groups, Affine, Act, B, T>(cx, s, m, m.read(s->x2));
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::group_norm_backward<Groups, Affine, Act, B, T>(cx, s, m, m.read(s->x2), m.write(s->gx2));
  }
};
template <activation Act = activation::none>
using instance_norm_add = group_norm_add<0, Act, learned::no>;

}  // namespace insula
