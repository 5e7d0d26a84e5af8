// SPDX-License-Identifier: Apache-2.0
// Every loss's gradient on the tape against five-point differences, on the plain and the CPU kernels, in double.
#include "insula/autograd/functions.hpp"
#include "insula/cpu.hpp"
#include "insula/loss/classification.hpp"
#include "insula/loss/dice_bce.hpp"
#include "insula/loss/info_nce.hpp"
#include "insula/loss/masked_reconstruction.hpp"
#include "insula/loss/regression.hpp"
#include "insula/plain.hpp"
#include "insula/testing/compare.hpp"
#include "support/catch.hpp"

using namespace insula;
using insula::testing::random_vector;
using insula::testing::relative_error;

namespace {

/// Largest relative error of the gradient, element by element, that loss(x, weight) adds to x.grad; it starts as noise.
template <static_shape S, class B, class F>
double gradient_error(context<B>& cx, index_t batch, F const& loss) {
  tape<B> t(cx);
  auto x = random_vector<double>(batch * S::size, 1), noise = random_vector<double>(batch * S::size, 2);
  auto grad = noise;
  auto const run = [&](double* g) {
    double const l = loss(var<double, S, B>{x.data(), g, batch, &t}, 0.7);
    if (g) t.backward();
    t.clear();
    return l;
  };
  run(grad.data());
  std::vector<double> numeric(x.size()), analytic(x.size());
  double const h = 1e-3;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double const was = x[i];
    auto const at = [&](double d) { return x[i] = was + d, run(nullptr); };
    numeric[i] = 0.7 * (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    x[i] = was;
    analytic[i] = grad[i] - noise[i];
  }
  return relative_error(analytic, numeric);
}

/// Both backends, batches 1 and 3.
template <static_shape S, class F>
void check(F const& loss) {
  context<plain> slow;
  context<cpu> fast(2);
  for (index_t batch : {1, 3}) {
    INFO("batch " << batch);
    CHECK(gradient_error<S>(slow, batch, loss) < 1e-6);
    CHECK(gradient_error<S>(fast, batch, loss) < 1e-6);
  }
}

std::vector<std::uint8_t> some_of(std::size_t n) {
  std::vector<std::uint8_t> m(n);
  for (std::size_t i = 0; i < n; ++i) m[i] = uniform_at({9, 1}, std::uint32_t(i)) < 0.4;
  return m;
}

}  // namespace

TEST_CASE("masked reconstruction", "[gradient]") {
  using volume = shape<2, 3, 5, 2>;
  auto const target = random_vector<double>(3 * volume::size, 3);
  auto const mask = some_of(3 * 30);
  check<volume>(
      [&](auto x, double weight) { return masked_reconstruction(x, target.data(), mask.data(), weight); });
  check<volume>(
      [&](auto x, double weight) { return masked_reconstruction(x, target.data(), nullptr, weight); });
}

TEST_CASE("InfoNCE with a queue that knows patients", "[gradient]") {
  auto const keys = random_vector<double>(3 * 5, 3), others = random_vector<double>(17 * 5, 4);
  std::int64_t const patient[] = {1, 2, 3};
  std::vector<std::int64_t> queued(17);
  for (std::size_t i = 0; i < 17; ++i) queued[i] = std::int64_t(i % 5);
  for (auto invalid : {op::invalid_negative::clamped, op::invalid_negative::excluded})
    check<shape<5>>([&]<backend B>(var<double, shape<5>, B> q, double weight) {
      auto const k = constant<shape<5>>(*q.on, keys.data(), q.batch);
      negatives<double, 17, 5, B> const queue{others.data(), queued.data()};
      return info_nce<17>{.invalid = invalid}(q, k, queue, patient, weight);
    });
}

TEST_CASE("Dice and binary cross-entropy", "[gradient]") {
  using volume = shape<2, 3, 5, 2>;
  auto const labels = some_of(3 * volume::size);
  check<volume>([&](auto z, double weight) {
    auto const l = dice_bce{.dice_weight = 1.5, .bce_weight = 0.5}(z, labels.data(), weight);
    CHECK(l.total == 1.5 * l.dice + 0.5 * l.bce);
    return l.total;
  });
}

TEST_CASE("cross-entropy of samples, tokens and voxels", "[gradient]") {
  std::vector<std::int32_t> labels;
  for (int i = 0; i < 3 * 24; ++i) labels.push_back(i * 7 % 5);
  auto const loss = [&](auto z, double weight) { return cross_entropy(z, labels.data(), weight); };
  check<shape<5>>(loss);
  check<shape<4, 5>>(loss);
  check<shape<5, 2, 3, 4>>(loss);
}

TEST_CASE("binary cross-entropy, absolute and squared error", "[gradient]") {
  auto const target = random_vector<double>(3 * 12, 3);
  auto soft = target;
  for (auto& v : soft) v = (v + 1) / 2;
  check<shape<12>>([&](auto x, double weight) { return bce_with_logits(x, soft.data(), weight, 2.5); });
  check<shape<3, 4>>([&](auto x, double weight) { return l1(x, target.data(), weight); });
  check<shape<12>>([&](auto x, double weight) { return mse(x, target.data(), weight); });
}

TEST_CASE("sums and multiples of variables", "[gradient]") {
  auto const target = random_vector<double>(3 * 12, 3);
  check<shape<12>>([&](auto x, double weight) {
    return masked_reconstruction(sum(scaled(x, 3.0), sum(x, x)), target.data(), nullptr, weight);
  });
}
