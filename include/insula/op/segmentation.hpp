// SPDX-License-Identifier: Apache-2.0
// The loss of binary segmentation: Dice and binary cross-entropy of logits.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// Logits x, labels y in {0, 1} (any byte but 0 is 1), p = sigmoid(x), per sample n and channel c, sums over positions:
///   *dice = mean over (n, c) of 1 - (2 sum p y + 1e-5) / (sum p + sum y + 1e-5)
///   *bce = mean over all elements of max(x, 0) - x y + ln(1 + e^-|x|)
///   gx = d (dice_weight dice + bce_weight bce) / d x (=), or null.
/// Sums in double. With one channel this is MONAI 1.5 monai/losses/dice.py DiceCELoss(sigmoid=True).
struct dice_bce {
  static constexpr double smooth = 1e-5;
  template <class T>
  struct args {
    index_t batch, positions, channels;
    double dice_weight, bce_weight;
    T const* x;             // (batch, positions, channels)
    std::uint8_t const* y;  // (batch, positions, channels)
    T* gx;
    double *dice, *bce;
  };
};

}  // namespace insula::op
