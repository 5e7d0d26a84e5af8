// SPDX-License-Identifier: Apache-2.0
// Cross-entropy of logits, binary and over classes, on the tape.
#pragma once

#include "insula/autograd/tape.hpp"
#include "insula/base/check.hpp"
#include "insula/op/pointwise.hpp"
#include "insula/op/reduce.hpp"
#include "insula/op/target_loss.hpp"

namespace insula {

/// L = mean over all elements of max(x, 0) - x y + log(1 + e^-|x|), x = logits, y = target in [0, 1] (0 or 1, or between:
/// soft labels). positive_weight multiplies the share of the positives, for unbalanced classes. target: logits.size() elements
/// that outlive the backward pass. Adds weight * dL/dx to logits.grad when the tape runs backwards. Returns L.
/// Throws error for an empty batch or a target outside of [0, 1].
template <scalar T, static_shape S, backend B>
double bce_with_logits(var<T, S, B> logits, T const* target, double weight = 1, double positive_weight = 1) {
  index_t const n = logits.size();
  check(n > 0, "bce_with_logits: the batch is empty");
  check(positive_weight > 0, "bce_with_logits: positive_weight is ", positive_weight, ", it must be above 0");
  double sum = 0;
  run<op::bce_with_logits, B, T>(logits.on->cx, {n, positive_weight, logits.value, target, &sum});
  T const scale = T(weight / double(n));
  if (logits.grad)
    logits.on->on_backward([=](context<B>& cx) {
      run<op::bce_with_logits_grad, B, T>(
          cx, {n, positive_weight, logits.value, target, scale, true, logits.grad});
    });
  return sum / double(n);
}

/// L = mean over rows of logsumexp(x) - x[label]: samples of a batch of vectors, tokens of a sequence, or voxels. label: one number
/// in 0 .. classes - 1 per row. Adds weight * dL/dx to logits.grad when the tape runs backwards. Returns L.
/// Throws error for an empty batch or a label outside.
template <scalar T, static_shape S, backend B>
double cross_entropy(var<T, S, B> logits, std::int32_t const* label, double weight = 1) {
  constexpr index_t classes = S::value.channels();
  tape<B>& t = *logits.on;
  check(logits.batch > 0, "cross_entropy: the batch is empty");
  double loss = 0;
  T* const g = logits.grad ? t.template take<T>(logits.size()) : nullptr;
  run<op::cross_entropy, B, T>(t.cx, {logits.size() / classes, classes, logits.value, label, g, &loss});
  if (g)
    t.on_backward([=](context<B>& cx) {
      run<op::axpy, B, T>(cx, {logits.size(), T(weight), g, logits.grad});
    });
  return loss;
}

}  // namespace insula
