// SPDX-License-Identifier: Apache-2.0
// Dice and binary cross-entropy against their reference, the published numbers and finite differences.
#include "insula/kernels/cpu/segmentation.hpp"

#include "insula/kernels/plain/segmentation.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

std::vector<std::uint8_t> labels(index_t n, std::uint64_t seed, double share) {
  std::vector<std::uint8_t> y(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = uniform_at({seed, 5}, std::uint32_t(i)) < share ? 3 : 0;
  return y;
}

template <class B, class T>
void published(double tolerance) {
  std::vector<T> z;
  std::vector<std::uint8_t> y;
  for (std::uint64_t i = 0; i < 128; ++i)
    z.push_back(T(2 * filler(310, i))), y.push_back(filler(311, i) > 0.4);
  context<B> cx;
  double dice = 0, bce = 0;
  run<op::dice_bce, B, T>(cx, {2, 64, 1, 1, 1, z.data(), y.data(), nullptr, &dice, &bce});
  CHECK(std::abs(dice / 0.7173711172863277 - 1) < tolerance);
  CHECK(std::abs(bce / 1.0662160200592434 - 1) < tolerance);
  CHECK(std::abs((dice + bce) / 1.7835871373455712 - 1) < tolerance);
}

}  // namespace

TEST_CASE("Dice and binary cross-entropy are the published ones") {
  published<plain, double>(1e-14);
  published<cpu, double>(1e-14);
  published<cpu, float>(1e-7);
}

TEST_CASE("the segmentation loss on the CPU is the reference, also with empty and full labels") {
  std::mt19937 g(1);
  for (int round = 0; round < 20; ++round) {
    index_t const batch = pick(g, {1, 3}), positions = pick(g, {1, 7, 105, 20000}),
                  channels = pick(g, {1, 1, 2, 5});
    auto const y = labels(batch * positions * channels, 2, round % 5 == 1 ? 0 : round % 5 == 2 ? 1 : 0.3);
    double const scale = round % 4 == 1 ? 200 : 3;  // saturated sigmoids
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          auto z = input<T>(std::ssize(y), 1);
          for (auto& v : z) v *= T(scale);
          auto gz = poisoned<T>(std::ssize(y));
          double dice = NAN, bce = NAN, dice_alone = NAN, bce_alone = NAN;
          run<op::dice_bce, B, T>(
              cx, {batch, positions, channels, 1.5, 0.5, z.data(), y.data(), gz.data(), &dice, &bce});
          run<op::dice_bce, B, T>(
              cx, {batch, positions, channels, 1, 1, z.data(), y.data(), nullptr, &dice_alone, &bce_alone});
          CHECK(dice == dice_alone);
          CHECK(bce == bce_alone);
          return {widened(gz), {dice}, {bce}};
        },
        1e-6, 1e-13);
  }
}

TEST_CASE("the gradient of the segmentation loss agrees with differences, term by term") {
  context<plain> cx;
  auto const z = input<double>(2 * 9 * 3, 1);
  auto const y = labels(2 * 9 * 3, 2, 0.4);
  for (auto const& weights : {std::pair{1.0, 0.0}, {0.0, 1.0}, {0.7, 1.3}}) {
    double const dice_weight = weights.first, bce_weight = weights.second;  // clang 14 captures no bindings
    auto gz = poisoned<double>(std::ssize(z));
    double dice = 0, bce = 0;
    run<op::dice_bce, plain, double>(
        cx, {2, 9, 3, dice_weight, bce_weight, z.data(), y.data(), gz.data(), &dice, &bce});
    auto const loss = [&](std::vector<double> const& at) {
      run<op::dice_bce, plain, double>(cx, {2, 9, 3, 1, 1, at.data(), y.data(), nullptr, &dice, &bce});
      return dice_weight * dice + bce_weight * bce;
    };
    CHECK(difference_error(z, gz, loss) < 1e-7);
  }
}
