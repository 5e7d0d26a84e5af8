// SPDX-License-Identifier: Apache-2.0
// Overlap metrics against the published numbers and by hand.
#include "insula/eval/dice.hpp"

#include "insula/testing/compare.hpp"
#include "support/catch.hpp"

using namespace insula;

namespace {
using bytes = std::vector<std::uint8_t>;
}

TEST_CASE("Dice and intersection over union are the published ones") {
  std::vector<double> dice, iou;
  for (std::uint64_t n = 0; n < 2; ++n) {
    std::vector<float> logits;
    bytes label;
    for (std::uint64_t i = 64 * n; i < 64 * (n + 1); ++i)
      logits.push_back(float(2 * testing::filler(310, i))), label.push_back(testing::filler(311, i) > 0.4);
    auto const o = overlap_of(positive<float>(logits), label);
    CHECK(o.labelled == (n == 0 ? 18 : 19));
    dice.push_back(o.dice()), iou.push_back(o.iou());
  }
  CHECK(mean_of_cases(dice) == Approx(0.225).epsilon(1e-6));
  CHECK(mean_of_cases(iou) == Approx(0.1269841).epsilon(1e-6));
}

TEST_CASE("overlap by hand: half of each, all, none") {
  bytes const a{1, 1, 0, 0}, b{0, 255, 1, 0}, none(4);
  auto const o = overlap_of(a, b);
  CHECK(o.dice() == 0.5);
  CHECK(o.iou() == 1.0 / 3);
  CHECK(overlap_of(a, a).dice() == 1);
  CHECK(overlap_of(a, a).iou() == 1);
  CHECK(overlap_of(none, a).dice() == 0);
}

TEST_CASE("cases with an empty label have no metric and do not count") {
  bytes const some{1, 0}, none(2);
  CHECK(std::isnan(overlap_of(some, none).dice()));
  CHECK(std::isnan(overlap_of(none, none).iou()));
  double const nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(mean_of_cases(std::vector<double>{nan, 0.5, 1}) == 0.75);
  CHECK(mean_of_cases(std::vector<double>{nan, nan}) == 0);
}

TEST_CASE("a logit of 0 is positive, NaN is not") {
  CHECK(positive<float>(std::vector<float>{0, -1e-30f, 3, NAN}) == bytes{1, 0, 1, 0});
}

TEST_CASE("masks of different size are refused with both sizes") {
  CHECK_THROWS_WITH(overlap_of(bytes(3), bytes(4)), Catch::Contains("3 voxels, the label 4"));
}
