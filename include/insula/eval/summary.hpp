// SPDX-License-Identifier: Apache-2.0
// Several runs as one number: mean and deviation; and which epoch of a run counts.
#pragma once

#include <charconv>
#include <cmath>
#include <limits>
#include <span>
#include <string>

#include "insula/base/check.hpp"
#include "insula/base/config.hpp"

namespace insula {

/// Mean and spread of n numbers.
struct mean_and_spread {
  double mean = 0, deviation = 0;
  index_t count = 0;
};

/// Mean and sample standard deviation (divisor n - 1) of one number per run. One run has no deviation: NaN. Throws error for
/// no runs; a run that gave NaN makes the result NaN.
inline mean_and_spread over_runs(std::span<double const> value) {
  check(!value.empty(), "over_runs: there is no run");
  double const n = double(value.size());
  double mean = 0, squares = 0;
  for (double const v : value) mean += v / n;
  for (double const v : value) squares += (v - mean) * (v - mean);
  double const deviation =
      value.size() > 1 ? std::sqrt(squares / (n - 1)) : std::numeric_limits<double>::quiet_NaN();
  return {mean, deviation, index_t(value.size())};
}

/// A number with `digits` decimals; "nan" and "inf" as they are.
inline std::string decimals(double v, int digits) {
  char b[400];
  auto const r = std::to_chars(b, b + sizeof b, v, std::chars_format::fixed, digits);
  return {b, r.ptr};
}
/// "0.929 ± 0.028", or "0.929" for one run.
inline std::string plus_minus(mean_and_spread const& m, int digits = 3) {
  std::string s = decimals(m.mean, digits);
  return m.count > 1 ? s + " ± " + decimals(m.deviation, digits) : s;
}

/// Which direction is better.
enum class goal { highest, lowest };

/// The best value so far and when it was: a value must be strictly better than all before, and NaN never is.
struct best_value {
  goal wanted = goal::highest;
  double value = std::numeric_limits<double>::quiet_NaN();
  index_t epoch = -1;  ///< -1: none yet

  /// True if v is the new best.
  bool offer(double v, index_t at) {
    bool const better = v == v && (epoch < 0 || (wanted == goal::highest ? v > value : v < value));
    if (better) value = v, epoch = at;
    return better;
  }
};

}  // namespace insula
