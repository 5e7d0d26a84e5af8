// SPDX-License-Identifier: Apache-2.0
// Losses of predictions against targets, element by element: absolute error and binary cross-entropy.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// *sum = sum over i of |x[i] - target[i]|, in double. The mean is sum / n.
struct absolute_error {
  template <class T>
  struct args {
    index_t n;
    T const *x, *target;
    double* sum;
  };
};
/// gx (+)= scale sign(x - target), 0 where they are equal (as PyTorch).
struct absolute_error_grad {
  template <class T>
  struct args {
    index_t n;
    T const *x, *target;
    T scale;
    bool adds;
    T* gx;
  };
};

/// Binary cross-entropy of logits x, with y = target in [0, 1], s(x) = max(x, 0) + log(1 + e^-|x|) and w = positive_weight:
///   *sum = sum over i of (1 - y) s(x) + w y s(-x), in double.  w = 1: max(x, 0) - x y + log(1 + e^-|x|).
/// Throws error for a target outside of [0, 1].
struct bce_with_logits {
  template <class T>
  struct args {
    index_t n;
    double positive_weight;
    T const *x, *target;
    double* sum;
  };
};
/// gx (+)= scale ((1 - y) sigmoid(x) - w y sigmoid(-x)); no digits are lost where the logit is large.
struct bce_with_logits_grad {
  template <class T>
  struct args {
    index_t n;
    double positive_weight;
    T const *x, *target;
    T scale;
    bool adds;
    T* gx;
  };
};

}  // namespace insula::op
