// SPDX-License-Identifier: Apache-2.0
// Schedules: values as functions of the optimiser step.
#pragma once

#include <cmath>
#include <numbers>

#include "insula/base/config.hpp"

namespace insula {

/// Linear warm-up, then a cosine to the minimum. UMBRA's pre-training rule: W = int(warm_up * total) steps,
///   t < W:  peak (start + (1 - start) t / W),  t >= W:  minimum + (peak - minimum)(1 + cos(pi (t - W)/(total - W))) / 2.
struct warmup_cosine {
  double peak = 1e-4, minimum = 1e-5, warm_up = 0.02, start = 1e-6;
  index_t total = 200000;

  double at(index_t t) const {
    index_t const w = index_t(warm_up * double(total));
    if (t < w) return peak * (start + (1 - start) * double(t) / double(w));
    double const x = total > w ? double(t - w) / double(total - w) : 1;
    return minimum + (peak - minimum) * (1 + std::cos(std::numbers::pi * x)) / 2;
  }
};

/// Cosine over epochs after a linear warm-up, W = warm_up:
///   e < W: peak e / W,  else minimum + (peak - minimum)(1 + cos(pi (e - W)/(epochs - W))) / 2.
/// at(e) with whole e: 3D-Neuro-SimCLR's cosine beside LARS (PyTorch's CosineAnnealingLR), which steps once per epoch.
/// at_step(t, n) with n steps per epoch: facebookresearch/mae, util/lr_sched.py, which steps with every iteration.
struct epoch_cosine {
  double peak, minimum = 0, warm_up = 0, epochs = 100;

  double at(double epoch) const {
    if (epoch < warm_up) return peak * epoch / warm_up;
    double const x = epoch < epochs ? (epoch - warm_up) / (epochs - warm_up) : 1;
    return minimum + (peak - minimum) * (1 + std::cos(std::numbers::pi * x)) / 2;
  }
  double at_step(index_t step, index_t steps_per_epoch) const {
    return at(double(step) / double(steps_per_epoch));
  }
};

/// The rate for a batch by the linear rule: base * batch / 256, batch = scans of one optimiser step in all processes.
constexpr double rate_of_batch(double base, index_t batch) { return base * double(batch) / 256; }

/// v0 up to step int(a total), v1 from step int(b total) on, linear between.
struct ramp {
  double a, b, v0, v1;
  index_t total;

  double at(index_t t) const {
    index_t const s = index_t(a * double(total)), e = index_t(b * double(total));
    if (t <= s) return v0;
    if (t >= e) return v1;
    return v0 + (v1 - v0) * double(t - s) / double(e - s);
  }
};

/// Zero until `delay`, linear warm-up over `warm_up` steps, cosine to the minimum at `total`: one group of UMBRA's
/// fine-tuning (encoder delayed, the rest not).
///   x = t - delay;  x < warm_up: base (x + 1) / warm_up;
///   else minimum + (base - minimum)/2 (1 + cos(pi clamp((x - warm_up)/(total - delay - warm_up), 0, 1))).
struct delayed_cosine {
  double base, minimum;
  index_t delay, warm_up, total;

  double at(index_t t) const {
    if (t < delay) return 0;
    index_t const x = t - delay;
    if (x < warm_up) return base * double(x + 1) / double(warm_up);
    index_t const falling = total - delay - warm_up > 1 ? total - delay - warm_up : 1;
    double const f = x - warm_up < falling ? double(x - warm_up) / double(falling) : 1;
    return minimum + (base - minimum) / 2 * (1 + std::cos(std::numbers::pi * f));
  }
};

/// Rates of a fine-tuning run of `total` steps in which the pretrained encoder is frozen for the first part.
struct fine_tuning_rates {
  delayed_cosine encoder, rest;
};

/// UMBRA's (models/finetuning.py): the rest warms up over 5 %; the encoder, at a tenth of its rate, is frozen for 30 % of the
/// steps and warms up over the same share of those that remain.
constexpr fine_tuning_rates umbra_fine_tuning(index_t total, double base = 5e-4) {
  index_t const warm_up = index_t(0.05 * double(total)), frozen = index_t(0.3 * double(total));
  index_t const again = index_t(double(warm_up) / double(total) * double(total - frozen));
  return {{0.1 * base, 1e-6, frozen, again, total}, {base, 1e-5, 0, warm_up, total}};
}

}  // namespace insula
