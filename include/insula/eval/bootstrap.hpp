// SPDX-License-Identifier: Apache-2.0
// Bootstrap confidence intervals of any metric, with subjects as units.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/random.hpp"

namespace insula {

struct bootstrap_options {
  index_t replicates = 2000;
  double confidence = 0.95;
  random_key key{0, 0xb007, 0};  ///< sub is replaced by the number of the replicate
};

struct confidence_interval {
  double low = 0, high = 0;
  index_t undefined =
      0;  ///< replicates whose metric was NaN (one class only, for example); they are left out
};

/// Quantile of sorted numbers, linear between neighbours. Throws error if there are none.
inline double quantile(std::span<double const> sorted, double q) {
  check(!sorted.empty() && q >= 0 && q <= 1, "quantile: ", q, " of ", sorted.size(), " numbers");
  double const at = q * double(sorted.size() - 1);
  auto const low = std::size_t(at), high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - double(low)) * (sorted[high] - sorted[low]);
}

/// Percentile interval (Efron 1979) of metric(rows), rows = indices drawn with replacement. unit[i] says whose row i is: all
/// rows of a unit are drawn together, because scans of one person are not independent. A function of its arguments alone.
/// Throws error if there are no rows, or if the metric is not defined for more than half of the replicates.
template <class Metric>
confidence_interval bootstrap(std::span<index_t const> unit, Metric metric, bootstrap_options const& o = {}) {
  check(!unit.empty(), "bootstrap: there is no sample to draw from");
  check(o.replicates > 0 && o.confidence > 0 && o.confidence < 1, "bootstrap: ", o.replicates,
        " replicates at confidence ", o.confidence,
        "; it takes at least 1, and a confidence between 0 and 1");
  std::map<index_t, std::vector<index_t>> members;
  for (std::size_t i = 0; i < unit.size(); ++i) members[unit[i]].push_back(index_t(i));
  std::vector<std::vector<index_t>> units;
  for (auto& m : members) units.push_back(std::move(m.second));

  std::vector<double> values;
  std::vector<index_t> rows;
  for (index_t r = 0; r < o.replicates; ++r) {
    random_stream random(o.key.with(std::uint32_t(r)));
    rows.clear();
    for (std::size_t i = 0; i < units.size(); ++i) {
      auto const& drawn = units[std::size_t(random.below(index_t(units.size())))];
      rows.insert(rows.end(), drawn.begin(), drawn.end());
    }
    double const v = metric(std::span<index_t const>(rows));
    if (!std::isnan(v)) values.push_back(v);
  }
  index_t const undefined = o.replicates - index_t(values.size());
  check(2 * undefined <= o.replicates, "bootstrap: the metric is not defined for ", undefined, " of ",
        o.replicates, " replicates: the set is too small or has one class only");
  std::sort(values.begin(), values.end());
  double const tail = (1 - o.confidence) / 2;
  return {quantile(values, tail), quantile(values, 1 - tail), undefined};
}
/// Every row a unit of its own.
template <class Metric>
confidence_interval bootstrap(index_t rows, Metric metric, bootstrap_options const& o = {}) {
  std::vector<index_t> unit(std::size_t(std::max<index_t>(rows, 0)));
  for (std::size_t i = 0; i < unit.size(); ++i) unit[i] = index_t(i);
  return bootstrap(std::span<index_t const>(unit), std::move(metric), o);
}

/// An interval of a metric of two columns, such as roc_auc_or_nan(score, label) or mean_absolute_error(predicted, target).
///   auto const i = bootstrap_pairs(score, label, roc_auc_or_nan, subject);
template <class Metric>
confidence_interval bootstrap_pairs(std::span<double const> a, std::span<double const> b, Metric metric,
                                    std::span<index_t const> unit, bootstrap_options const& o = {}) {
  check(a.size() == b.size() && a.size() == unit.size(), "bootstrap: columns of ", a.size(), ", ", b.size(),
        " and ", unit.size(), " rows");
  std::vector<double> x, y;
  return bootstrap(
      unit,
      [&](std::span<index_t const> rows) {
        x.clear(), y.clear();
        for (auto const i : rows) x.push_back(a[std::size_t(i)]), y.push_back(b[std::size_t(i)]);
        return metric(std::span<double const>(x), std::span<double const>(y));
      },
      o);
}

}  // namespace insula
