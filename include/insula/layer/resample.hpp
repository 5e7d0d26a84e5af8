// SPDX-License-Identifier: Apache-2.0
// Resizing layers: by a factor, to a size, and to the size of another branch.
#pragma once

#include "insula/layer/activation.hpp"
#include "insula/op/resample.hpp"

namespace insula {

/// (C, D, H, W) -> (C, To): nearest or trilinear without corner alignment.
template <extent To, resizing How = resizing::trilinear>
struct resize_to : leaf<resize_to<To, How>> {
  static constexpr char const* name = "resize_to";
  static constexpr traits trait{.keeps_x = false};

  static constexpr inferred infer(dims in) {
    return in.rank == 4 ? fits(volume_dims(in.n[0], To)) : misfit(fault::rank, in.rank, 4);
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::resize, B, T>(cx, {m.batch, s->in.n[0], spatial(s->in), To, How, m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::resize_grad, B, T>(
        cx, {m.batch, s->in.n[0], spatial(s->in), To, How, m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};

/// Join: y = resize(a -> extent of b) + b, the top-down path of a feature pyramid (Lin et al. 2017, arXiv 1612.03144).
template <resizing How = resizing::trilinear>
struct resize_add : join<resize_add<How>> {
  static constexpr char const* name = "resize_add";
  static constexpr traits trait{.keeps_x = false, .keeps_x2 = false, .gx2_is_gy = true};

  static constexpr inferred infer(dims a, dims b) {
    if (a.rank != 4) return misfit(fault::rank, a.rank, 4);
    return a.n[0] == b.n[0] ? fits(b) : misfit(fault::channels, a.n[0], b.n[0]);
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    T* y = m.write(s->y);
    run<op::resize, B, T>(cx, {m.batch, s->in.n[0], spatial(s->in), spatial(s->in2), How, m.read(s->x), y});
    run<op::add, B, T>(cx, {m.batch * s->out.size(), y, m.read(s->x2), y});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    if (s->gx != absent)
      run<op::resize_grad, B, T>(cx, {m.batch, s->in.n[0], spatial(s->in), spatial(s->in2), How,
                                      m.read(s->gy), s->gx_adds, m.write(s->gx)});
    detail::hand_down(cx, m.batch * s->out.size(), m.read(s->gy), s->gx2_adds, m.write(s->gx2));
  }
};

}  // namespace insula
