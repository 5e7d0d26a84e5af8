// SPDX-License-Identifier: Apache-2.0
// What one training step reports: named numbers, samples, and the time it waited for data. Owns no memory.
#pragma once

#include <cmath>
#include <span>

#include "insula/base/check.hpp"

namespace insula {

/// A number with a name that lives as long as the program, such as a string literal: "train/loss".
struct named_value {
  char const* name = "";
  double value = 0;
};

/// Result of a training step or of an evaluation. Terms that were not computed are left out, not given as NaN.
///   step_result r;  r.samples = 8;  r.add("train/loss", loss);  r.add("train/gradient_norm", norm);  return r;
struct step_result {
  static constexpr int most = 24;  // metrics

  named_value metrics[most]{};
  int count = 0;
  index_t samples = 0;   ///< scans, or pairs of scans, that the step learnt from
  double data_wait = 0;  ///< seconds in which the step did nothing but wait for data
  bool skipped =
      false;  ///< a value was not finite and weights and optimiser were left as they were before the step

  void add(char const* name, double value) {
    check(count < most, "step_result: more than ", most, " metrics; the last is ", name);
    metrics[count++] = {name, value};
  }
  std::span<named_value const> values() const { return {metrics, std::size_t(count)}; }
  /// Null if it was not given.
  named_value const* find(std::string_view name) const {
    for (auto const& m : values())
      if (m.name == name) return &m;
    return nullptr;
  }
  /// The first metric that is NaN or infinite; null if all are finite.
  named_value const* first_not_finite() const {
    for (auto const& m : values())
      if (!std::isfinite(m.value)) return &m;
    return nullptr;
  }
};

}  // namespace insula
