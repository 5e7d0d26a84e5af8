// SPDX-License-Identifier: Apache-2.0
// Mean squared error over masked voxels.
#pragma once

#include "insula/autograd/tape.hpp"
#include "insula/base/check.hpp"
#include "insula/op/reduce.hpp"

namespace insula {

/// L = mean over all masked voxels of the batch of (y - target)^2: one pooled mean, samples with more masked voxels weigh
/// more (UMBRA). target: y.size() elements; mask: batch * positions bytes, null = all. Adds weight * dL/dy to y.grad when
/// the tape runs backwards. Returns L. Throws error if nothing is masked.
template <scalar T, static_shape S, backend B>
double masked_reconstruction(var<T, S, B> y, T const* target, std::uint8_t const* mask, double weight = 1) {
  index_t const positions = y.batch * S::value.positions(), channels = S::value.channels();
  double sum = 0;
  index_t count = 0;
  run<op::masked_mse, B, T>(y.on->cx, {positions, channels, mask, y.value, target, &sum, &count});
  check(count > 0, "masked_reconstruction: the mask has no masked voxel among ", positions,
        ": raise the mask ratio");
  T const scale = T(2 * weight / double(count));
  if (y.grad)
    y.on->on_backward([=](context<B>& cx) {
      run<op::masked_mse_grad, B, T>(cx, {positions, channels, mask, y.value, target, scale, true, y.grad});
    });
  return sum / double(count);
}

}  // namespace insula
