// SPDX-License-Identifier: Apache-2.0
// How far predictions lie from real-valued targets.
#pragma once

#include <cmath>
#include <span>

#include "insula/base/check.hpp"
#include "insula/base/config.hpp"

namespace insula {

namespace detail {
inline void check_pairs(std::span<double const> predicted, std::span<double const> target, char const* who) {
  check(predicted.size() == target.size(), who, ": there are ", predicted.size(), " predictions and ",
        target.size(), " targets");
  check(!target.empty(), who, ": there is no sample to judge");
}
template <class F>
double mean_over(std::span<double const> a, std::span<double const> b, F f) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += f(a[i] - b[i]);
  return sum / double(a.size());
}
}  // namespace detail

/// mean |predicted - target|. Throws error for no samples or different numbers of them; NaN if one is.
inline double mean_absolute_error(std::span<double const> predicted, std::span<double const> target) {
  detail::check_pairs(predicted, target, "mean_absolute_error");
  return detail::mean_over(predicted, target, [](double d) { return std::abs(d); });
}
/// mean (predicted - target)^2. Throws error for no samples or different numbers of them; NaN if one is.
inline double mean_squared_error(std::span<double const> predicted, std::span<double const> target) {
  detail::check_pairs(predicted, target, "mean_squared_error");
  return detail::mean_over(predicted, target, [](double d) { return d * d; });
}
/// 1 - sum (predicted - target)^2 / sum (target - mean target)^2: 0 for a constant guess of the mean. Throws error if all
/// targets are equal.
inline double r_squared(std::span<double const> predicted, std::span<double const> target) {
  detail::check_pairs(predicted, target, "r_squared");
  double mean = 0, spread = 0, rest = 0;
  for (double const t : target) mean += t / double(target.size());
  for (std::size_t i = 0; i < target.size(); ++i)
    spread += (target[i] - mean) * (target[i] - mean),
        rest += (predicted[i] - target[i]) * (predicted[i] - target[i]);
  check(spread > 0, "r_squared: all ", target.size(), " targets are ", target[0],
        ": there is nothing to explain");
  return 1 - rest / spread;
}

}  // namespace insula
