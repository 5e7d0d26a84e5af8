// SPDX-License-Identifier: Apache-2.0
// Dice and binary cross-entropy of segmentation logits, on the tape.
#pragma once

#include "insula/autograd/tape.hpp"
#include "insula/base/check.hpp"
#include "insula/op/pointwise.hpp"
#include "insula/op/segmentation.hpp"

namespace insula {

/// The two terms of dice_bce and their weighted sum.
struct dice_bce_losses {
  double dice, bce, total;
};

/// L = dice_weight Dice + bce_weight BCE of logits z against labels (batch, positions, channels), one byte each, by the
/// formula of op::dice_bce: Dice per sample and channel, then the mean. Adds weight dL/dz to z.grad when the tape runs
/// backwards. Throws error if the batch is empty. UMBRA's fine-tuning loss (MONAI DiceCELoss(sigmoid=True), one channel).
struct dice_bce {
  double dice_weight = 1, bce_weight = 1;

  template <scalar T, static_shape S, backend B>
  dice_bce_losses operator()(var<T, S, B> z, std::uint8_t const* labels, double weight = 1) const {
    check(z.batch > 0, "dice_bce: the batch is empty");
    tape<B>& t = *z.on;
    double dice = 0, bce = 0;
    T* gz = z.grad ? t.template take<T>(z.size()) : nullptr;
    run<op::dice_bce, B, T>(t.cx, {z.batch, S::value.positions(), S::value.channels(), dice_weight,
                                   bce_weight, z.value, labels, gz, &dice, &bce});
    if (gz)
      t.on_backward([=](context<B>& cx) { run<op::axpy, B, T>(cx, {z.size(), T(weight), gz, z.grad}); });
    return {dice, bce, dice_weight * dice + bce_weight * bce};
  }
};

}  // namespace insula
