// SPDX-License-Identifier: Apache-2.0
// The concatenating join and U-shaped skips.
#pragma once

#include "insula/net/compose.hpp"
#include "insula/op/gather.hpp"

namespace insula {

/// Join: y = [a, b] on the channel axis.
struct concat : join<concat> {
  static constexpr char const* name = "concat";
  static constexpr traits trait{.keeps_x = false, .keeps_x2 = false};

  static constexpr inferred infer(dims a, dims b) {
    if (a.rank != b.rank) return misfit(fault::join, a.rank, b.rank);
    for (int i = a.rank == 4 ? 1 : 0; i < a.rank - (a.rank == 4 ? 0 : 1); ++i)
      if (a.n[i] != b.n[i]) return misfit(fault::join, a.n[i], b.n[i]);
    dims out = a;
    out.n[a.rank == 4 ? 0 : a.rank - 1] = a.channels() + b.channels();
    return fits(out);
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::concat, B, T>(cx, {m.batch * s->in.positions(), s->in.channels(), s->in2.channels(), m.read(s->x),
                               m.read(s->x2), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    run<op::concat_grad, B, T>(cx, {m.batch * s->in.positions(), s->in.channels(), s->in2.channels(),
                                    m.read(s->gy), s->gx_adds, m.write(s->gx), s->gx2_adds, m.write(s->gx2)});
  }
};

/// y = [Body(x), x] on the channel axis, the long shortcut of a U-shaped network.
template <layer Body>
using skip = residual_with<Body, concat>;

}  // namespace insula
