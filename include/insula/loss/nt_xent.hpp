// SPDX-License-Identifier: Apache-2.0
// NT-Xent: two views of every subject attract each other, all other views repel. On one rank or over several.
#pragma once

#include "insula/autograd/tape.hpp"
#include "insula/base/check.hpp"
#include "insula/device/ranks.hpp"
#include "insula/op/nt_xent.hpp"
#include "insula/op/pointwise.hpp"

namespace insula {

/// Contrastive loss of op::nt_xent over the views of all ranks (Chen et al. 2020; 3D-Neuro-SimCLR simclr/modules/nt_xent.py): row a
/// of zi and row a of zj are the two views of one subject; the loss normalises them itself. With `ranks`, whose batches must be
/// equal, every rank gets the same loss of all M = batch x ranks subjects, and the gradient of that loss with respect to its own
/// rows: gradients of weights are then to be summed over ranks. Adds weight * grad_scale * dL/dz to zi.grad and zj.grad when the
/// tape runs backwards. Returns L, unscaled. Throws error for fewer than two subjects.
///   nt_xent loss{.temperature = 0.5};
///   double const l = loss(apply<net>(w, view1).out, apply<net>(w, view2).out);
struct nt_xent {
  double temperature = 0.5;
  double grad_scale =
      1;  ///< 1 / ranks emulates the published program, which averages over ranks what is a sum
  rank_group ranks{};

  template <scalar T, index_t Width, index_t Other, backend B>
  double operator()(var<T, shape<Width>, B> zi, var<T, shape<Other>, B> zj, double weight = 1) const {
    static_assert(Width == Other, "nt_xent: the two views differ in width: take both from one projection");
    check(zi.batch == zj.batch, "nt_xent: the first view has ", zi.batch, " samples, the second ", zj.batch,
          ": every sample needs both");
    tape<B>& t = *zi.on;
    index_t const own = zi.batch * Width, pairs = zi.batch * ranks.size, half = pairs * Width;
    T *const z = t.template take<T>(2 * half), *const gz = zi.grad || zj.grad ? t.template take<T>(2 * half)
                                                                              : nullptr;
    gather(t.cx, own, zi.value, z), gather(t.cx, own, zj.value, z + half);
    double loss = 0;
    run<op::nt_xent, B, T>(t.cx, {pairs, Width, temperature, z, gz, &loss});
    if (gz) {
      T const *const gi = gz + ranks.rank * own, *const gj = gi + half;
      T const scale = T(weight * grad_scale);
      t.on_backward([=](context<B>& cx) {
        if (zi.grad) run<op::axpy, B, T>(cx, {own, scale, gi, zi.grad});
        if (zj.grad) run<op::axpy, B, T>(cx, {own, scale, gj, zj.grad});
      });
    }
    return loss;
  }

 private:
  template <scalar T, class B>
  void gather(context<B>& cx, index_t n, T const* mine, T* all) const {
    check(ranks.size == 1 || ranks.gather, "nt_xent: ", ranks.size,
          " ranks are given without rank_group::gather, which exchanges their views");
    if (ranks.gather)
      ranks.gather(ranks.self, mine, all, n * index_t(sizeof(T)));
    else
      run<op::copy, B, T>(cx, {n, mine, all});
  }
};

}  // namespace insula
