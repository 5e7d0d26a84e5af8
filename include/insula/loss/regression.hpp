// SPDX-License-Identifier: Apache-2.0
// Mean absolute and mean squared error of predictions, on the tape.
#pragma once

#include "insula/autograd/tape.hpp"
#include "insula/base/check.hpp"
#include "insula/op/reduce.hpp"
#include "insula/op/target_loss.hpp"

namespace insula {

/// L = mean over all elements of the batch of |y - target|. target: y.size() elements that outlive the backward pass. Adds
/// weight * dL/dy to y.grad when the tape runs backwards; the derivative at 0 is 0. Returns L. Throws error for an empty batch.
template <scalar T, static_shape S, backend B>
double l1(var<T, S, B> y, T const* target, double weight = 1) {
  check(y.size() > 0, "l1: the batch is empty");
  double sum = 0;
  run<op::absolute_error, B, T>(y.on->cx, {y.size(), y.value, target, &sum});
  T const scale = T(weight / double(y.size()));
  if (y.grad)
    y.on->on_backward([=](context<B>& cx) {
      run<op::absolute_error_grad, B, T>(cx, {y.size(), y.value, target, scale, true, y.grad});
    });
  return sum / double(y.size());
}

/// L = mean over all elements of the batch of (y - target)^2. target: y.size() elements that outlive the backward pass. Adds
/// weight * dL/dy to y.grad when the tape runs backwards. Returns L. Throws error for an empty batch.
template <scalar T, static_shape S, backend B>
double mse(var<T, S, B> y, T const* target, double weight = 1) {
  check(y.size() > 0, "mse: the batch is empty");
  double sum = 0;
  index_t count = 0;
  run<op::masked_mse, B, T>(y.on->cx, {y.size(), 1, nullptr, y.value, target, &sum, &count});
  T const scale = T(2 * weight / double(y.size()));
  if (y.grad)
    y.on->on_backward([=](context<B>& cx) {
      run<op::masked_mse_grad, B, T>(cx, {y.size(), 1, nullptr, y.value, target, scale, true, y.grad});
    });
  return sum / double(y.size());
}

}  // namespace insula
