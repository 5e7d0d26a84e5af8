// SPDX-License-Identifier: Apache-2.0
// Updates of flat weight ranges: optimisers and exponential moving average.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// AdamW, Loshchilov & Hutter 2019 (arXiv 1711.05101), in PyTorch's order of operations, g' = grad_scale * g:
///   w <- w (1 - lr decay);  m <- b1 m + (1-b1) g';  v <- b2 v + (1-b2) g'^2;
///   w <- w - lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps),  n = step (1 at the first call);
/// where an average is given, in the same pass and of the new w, as ema does:
///   average <- momentum * average + (1 - momentum) * w.
struct adamw {
  static constexpr char const* name = "adamw";
  template <class T>
  struct args {
    index_t n;
    double lr, beta1, beta2, eps, decay, grad_scale;
    std::int64_t step;
    T const* g;
    T *w, *m, *v;
    double momentum = 0;
    T* average = nullptr;
  };
};

/// Adam, Kingma & Ba 2015 (arXiv 1412.6980), in PyTorch's order of operations, g' = grad_scale * g + decay * w:
///   m <- b1 m + (1-b1) g';  v <- b2 v + (1-b2) g'^2;
///   w <- w - lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps),  n = step (1 at the first call);
/// the average as in adamw.
struct adam {
  static constexpr char const* name = "adam";
  template <class T>
  struct args {
    index_t n;
    double lr, beta1, beta2, eps, decay, grad_scale;
    std::int64_t step;
    T const* g;
    T *w, *m, *v;
    double momentum = 0;
    T* average = nullptr;
  };
};

/// Momentum, g' = grad_scale * g + decay * w:
///   b <- momentum b + enters g';  w <- w - rate (nesterov ? momentum b + enters g' : b).
struct momentum_step {
  template <class T>
  struct args {
    index_t n;
    double momentum, enters, rate, decay, grad_scale;
    bool nesterov;
    T const* g;
    T *w, *b;
  };
};

/// average <- momentum * average + (1 - momentum) * x
struct ema {
  template <class T>
  struct args {
    index_t n;
    double momentum;
    T const* x;
    T* average;
  };
};

/// x <- alpha x
struct scale {
  template <class T>
  struct args {
    index_t n;
    T alpha;
    T* x;
  };
};

}  // namespace insula::op
