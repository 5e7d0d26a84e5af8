// SPDX-License-Identifier: Apache-2.0
// The learnable mask token of masked image modelling.
#pragma once

#include "insula/net/layer.hpp"
#include "insula/op/pointwise.hpp"

namespace insula {

/// y[p] = mask[p] ? token : x[p], with the mask of the pass (pass_options::mask, one byte per position and sample); the
/// identity when the pass has none. Parameter: mask_token (1, 1, C), start small_normal.
struct mask_token : leaf<mask_token> {
  static constexpr char const* name = "mask_token";
  static constexpr traits trait{.keeps_x = false, .in_place = true, .gx_is_gy = true};

  static constexpr inferred infer(dims in) {
    return in.rank >= 2 ? fits(in) : misfit(fault::rank, in.rank, 4);
  }
  static constexpr parameter_list parameters(dims in) {
    return {parameter{"mask_token", make_dims(1, 1, in.channels()), layout::same, start::small_normal}};
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::mask_token, B, T>(cx, {m.batch, s->in.positions(), s->in.channels(), m.read(s->x), m.with.mask,
                                   m.weight(s, 0), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    run<op::mask_token_grad, B, T>(cx, {m.batch, s->in.positions(), s->in.channels(), m.with.mask,
                                        m.read(s->gy), s->gx_adds, m.write(s->gx), m.weight_gradient(s, 0)});
  }
};

}  // namespace insula
