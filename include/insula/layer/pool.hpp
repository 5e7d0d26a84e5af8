// SPDX-License-Identifier: Apache-2.0
// Global average pooling and L2 normalisation of vectors.
#pragma once

#include "insula/net/layer.hpp"
#include "insula/op/reduce.hpp"

namespace insula {

/// (C, D, H, W) or (tokens, C) -> (C): mean over positions.
struct global_average : leaf<global_average> {
  static constexpr char const* name = "global_average";
  static constexpr traits trait{.keeps_x = false};

  static constexpr inferred infer(dims in) {
    return in.rank >= 2 ? fits(make_dims(in.channels())) : misfit(fault::rank, in.rank, 4);
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::average_pool, B, T>(cx,
                                {m.batch, s->in.positions(), s->in.channels(), m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::average_pool_grad, B, T>(
        cx, {m.batch, s->in.positions(), s->in.channels(), m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};

/// y = x / max(||x||_2, 1e-12) over the channels of each position.
struct l2_normalise : leaf<l2_normalise> {
  static constexpr char const* name = "l2_normalise";
  static constexpr traits trait{};

  static constexpr inferred infer(dims in) { return fits(in); }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::l2_normalise, B, T>(cx,
                                {m.batch * s->in.positions(), s->in.channels(), m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::l2_normalise_grad, B, T>(cx, {m.batch * s->in.positions(), s->in.channels(), m.read(s->x),
                                          m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};

}  // namespace insula
