// SPDX-License-Identifier: Apache-2.0
// How fast a run works and what share of the time it waits for data.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>

#include "insula/train/step_result.hpp"

namespace insula {

/// Sums of steps, samples, and seconds of steps, of waiting and of everything. Rates are NaN while nothing was added.
struct work_sums {
  double steps = 0, samples = 0;
  double step_seconds = 0, data_seconds = 0, all_seconds = 0;

  void add(step_result const& r, double in_step, double since_last_step) {
    steps += 1, samples += double(r.samples);
    step_seconds += in_step, data_seconds += r.data_wait, all_seconds += since_last_step;
  }
  void fade(double factor) {
    for (double* v : {&steps, &samples, &step_seconds, &data_seconds, &all_seconds}) *v *= factor;
  }
  double samples_per_second() const { return samples / step_seconds; }
  double seconds_per_step() const { return all_seconds / steps; }
  double data_share() const { return std::clamp(data_seconds / step_seconds, 0.0, 1.0); }
};

/// Measures steps: sums since the last row of the records, and sums in which steps fade with a half-life of 20 seconds, for
/// the display.
class work_clock {
 public:
  work_sums since_row{}, lately{};

  void start() { begin_ = now(); }
  /// Call right after the step whose start() was called before.
  void stop(step_result const& r) {
    double const end = now(), all = end - (last_ < 0 ? begin_ : last_);
    last_ = end;
    lately.fade(std::exp2(-all / 20));
    for (auto* s : {&since_row, &lately}) s->add(r, end - begin_, all);
  }

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  double begin_ = 0, last_ = -1;
};

}  // namespace insula
