// SPDX-License-Identifier: Apache-2.0
// What a layer is, and the bases that make one out of a formula: leaf (one input) and join (two inputs).
#pragma once

#include "insula/base/random.hpp"
#include "insula/device/backend.hpp"
#include "insula/device/ranks.hpp"
#include "insula/net/plan.hpp"
#include "insula/op/kernel.hpp"

namespace insula {

/// The tokens that a masked autoencoder's encoder sees: of every sample the first `kept` of a permutation of all its tokens.
struct token_order {
  std::int32_t const* shuffle = nullptr;  ///< (batch, all): token at each place of the permutation
  std::int32_t const* restore = nullptr;  ///< (batch, all): place of each token, the inverse of shuffle
  index_t kept = 0;                       ///< at most what the network's type says; 0: as many as that
};

/// What a pass carries besides numbers.
struct pass_options {
  std::uint8_t const* mask =
      nullptr;  ///< (batch, positions) of the layer mask_token; null: nothing is masked
  bool training =
      false;  ///< drop path draws; batch norms take the statistics of the batch and update the running ones
  random_key key{};  ///< of this pass; layers derive theirs by their weight offset
  rank_group
      ranks{};  ///< whose batches the statistics of batch norms cover together; this process alone by default
  token_order order{};   ///< of layers that keep tokens; empty: all are kept, as they are
  double drop_path = 0;  ///< of the last block of a network with drop_path_by_depth
};

/// Where a network's state is: running statistics, and counters of passes. Never owns. Null for a network without state.
template <class T>
struct program_state {
  T* values = nullptr;
  std::int64_t* counters = nullptr;
  bool fixed = false;  ///< a training pass leaves the state as it is
};

/// The memory a program runs on. Offsets of a step are per sample.
template <class T>
struct arena {
  T const* w;   ///< weight range
  T* gw;        ///< its gradient, or null
  T const* in;  ///< the network's input, memory of the caller
  T* gin;       ///< its gradient (+=), or null
  T* a;         ///< activations
  index_t batch;
  pass_options with{};
  program_state<T> kept{};
  bool again = false;  ///< the second forward pass of a recompute<>: the state has taken this pass in already
  int modalities = 1;  ///< inside modalities<N, L>, where the batch counts N volumes of every sample

  T const* read(index_t offset) const {
    return offset == external ? in : offset < 0 ? nullptr : a + offset * (batch / modalities);
  }
  T* write(index_t offset) const {
    return offset == external ? gin : offset < 0 ? nullptr : a + offset * (batch / modalities);
  }
  T const* weight(step const* s, int k) const { return w + s->w[k]; }
  /// State tensor k of the layer, or null.
  T* state(step const* s, int k) const { return kept.values ? kept.values + s->state[k] : nullptr; }
  std::int64_t* counter(step const* s, int k) const {
    return kept.counters ? kept.counters + s->state[k] : nullptr;
  }
  bool moves_state() const { return with.training && !again && !kept.fixed && kept.values; }
  T* weight_gradient(step const* s, int k) const { return gw && !s->frozen ? gw + s->w[k] : nullptr; }
};

/// A layer follows shapes at compile time, lays its steps into a plan, and runs them.
template <class L>
concept layer = requires(inferred f, plan<1>& p) {
  { L::leaves } -> std::convertible_to<int>;
  { L::follow(f) } -> std::same_as<inferred>;
  { L::lay(p, int{}) } -> std::same_as<int>;
};

/// A layer that joins two branches of a network.
template <class L>
concept joining = requires(dims d, plan<1>& p) {
  { L::infer(d, d) } -> std::same_as<inferred>;
  { L::lay(p, int{}, int{}) } -> std::same_as<int>;
};

namespace detail {
struct leaf_defaults {
  static constexpr int leaves = 1;
  static constexpr traits trait{};
  static constexpr parameter_list parameters(dims) { return {}; }
  static constexpr state_list state(dims) { return {}; }
  static constexpr index_t saved(dims) { return 0; }
};
/// f followed by what a layer made of it: r.
constexpr inferred pass(inferred f, inferred r, char const* name) {
  if (!f) return f;
  f.out = r.out, f.why = r.why, f.got = r.got, f.want = r.want;
  if (r)
    ++f.layer;
  else
    f.name = name;
  return f;
}
/// The two branches of join J carry as many modalities, unless it sums over them.
template <class J>
constexpr inferred meet(inferred f, int other) {
  if constexpr (!requires { J::fuses; })
    if (f && f.modalities != other) f = pass(f, misfit(fault::modalities, f.modalities, other), J::name);
  return f;
}
}  // namespace detail

/// Base of a layer with one input and one line in the program. Self gives:
///   static constexpr char const* name;
///   static constexpr inferred infer(dims in);
///   static constexpr parameter_list parameters(dims in);    (optional)
///   static constexpr state_list state(dims in);             (optional: what is kept from pass to pass)
///   static constexpr index_t saved(dims in);                (optional: elements per sample kept for the backward pass)
///   static constexpr traits trait;                          (optional)
///   template <class B, class T> static void forward(context<B>&, step const*, arena<T> const&);
///   template <class B, class T> static void backward(context<B>&, step const*, arena<T> const&);
template <class Self>
struct leaf : detail::leaf_defaults {
  static constexpr dims shape_of(dims in, dims) { return Self::infer(in).out; }
  static constexpr inferred follow(inferred f) {
    return f ? detail::pass(f, Self::infer(f.out), Self::name) : f;
  }
  template <int N>
  static constexpr int lay(plan<N>& p, int x) {
    return p.template add<Self>(x);
  }
  template <class D>
  static void describe(D& d) {
    d.template leaf<Self>();
  }
};

/// Base of a layer that joins two values: infer(dims a, dims b); the step's x, x2 are a, b.
template <class Self>
struct join : detail::leaf_defaults {
  static constexpr dims shape_of(dims a, dims b) { return Self::infer(a, b).out; }
  static constexpr inferred follow(inferred f, dims b) {
    return f ? detail::pass(f, Self::infer(f.out, b), Self::name) : f;
  }
  template <int N>
  static constexpr int lay(plan<N>& p, int a, int b) {
    return p.template add<Self>(a, b);
  }
  template <class D>
  static void describe(D& d) {
    d.template leaf<Self>();
  }
};

namespace detail {
/// Runs the gradient op of a layer with the trait gx_is_x: where gx lies over x, the weights' gradients first, for they read x.
template <class Op, class B, class T>
void weights_before_input(context<B>& cx, step const* s, typename Op::template args<T> a) {
  if (s->gx < 0 || s->gx != s->x) return run<Op, B, T>(cx, a);
  auto first = a;
  first.gx = nullptr, a.gw = a.gb = nullptr;
  run<Op, B, T>(cx, first);
  run<Op, B, T>(cx, a);
}
}  // namespace detail

}  // namespace insula
