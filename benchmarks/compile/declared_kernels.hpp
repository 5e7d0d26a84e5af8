// SPDX-License-Identifier: Apache-2.0
// Kernels declared and not defined, and one training step of a network: what a model's translation unit costs without them.
#pragma once

#include "insula/insula.hpp"

template <class Op>
struct insula::kernel<Op, insula::cpu, float> {
  static void run(context<cpu>&, typename Op::template args<float> const&);
};

/// Forward pass, mean squared distance to a target, backward pass, optimiser.
template <insula::layer Net, insula::static_shape In>
double training_step(insula::context<insula::cpu>& cx, insula::model<Net, In>& m,
                     insula::adamw<float>& optimiser, float const* x, float const* target) {
  insula::tape<insula::cpu> t(cx);
  auto const y = insula::apply<Net>(m.params(), insula::constant<In>(t, x, 1));
  double const loss = insula::masked_reconstruction(y.out, target, nullptr);
  t.backward();
  optimiser.step(cx, m.g(), m.w(), 1e-4);
  return loss;
}
