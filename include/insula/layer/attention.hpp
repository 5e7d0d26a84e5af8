// SPDX-License-Identifier: Apache-2.0
// Global multi-head attention over a sequence of tokens.
#pragma once

#include "insula/net/layer.hpp"
#include "insula/op/attention.hpp"

namespace insula {

/// (tokens, 3 C) -> (tokens, C): o = softmax(q k^T / sqrt(C / Heads)) v per head. The input's rows are [q | k | v], each
/// head-major, as a linear layer with timm's weight `attn.qkv` gives them. One number per row of scores is kept; the scores
/// never are.
template <int Heads>
struct attention : leaf<attention<Heads>> {
  static constexpr char const* name = "attention";
  static constexpr traits trait{.keeps_y = true};

  static constexpr inferred infer(dims in) {
    if (in.rank != 2) return misfit(fault::rank, in.rank, 2);
    if (in.n[1] % 3 != 0) return misfit(fault::divisible, in.n[1], 3);
    if (in.n[1] / 3 % Heads != 0) return misfit(fault::heads, in.n[1] / 3, Heads);
    return fits(make_dims(in.n[0], in.n[1] / 3));
  }
  static constexpr index_t saved(dims in) { return Heads * in.n[0]; }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::attention, B, T>(
        cx, {m.batch, s->in.n[0], s->out.n[1], Heads, m.read(s->x), m.write(s->y), m.write(s->saved)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::attention_grad, B, T>(cx, {m.batch, s->in.n[0], s->out.n[1], Heads, m.read(s->x), m.read(s->y),
                                       m.read(s->saved), m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};

}  // namespace insula
