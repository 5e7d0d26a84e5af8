// SPDX-License-Identifier: Apache-2.0
// Metrics by hand and by brute force, their degenerate cases, bootstrap intervals, runs as one number.
#include <cmath>
#include <limits>

#include "insula/eval/bootstrap.hpp"
#include "insula/eval/classification.hpp"
#include "insula/eval/regression.hpp"
#include "insula/eval/summary.hpp"
#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

using numbers = std::vector<double>;

/// The definition: every positive against every negative.
double pairwise_auc(numbers const& score, numbers const& label) {
  double wins = 0, pairs = 0;
  for (std::size_t i = 0; i < score.size(); ++i)
    for (std::size_t j = 0; j < score.size(); ++j)
      if (label[i] == 1 && label[j] == 0)
        pairs += 1, wins += score[i] > score[j] ? 1 : score[i] == score[j] ? 0.5 : 0;
  return wins / pairs;
}

}  // namespace

TEST_CASE("the area under the ROC curve of cases known by hand") {
  CHECK(roc_auc(numbers{0.1, 0.4, 0.35, 0.8}, numbers{0, 0, 1, 1}) == 0.75);
  CHECK(roc_auc(numbers{1, 2, 3, 4}, numbers{0, 0, 1, 1}) == 1);
  CHECK(roc_auc(numbers{4, 3, 2, 1}, numbers{0, 0, 1, 1}) == 0);
  CHECK(roc_auc(numbers{7, 7, 7, 7, 7}, numbers{0, 1, 0, 1, 1}) == 0.5);  // all tied
  CHECK(roc_auc(numbers{1, 2, 2, 3}, numbers{0, 0, 1, 1}) == 0.875);      // one tie of a pair
  double const infinite = std::numeric_limits<double>::infinity();
  CHECK(roc_auc(numbers{-infinite, infinite}, numbers{0, 1}) == 1);
}

TEST_CASE(
    "the area is that of all pairs, for random scores with many ties, and does not change under sigmoid") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    random_stream random({seed, 1});
    numbers score, label, probability;
    for (index_t i = 0, n = 2 + random.below(60); i < n; ++i) {
      score.push_back(double(random.below(1 + index_t(seed))) - 3);
      label.push_back(i < 2 ? double(i) : double(random.coin(0.3)));
      probability.push_back(1 / (1 + std::exp(-score.back())));
    }
    CHECK(roc_auc(score, label) == Approx(pairwise_auc(score, label)).epsilon(1e-14));
    CHECK(roc_auc(probability, label) == roc_auc(score, label));
  }
}

TEST_CASE("one class only has no area: NaN where that is asked for, else an error that says so") {
  CHECK(std::isnan(roc_auc_or_nan(numbers{1, 2, 3}, numbers{1, 1, 1})));
  CHECK(std::isnan(roc_auc_or_nan(numbers{1}, numbers{0})));
  CHECK_THAT(message_of([] {
               roc_auc(numbers{1, 2, 3}, numbers{1, 1, 1});
             }),
             Contains("all 3 labels are 1") && Contains("both classes"));
}

