// SPDX-License-Identifier: Apache-2.0
// Activations as layers, and the joins add and drop_path.
#pragma once

#include "insula/base/check.hpp"
#include "insula/net/compose.hpp"
#include "insula/op/copy.hpp"
#include "insula/op/pointwise.hpp"

namespace insula {

namespace detail {
/// ga (+)= gy, for layers whose input gradient is gy itself; nothing to do where both share memory.
template <class B, class T>
void hand_down(context<B>& cx, index_t n, T const* gy, bool adds, T* ga) {
  if (!ga || ga == gy) return;
  if (adds)
    run<op::axpy, B, T>(cx, {n, T(1), gy, ga});
  else
    run<op::copy, B, T>(cx, {n, gy, ga});
}
}  // namespace detail

/// y = act(x), element-wise.
template <activation Act>
struct activate : leaf<activate<Act>> {
  static constexpr char const* name = Act == activation::relu         ? "relu"
                                      : Act == activation::leaky_relu ? "leaky_relu"
                                      : Act == activation::gelu       ? "gelu"
                                                                      : "identity";
  static constexpr traits trait{.in_place = true, .gx_is_gy = true};

  static constexpr inferred infer(dims in) { return fits(in); }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::activate, B, T>(cx, {m.batch * s->in.size(), Act, m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::activate_grad, B, T>(
        cx, {m.batch * s->in.size(), Act, m.read(s->x), m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};
using relu = activate<activation::relu>;
using leaky_relu = activate<activation::leaky_relu>;
using gelu = activate<activation::gelu>;

/// Join: y = a + b.
struct add : join<add> {
  static constexpr char const* name = "add";
  static constexpr traits trait{
      .keeps_x = false, .keeps_x2 = false, .in_place = true, .gx_is_gy = true, .gx2_is_gy = true};

  static constexpr inferred infer(dims a, dims b) {
    return a == b ? fits(a) : misfit(fault::residual, a.size(), b.size());
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::add, B, T>(cx, {m.batch * s->in.size(), m.read(s->x), m.read(s->x2), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    index_t const n = m.batch * s->in.size();
    detail::hand_down(cx, n, m.read(s->gy), s->gx_adds, m.write(s->gx));
    detail::hand_down(cx, n, m.read(s->gy), s->gx2_adds, m.write(s->gx2));
  }
};

/// y = x + Body(x)
template <layer Body>
using residual = residual_with<Body, add>;

namespace detail {
/// The random numbers of one drop-path layer in one pass.
inline random_key drop_path_key(step const* s, pass_options const& with) {
  return {with.key.seed, mix(with.key.stream, std::uint64_t(s->ordinal)), with.key.sub};
}
template <class B, class T>
void drop_path_forward(context<B>& cx, step const* s, arena<T> const& m, double rate) {
  run<op::drop_path, B, T>(cx, {m.batch, s->in.size(), rate, m.with.training, drop_path_key(s, m.with),
                                m.read(s->x), m.read(s->x2), m.write(s->y)});
}
template <class B, class T>
void drop_path_backward(context<B>& cx, step const* s, arena<T> const& m, double rate) {
  if (!s->active) return;
  if (s->gx != absent)
    run<op::drop_path_grad, B, T>(cx, {m.batch, s->in.size(), rate, m.with.training, drop_path_key(s, m.with),
                                       m.read(s->gy), s->gx_adds, m.write(s->gx)});
  hand_down(cx, m.batch * s->in.size(), m.read(s->gy), s->gx2_adds, m.write(s->gx2));
}
}  // namespace detail

/// Join: y = keep_n / (1 - rate) a + b per sample n while training, a + b otherwise (stochastic depth). The rate is given
/// in thousandths, because a class template takes no floating-point argument in every supported compiler.
template <int PerMille>
struct drop_path : join<drop_path<PerMille>> {
  static_assert(PerMille >= 0 && PerMille < 1000, "drop_path takes its rate in thousandths, 0 to 999");
  static constexpr char const* name = "drop_path";
  static constexpr double rate = PerMille / 1000.0;
  static constexpr traits trait{.keeps_x = false, .keeps_x2 = false, .gx2_is_gy = true};

  static constexpr inferred infer(dims a, dims b) {
    return a == b ? fits(a) : misfit(fault::residual, a.size(), b.size());
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::drop_path_forward(cx, s, m, rate);
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::drop_path_backward(cx, s, m, rate);
  }
};

/// The same with a rate that rises from 0 in the first block of a repeat<> to pass_options::drop_path in the last:
/// drop_path i / (blocks - 1) in block i, the rule of timm's vision transformers.
struct drop_path_by_depth : join<drop_path_by_depth> {
  static constexpr char const* name = "drop_path";
  static constexpr traits trait{.keeps_x = false, .keeps_x2 = false, .gx2_is_gy = true};

  static constexpr inferred infer(dims a, dims b) {
    return a == b ? fits(a) : misfit(fault::residual, a.size(), b.size());
  }
  static double rate(step const* s, pass_options const& with) {
    check(with.drop_path >= 0 && with.drop_path < 1, "drop_path is ", with.drop_path,
          ", it must be 0 or more and less than 1");
    return s->repeats.turns > 1 ? with.drop_path * s->repeats.turn / (s->repeats.turns - 1) : 0;
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::drop_path_forward(cx, s, m, rate(s, m.with));
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::drop_path_backward(cx, s, m, rate(s, m.with));
  }
};

}  // namespace insula
