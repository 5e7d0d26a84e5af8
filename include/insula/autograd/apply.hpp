// SPDX-License-Identifier: Apache-2.0
// A whole network as one entry of a tape, and networks without a tape.
#pragma once

#include "insula/autograd/tape.hpp"
#include "insula/base/check.hpp"
#include "insula/net/model.hpp"

namespace insula {

/// What a network gives: its result, and its taps (a pyramid).
template <layer Net, static_shape In, input_gradient G, scalar T, backend B>
struct outputs {
  using program_type = program<Net, In, G>;

  var<T, typename program_type::output, B> out;
  T* arena;
  bool differentiable;

  /// The output that tap<Label> registered.
  template <int Label>
  auto tap() const {
    constexpr int v = program_type::training.tap[Label] - 1;
    static_assert(v >= 0, "the network has no tap with this label");
    using shape = typename program_type::template tap_shape<Label>;
    if constexpr (v >= 0) {
      constexpr index_t at = program_type::training.v[v].at, g = program_type::training.v[v].gradient;
      return var<T, shape, B>{arena + at * out.batch,
                              differentiable && g >= 0 ? arena + g * out.batch : nullptr, out.batch, out.on};
    } else {
      return var<T, shape, B>{};
    }
  }
};

namespace detail {

/// The program's steps for a pass that keeps `order.kept` tokens of each sample: the table itself if that is as many as its
/// shapes say, else a copy with fewer, in memory of the stack. Offsets stay those of the maximum.
template <int N>
step const* steps_of(plan<N> const& p, token_order const& order, scratch_stack& memory) {
  index_t const fewer = p.most_kept > 0 && order.kept > 0 ? p.most_kept - order.kept : 0;
  if (fewer == 0) return p.at;
  check(fewer > 0, "apply: ", order.kept, " tokens are to be kept, but the network is made for at most ",
        p.most_kept);
  step* const at = memory.take<step>(p.steps);
  for (int i = 0; i < p.steps; ++i) {
    step& s = *::new (at + i) step(p.at[i]);
    int const x2 = p.reads[i][1];
    if (p.v[p.reads[i][0]].kept) s.in.n[0] -= fewer;
    if (x2 >= 0 && p.v[x2].kept) s.in2.n[0] -= fewer;
    if (!p.v[p.writes[i]].kept) continue;
    check(!p.v[p.writes[i]].output, "apply: layer ", p.at[i].name,
          " gives an output of the network, which must have ", s.out.n[0], " tokens: keep ", p.most_kept,
          " of them");
    s.out.n[0] -= fewer;
  }
  return at;
}

}  // namespace detail

/// y = Net(x) as one entry of x's tape. Activations live on the tape in the program's arena. Weight gradients are added
/// to w.g, the input's to x.grad (both +=) when the tape runs backwards. Losses add to the outputs' gradients.
/// G says whether x.grad is wanted; the network's memory plan depends on it.
template <layer Net, input_gradient G = input_gradient::no, scalar T, static_shape In, backend B>
auto apply(weights<T> w, var<T, In, B> x, pass_options with = {}) -> outputs<Net, In, G, T, B> {
  using p = program<Net, In, G>;
  if constexpr (p::ok) {
    tape<B>& t = *x.on;
    T* a = t.template take<T>(p::training.activations * x.batch);
    arena<T> const m{w.w, w.g,     x.value, G == input_gradient::yes ? x.grad : nullptr,
                     a,   x.batch, with,    w.state};
    step const* const steps = detail::steps_of(p::training, with.order, t.memory());
    Net::forward(t.cx, steps, m);
    constexpr auto const& plan = p::training;
    for (int v = 1; v < plan.values; ++v)
      if (plan.v[v].output && plan.v[v].gradient >= 0)
        run<op::fill, B, T>(t.cx, {plan.v[v].shape.size() * x.batch, T(0), a + plan.v[v].gradient * x.batch});
    t.on_backward([m, steps](context<B>& cx) { Net::backward(cx, steps, m); });
    constexpr value const& r = plan.v[plan.result];
    return {{a + r.at * x.batch, r.gradient >= 0 ? a + r.gradient * x.batch : nullptr, x.batch, &t}, a, true};
  } else {
    return {};
  }
}

/// apply() with the output shape written out; a shape that the network does not produce is a compile error.
template <static_shape Out, layer Net, input_gradient G = input_gradient::no, scalar T, static_shape In,
          backend B>
auto apply_as(weights<T> w, var<T, In, B> x, pass_options with = {}) {
  static_assert(!program<Net, In, G>::ok || Out::value == program<Net, In, G>::out,
                "apply_as: the declared output shape is not what the network produces");
  return apply<Net, G>(w, x, with);
}

/// y = Net(x) without gradients: activations use memory again as soon as their last reader is done.
/// Writes (=) batch * out.size() elements to y. `memory` lends inference.activations * batch elements meanwhile.
template <layer Net, static_shape In, scalar T, backend B>
void infer(context<B>& cx, scratch_stack& memory, weights<T> w, T const* x, index_t batch, T* y,
           pass_options with = {}) {
  using p = program<Net, In>;
  if constexpr (p::ok) {
    auto const mark = memory.here();
    T* a = memory.template take<T>(p::inference.activations * batch);
    Net::forward(cx, detail::steps_of(p::inference, with.order, memory),
                 arena<T>{w.w, nullptr, x, nullptr, a, batch, with, w.state});
    run<op::copy, B, T>(cx, {p::out.size() * batch, a + p::inference.v[p::inference.result].at * batch, y});
    memory.release(mark);
  }
}

/// The same for a network without state.
template <layer Net, static_shape In, scalar T, backend B>
void infer(context<B>& cx, scratch_stack& memory, T const* w, T const* x, index_t batch, T* y,
           pass_options with = {}) {
  infer<Net, In>(cx, memory, weights<T>{w}, x, batch, y, with);
}

/// The result of infer() on a tape, as a constant: the teacher of a momentum encoder, a frozen encoder.
template <layer Net, scalar T, static_shape In, backend B>
auto apply_without_gradient(weights<T> w, var<T, In, B> x, pass_options with = {}) {
  using p = program<Net, In>;
  tape<B>& t = *x.on;
  T* y = t.template take<T>(p::out.size() * x.batch);
  infer<Net, In>(t.cx, t.memory(), w, x.value, x.batch, y, with);
  return var<T, typename p::output, B>{y, nullptr, x.batch, &t};
}
template <layer Net, scalar T, static_shape In, backend B>
auto apply_without_gradient(T const* w, var<T, In, B> x, pass_options with = {}) {
  return apply_without_gradient<Net>(weights<T>{w}, x, with);
}

}  // namespace insula