TEST_CASE("metrics refuse an empty set, unequal columns, other labels, and NaN scores") {
  CHECK_THAT(message_of([] { roc_auc(numbers{}, numbers{}); }), Contains("no sample"));
  CHECK_THAT(message_of([] { roc_auc(numbers{1}, numbers{1, 0}); }), Contains("1 scores and 2 labels"));
  CHECK_THAT(message_of([] { roc_auc(numbers{1, 2}, numbers{1, 0.5}); }), Contains("label[1] is 0.5"));
  CHECK_THAT(message_of([] { roc_auc(numbers{1, NAN}, numbers{1, 0}); }), Contains("score[1] is NaN"));
  CHECK_THAT(message_of([] { confusion_at(0, numbers{}, numbers{}); }), Contains("no sample"));
  CHECK_THAT(message_of([] { accuracy(confusion{}); }), Contains("no sample"));
  CHECK_THAT(message_of([] { mean_absolute_error(numbers{}, numbers{}); }), Contains("no sample"));
  CHECK_THAT(message_of([] { mean_squared_error(numbers{1}, numbers{}); }),
             Contains("1 predictions and 0 targets"));
  CHECK_THAT(message_of([] { r_squared(numbers{1, 2}, numbers{3, 3}); }), Contains("all 2 targets are 3"));
  CHECK_THAT(message_of([] { over_runs(numbers{}); }), Contains("no run"));
  CHECK_THAT(message_of([] { bootstrap(0, [](auto) { return 0.0; }); }), Contains("no sample"));
  CHECK_THAT(message_of([] { confusion_of(3, std::vector<std::int32_t>{3}, std::vector<std::int32_t>{0}); }),
             Contains("was called 3"));
}

TEST_CASE("accuracy and F1 count as by hand; the threshold itself is negative") {
  numbers const probability{0.9, 0.5, 0.6, 0.2, 0.7}, label{1, 1, 0, 0, 1};
  auto const c = confusion_at(0.5, probability, label);
  CHECK((c.true_positive == 2 && c.false_negative == 1 && c.false_positive == 1 && c.true_negative == 1));
  CHECK(accuracy(c) == 0.6);
  CHECK(f1(c) == Approx(4.0 / 6));
  CHECK(balanced_accuracy(c) == Approx((2.0 / 3 + 0.5) / 2));
}

TEST_CASE("F1 without any positive is not defined; with positives that were all missed it is 0") {
  auto const none = confusion_at(0, numbers{-1, -2}, numbers{0, 0});
  CHECK(std::isnan(f1_or_nan(none)));
  CHECK_THAT(message_of([&] { f1(none); }), Contains("of 2 samples none is positive"));
  CHECK_THAT(message_of([&] { balanced_accuracy(none); }), Contains("0 positives and 2 negatives"));
  CHECK(accuracy(none) == 1);
  CHECK(f1(confusion_at(0, numbers{-1, -2}, numbers{1, 0})) == 0);
}

TEST_CASE("several classes: accuracy, and F1 as the mean of one against the others") {
  std::vector<std::int32_t> const said{0, 1, 2, 2, 1, 0}, truth{0, 1, 2, 1, 1, 2};
  auto const m = confusion_of(3, said, truth);
  CHECK(m.at(1, 2) == 1);
  CHECK(accuracy(m) == Approx(4.0 / 6));
  CHECK(macro_f1(m) == Approx((2.0 / 3 + 4.0 / 5 + 2.0 / 4) / 3));
  CHECK_THAT(message_of([] {
               macro_f1(confusion_of(3, std::vector<std::int32_t>{0, 1}, std::vector<std::int32_t>{1, 0}));
             }),
             Contains("class 2"));
}

TEST_CASE("errors of a regression as by hand") {
  numbers const predicted{1, 2, 4}, target{1, 4, 1};
  CHECK(mean_absolute_error(predicted, target) == Approx(5.0 / 3));
  CHECK(mean_squared_error(predicted, target) == Approx(13.0 / 3));
  CHECK(r_squared(predicted, target) == Approx(1 - 13.0 / 6));
  CHECK(r_squared(numbers{2, 2, 2}, target) == Approx(0).margin(1e-15));
  CHECK(std::isnan(mean_absolute_error(numbers{NAN}, numbers{1})));
}

TEST_CASE("runs become mean and sample deviation") {
  auto const m = over_runs(numbers{1, 2, 3, 6});
  CHECK(m.mean == 3);
  CHECK(m.deviation == Approx(std::sqrt(14.0 / 3)));
  CHECK(m.count == 4);
  CHECK(std::isnan(over_runs(numbers{5}).deviation));
  CHECK(std::isnan(over_runs(numbers{5, NAN}).mean));
  CHECK(plus_minus({0.9294, 0.02751, 5}) == "0.929 ± 0.028");
  CHECK(plus_minus({4.35, 0.2, 1}, 2) == "4.35");
}

