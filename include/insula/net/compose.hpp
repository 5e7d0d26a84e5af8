// SPDX-License-Identifier: Apache-2.0
// Layers made of layers: seq, list, repeat, residual, skip, branch, tap, recall, named, frozen, recompute.
#pragma once

#include <string>

#include "insula/net/layer.hpp"

namespace insula {

/// A string as a template argument: named<"blocks", L>.
template <int N>
struct fixed_string {
  char text[N]{};
  constexpr fixed_string(char const (&s)[N]) {
    for (int i = 0; i < N; ++i) text[i] = s[i];
  }
};

namespace detail {
template <class H, class... Rest, class B, class T>
void backward_in_reverse(context<B>& cx, step const* end, arena<T> const& m) {
  constexpr int after = (Rest::leaves + ... + 0);
  if constexpr (sizeof...(Rest) > 0) backward_in_reverse<Rest...>(cx, end, m);
  H::backward(cx, end - after - H::leaves, m);
}
}  // namespace detail

/// y = (... L2(L1(x)))
template <layer... L>
struct seq {
  static constexpr int leaves = (L::leaves + ... + 0);
  static constexpr inferred follow(inferred f) {
    ((f = L::follow(f)), ...);
    return f;
  }
  template <int N>
  static constexpr int lay(plan<N>& p, int x) {
    ((x = L::lay(p, x)), ...);
    return x;
  }
  template <class D>
  static void describe(D& d) {
    (L::describe(d), ...);
  }
  template <class B, class T>
  static void forward(context<B>& cx, [[maybe_unused]] step const* s, arena<T> const& m) {
    ((L::forward(cx, s, m), s += L::leaves), ...);
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if constexpr (sizeof...(L) > 0) detail::backward_in_reverse<L...>(cx, s + leaves, m);
  }
};

/// Like seq; the parameters of the i-th member are named "i.…", as in PyTorch's Sequential and ModuleList.
template <layer... L>
struct list : seq<L...> {
  template <class D>
  static void describe(D& d) {
    int i = d.first_index();
    ((d.push(std::to_string(i++)), L::describe(d), d.pop()), ...);
  }
  static constexpr int members = int(sizeof...(L));
};

namespace detail {
template <class L>
concept listed = requires {
  L::members;
};
}  // namespace detail

/// Body applied Times times, each time with weights of its own: "0.…", "1.…" (a list continues its numbers). The body is
/// instantiated once.
template <int Times, layer Body>
struct repeat {
  static constexpr int leaves = Times * Body::leaves;
  static constexpr inferred follow(inferred f) {
    for (int i = 0; i < Times && f; ++i) f = Body::follow(f);
    return f;
  }
  template <int N>
  static constexpr int lay(plan<N>& p, int x) {
    repetition const outer = p.repeats;
    for (int i = 0; i < Times; ++i) p.repeats = {i, Times}, x = Body::lay(p, x);
    p.repeats = outer;
    return x;
  }
  template <class D>
  static void describe(D& d) {
    for (int i = 0; i < Times; ++i) {
      if constexpr (detail::listed<Body>) {
        d.start_at(i * Body::members);
        Body::describe(d);
        d.start_at(0);
      } else {
        d.push(std::to_string(i)), Body::describe(d), d.pop();
      }
    }
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    for (int i = 0; i < Times; ++i) Body::forward(cx, s + i * Body::leaves, m);
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    for (int i = Times; i-- > 0;) Body::backward(cx, s + i * Body::leaves, m);
  }
};

/// Prefixes the names of L's parameters: named<"attn", linear<96>> has "attn.weight". Any dots are the user's.
template <fixed_string Name, class L>
struct named : L {
  template <class D>
  static void describe(D& d) {
    d.push(Name.text), L::describe(d), d.pop();
  }
};

/// The tensors of L start otherwise than their layers say: Rule::revise(tensor_place&) is called for each of them, with
/// its name as far as it is known inside L.
template <class Rule, layer L>
struct started_by : L {
  template <class D>
  static void describe(D& d) {
    auto const first = d.places.size();
    L::describe(d);
    for (auto i = first; i < d.places.size(); ++i) Rule::revise(d.places[i]);
  }
};

/// Weights inside L get no gradient and are skipped by optimisers; gradients pass through.
template <layer L>
struct frozen : L {
  template <int N>
  static constexpr int lay(plan<N>& p, int x) {
    bool const outer = p.freezing;
    p.freezing = true;
    x = L::lay(p, x);
    p.freezing = outer;
    return x;
  }
};

/// Activation checkpointing: tensors inside L are not kept between the passes; L's forward pass runs again just before its
/// backward pass. Numbers do not change, and state is updated once. A recompute inside a recompute, or a tap inside one, is not allowed.
template <layer L>
struct recompute : L {
  template <int N>
  static constexpr int lay(plan<N>& p, int x) {
    int const first = p.steps;
    x = L::lay(p, x);
    p.recomputed[p.segments++] = {first, p.steps - 1};
    return x;
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (s[L::leaves - 1].active) {
      arena<T> second = m;
      second.again = true;
      L::forward(cx, s, second);
    }
    L::backward(cx, s, m);
  }
};

/// y = Last(Body(x)): tensors inside Body, its result included, are not kept between the passes; Body's forward pass runs again
/// just before the backward pass of Last, a single layer, which itself runs once. For cheap bodies whose result an expensive layer reads: a norm
/// before a convolution. Otherwise as recompute.
template <layer Body, layer Last>
requires(Last::leaves == 1) struct recompute_before : seq<Body, Last> {
  template <int N>
  static constexpr int lay(plan<N>& p, int x) {
    int const first = p.steps;
    x = seq<Body, Last>::lay(p, x);
    p.recomputed[p.segments++] = {first, p.steps - 1, true};
    return x;
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (s[Body::leaves].active) {
      arena<T> second = m;
      second.again = true;
      Body::forward(cx, s, second);
    }
    seq<Body, Last>::backward(cx, s, m);
  }
};

/// L, a single layer whose input the leaf Maker makes in the step before it. That input is not kept between the passes: Maker's
/// forward pass runs again just before the backward pass of L. For a join that is cheap, which recompute_before does not take.
template <class Maker, layer L>
requires(L::leaves == 1 && Maker::leaves == 1) struct recompute_input : L {
  template <int N>
  static constexpr int lay(plan<N>& p, int x) {
    if (p.v[x].made_by != p.steps - 1) throw "recompute_input: the input is not made by the step before";
    p.recomputed[p.segments++] = {p.steps - 1, p.steps, true};
    return L::lay(p, x);
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (s->active) {
      arena<T> second = m;
      second.again = true;
      Maker::forward(cx, s - 1, second);
    }
    L::backward(cx, s, m);
  }
};

/// y = J(Body(x), x)
template <layer Body, joining J>
struct residual_with {
  static constexpr int leaves = Body::leaves + J::leaves;
  static constexpr inferred follow(inferred f) {
    inferred const in = f;
    f = Body::follow(f);
    return J::follow(detail::meet<J>(f, in.modalities), in.out);
  }
  template <int N>
  static constexpr int lay(plan<N>& p, int x) {
    int const body = Body::lay(p, x);
    return J::lay(p, body, x);
  }
  template <class D>
  static void describe(D& d) {
    Body::describe(d), J::describe(d);
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    Body::forward(cx, s, m), J::forward(cx, s + Body::leaves, m);
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    J::backward(cx, s + Body::leaves, m), Body::backward(cx, s, m);
  }
};

/// y = J(First(x), Second(x))
template <joining J, layer First, layer Second>
struct branch {
  static constexpr int leaves = First::leaves + Second::leaves + J::leaves;
  static constexpr inferred follow(inferred f) {
    inferred const in = f;
    f = First::follow(f);
    if (!f) return f;
    inferred const a = f;
    f.out = in.out, f.modalities = in.modalities;
    f = Second::follow(f);
    if (!f) return f;
    inferred const b = f;
    f.out = a.out, f.modalities = a.modalities;
    return J::follow(detail::meet<J>(f, b.modalities), b.out);
  }
  template <int N>
  static constexpr int lay(plan<N>& p, int x) {
    int const a = First::lay(p, x), b = Second::lay(p, x);
    return J::lay(p, a, b);
  }
  template <class D>
  static void describe(D& d) {
    First::describe(d), Second::describe(d), J::describe(d);
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    First::forward(cx, s, m), Second::forward(cx, s + First::leaves, m);
    J::forward(cx, s + First::leaves + Second::leaves, m);
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    J::backward(cx, s + First::leaves + Second::leaves, m);
    Second::backward(cx, s + First::leaves, m), First::backward(cx, s, m);
  }
};

/// y = x
struct identity : seq<> {};

/// Registers L(x) as output number Label of the network and passes x on. recall<Label> reads it later.
template <int Label, layer L = identity>
struct tap : L {
  static_assert(Label >= 0 && Label < most_taps, "a tap's label is 0 to 7");
  static constexpr inferred follow(inferred f) {
    inferred const in = f;
    f = L::follow(f);
    if (f && f.modalities != 1) f = detail::pass(f, misfit(fault::modalities, f.modalities, 1), "tap");
    if (!f) return f;
    f.tap[Label] = f.out;
    f.out = in.out, f.modalities = in.modalities;
    return f;
  }
  template <int N>
  static constexpr int lay(plan<N>& p, int x) {
    int const y = L::lay(p, x);
    p.v[y].output = true;
    p.tap[Label] = y + 1;
    return x;
  }
};

/// L, whose taps serve recall inside L alone. They are no outputs of the network: no memory is held for them or for their
/// gradients longer than L itself needs it.
template <layer L>
struct inner_taps : L {
  static constexpr inferred follow(inferred f) {
    inferred const before = f;
    f = L::follow(f);
    for (int k = 0; k < most_taps; ++k) f.tap[k] = before.tap[k];
    return f;
  }
  template <int N>
  static constexpr int lay(plan<N>& p, int x) {
    int before[most_taps]{};
    for (int k = 0; k < most_taps; ++k) before[k] = p.tap[k];
    int const y = L::lay(p, x);
    for (int k = 0; k < most_taps; ++k) {
      if (p.tap[k] > 0 && p.tap[k] != before[k]) p.v[p.tap[k] - 1].output = false;
      p.tap[k] = before[k];
    }
    return y;
  }
};

/// y = what tap<Label> registered, whatever x is.
template <int Label>
struct recall : seq<> {
  static constexpr inferred follow(inferred f) {
    if (!f) return f;
    if (f.tap[Label].rank == 0) return detail::pass(f, misfit(fault::recall, Label, Label), "recall");
    f.out = f.tap[Label], f.modalities = 1;
    return f;
  }
  template <int N>
  static constexpr int lay(plan<N>& p, int) {
    return p.tap[Label] - 1;
  }
};

}  // namespace insula
