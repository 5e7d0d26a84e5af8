// SPDX-License-Identifier: Apache-2.0
// How well scores tell two classes apart: area under the ROC curve, accuracy, F1; and the same counts for several classes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/config.hpp"

namespace insula {

/// How often a rule said what, and what was true.
struct confusion {
  index_t true_positive = 0, false_positive = 0, true_negative = 0, false_negative = 0;

  index_t count() const { return true_positive + false_positive + true_negative + false_negative; }
  index_t positives() const { return true_positive + false_negative; }
  index_t negatives() const { return true_negative + false_positive; }
};

namespace detail {
inline void check_binary(std::span<double const> score, std::span<double const> label, char const* who) {
  check(score.size() == label.size(), who, ": there are ", score.size(), " scores and ", label.size(),
        " labels");
  check(!label.empty(), who, ": there is no sample to judge");
  for (std::size_t i = 0; i < label.size(); ++i) {
    check(label[i] == 0 || label[i] == 1, who, ": label[", i, "] is ", label[i], ", it must be 0 or 1");
    check(score[i] == score[i], who, ": score[", i, "] is NaN");
  }
}
inline double auc_of_checked(std::span<double const> score, std::span<double const> label) {
  std::vector<std::size_t> order(score.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return score[a] < score[b]; });
  double wins = 0, negatives_below = 0, positives = 0;
  for (std::size_t first = 0, end = 0; first < order.size(); first = end) {  // one run of equal scores
    double up = 0, down = 0;
    for (; end < order.size() && score[order[end]] == score[order[first]]; ++end)
      (label[order[end]] == 1 ? up : down) += 1;
    wins += up * (negatives_below + down / 2);
    negatives_below += down, positives += up;
  }
  if (positives == 0 || negatives_below == 0) return std::numeric_limits<double>::quiet_NaN();
  return wins / (positives * negatives_below);
}
}  // namespace detail

/// Area under the ROC curve: P(score of a positive > score of a negative) + P(equal) / 2, the Mann-Whitney statistic; logits
/// and probabilities give the same. NaN if one class is missing (an epoch without an area never is the best one:
/// best_value). Throws error for no samples, other labels than 0 and 1, or a score that is NaN.
inline double roc_auc_or_nan(std::span<double const> score, std::span<double const> label) {
  detail::check_binary(score, label, "roc_auc");
  return detail::auc_of_checked(score, label);
}
/// The same; throws error, too, if one class is missing.
inline double roc_auc(std::span<double const> score, std::span<double const> label) {
  double const area = roc_auc_or_nan(score, label);
  check(area == area, "roc_auc: all ", label.size(), " labels are ", label[0],
        "; the area needs both classes: use a larger or a stratified set");
  return area;
}

/// Positive where score > threshold: 0.5 for probabilities, 0 for logits. Throws error as roc_auc_or_nan.
inline confusion confusion_at(double threshold, std::span<double const> score,
                              std::span<double const> label) {
  detail::check_binary(score, label, "confusion_at");
  confusion c;
  for (std::size_t i = 0; i < label.size(); ++i) {
    bool const said = score[i] > threshold, is = label[i] == 1;
    ++(is ? (said ? c.true_positive : c.false_negative) : (said ? c.false_positive : c.true_negative));
  }
  return c;
}

/// Share of right answers. Throws error if nothing was counted.
inline double accuracy(confusion const& c) {
  check(c.count() > 0, "accuracy: there is no sample to judge");
  return double(c.true_positive + c.true_negative) / double(c.count());
}
/// Mean of the shares of right answers among positives and among negatives. Throws error if one class is missing.
inline double balanced_accuracy(confusion const& c) {
  check(c.positives() > 0 && c.negatives() > 0, "balanced_accuracy: there are ", c.positives(),
        " positives and ", c.negatives(), " negatives; both classes are needed");
  return (double(c.true_positive) / double(c.positives()) + double(c.true_negative) / double(c.negatives())) /
         2;
}
/// 2 tp / (2 tp + fp + fn): harmonic mean of precision and recall. NaN if no sample is positive and none was called so.
inline double f1_or_nan(confusion const& c) {
  index_t const all = 2 * c.true_positive + c.false_positive + c.false_negative;
  return all > 0 ? 2 * double(c.true_positive) / double(all) : std::numeric_limits<double>::quiet_NaN();
}
/// The same; throws error where it is not defined.
inline double f1(confusion const& c) {
  double const v = f1_or_nan(c);
  check(v == v, "f1: of ", c.count(), " samples none is positive and none was called so: F1 is not defined");
  return v;
}

/// counts[truth * classes + said].
struct confusion_matrix {
  index_t classes = 0;
  std::vector<index_t> counts;

  index_t at(index_t truth, index_t said) const { return counts[std::size_t(truth * classes + said)]; }
  /// One class against the others.
  confusion against_others(index_t k) const {
    confusion c;
    for (index_t t = 0; t < classes; ++t)
      for (index_t s = 0; s < classes; ++s)
        (t == k ? (s == k ? c.true_positive : c.false_negative)
                : (s == k ? c.false_positive : c.true_negative)) += at(t, s);
    return c;
  }
};

/// Throws error for no samples, different numbers of them, or a class outside of 0 .. classes - 1.
inline confusion_matrix confusion_of(index_t classes, std::span<std::int32_t const> said,
                                     std::span<std::int32_t const> truth) {
  check(said.size() == truth.size(), "confusion_of: there are ", said.size(), " answers and ", truth.size(),
        " labels");
  check(!truth.empty(), "confusion_of: there is no sample to judge");
  confusion_matrix m{classes, std::vector<index_t>(std::size_t(classes * classes))};
  for (std::size_t i = 0; i < truth.size(); ++i) {
    check(truth[i] >= 0 && truth[i] < classes && said[i] >= 0 && said[i] < classes, "confusion_of: sample ",
          i, " is of class ", truth[i], " and was called ", said[i], "; classes are 0 to ", classes - 1);
    ++m.counts[std::size_t(truth[i] * classes + said[i])];
  }
  return m;
}
/// Share of right answers.
inline double accuracy(confusion_matrix const& m) {
  index_t right = 0, all = 0;
  for (index_t t = 0; t < m.classes; ++t)
    for (index_t s = 0; s < m.classes; ++s) all += m.at(t, s), right += t == s ? m.at(t, s) : 0;
  check(all > 0, "accuracy: there is no sample to judge");
  return double(right) / double(all);
}
/// Mean over classes of F1, one class against the others. Throws error for a class that neither occurs nor was named.
inline double macro_f1(confusion_matrix const& m) {
  check(m.classes > 0, "macro_f1: there are no classes");
  double sum = 0;
  for (index_t k = 0; k < m.classes; ++k) {
    double const v = f1_or_nan(m.against_others(k));
    check(v == v, "macro_f1: class ", k, " neither occurs nor was named: its F1 is not defined");
    sum += v;
  }
  return sum / double(m.classes);
}

}  // namespace insula