TEST_CASE("the best epoch is strictly better than those before, and NaN never wins") {
  best_value auc;
  CHECK(!auc.offer(NAN, 0));
  CHECK(auc.epoch == -1);
  CHECK(auc.offer(0.5, 1));
  CHECK(!auc.offer(0.5, 2));
  CHECK(!auc.offer(NAN, 3));
  CHECK(auc.offer(0.6, 4));
  CHECK((auc.epoch == 4 && auc.value == 0.6));
  best_value loss{.wanted = goal::lowest};
  CHECK(loss.offer(2, 0));
  CHECK(!loss.offer(3, 1));
  CHECK(loss.offer(1, 2));
}

TEST_CASE("quantiles are linear between neighbours") {
  numbers const v{1, 2, 4};
  CHECK(quantile(v, 0) == 1);
  CHECK(quantile(v, 0.5) == 2);
  CHECK(quantile(v, 0.75) == 3);
  CHECK(quantile(v, 1) == 4);
}

TEST_CASE("a bootstrap interval of a mean is about what theory says, and a function of its key") {
  constexpr index_t n = 400;
  auto const x = testing::random_vector<double>(n, 3);
  double sum = 0, squares = 0;
  for (double const v : x) sum += v, squares += v * v;
  double const mean = sum / n, error = std::sqrt((squares / n - mean * mean) / n);
  auto const metric = [&](std::span<index_t const> rows) {
    double s = 0;
    for (auto const i : rows) s += x[std::size_t(i)];
    return s / double(rows.size());
  };
  auto const i = bootstrap(n, metric);
  CHECK(i.low == Approx(mean - 1.96 * error).margin(0.15 * error));
  CHECK(i.high == Approx(mean + 1.96 * error).margin(0.15 * error));
  CHECK(i.undefined == 0);
  auto const again = bootstrap(n, metric), other = bootstrap(n, metric, {.key = {1, 2}});
  CHECK((again.low == i.low && again.high == i.high));
  CHECK(other.low != i.low);
}

TEST_CASE("scans of one subject are drawn together: their number adds no certainty") {
  numbers a, b;
  std::vector<index_t> subject, scan;
  auto const x = testing::random_vector<double>(30, 4);
  for (index_t s = 0; s < 30; ++s)
    for (int k = 0; k < 10; ++k)
      a.push_back(x[std::size_t(s)]), b.push_back(0), subject.push_back(100 - s),
          scan.push_back(index_t(a.size()));
  auto const by_subject = bootstrap_pairs(a, b, mean_absolute_error, subject);
  auto const by_scan = bootstrap_pairs(a, b, mean_absolute_error, scan);
  double const ratio = (by_subject.high - by_subject.low) / (by_scan.high - by_scan.low);
  CHECK(ratio == Approx(std::sqrt(10.0)).epsilon(0.1));
}

TEST_CASE("replicates without an area are left out and counted; too many of them are an error") {
  numbers const score{1, 2, 3, 4, 5, 6}, label{0, 0, 0, 0, 1, 1};
  std::vector<index_t> const subject{0, 1, 2, 3, 4, 5};
  auto const i = bootstrap_pairs(score, label, roc_auc_or_nan, subject);
  CHECK((i.low == 1 && i.high == 1));
  double const share = std::pow(4.0 / 6, 6) + std::pow(2.0 / 6, 6);  // only negatives, or only positives
  CHECK(double(i.undefined) == Approx(2000 * share).epsilon(0.25));
  CHECK_THAT(message_of([&] { bootstrap_pairs(score, numbers(6, 1.0), roc_auc_or_nan, subject); }),
             Contains("2000 of 2000") && Contains("one class only"));
}
