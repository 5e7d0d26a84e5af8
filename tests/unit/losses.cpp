// SPDX-License-Identifier: Apache-2.0
// Supervised losses on the tape: values by hand, gradients by differences, weights, errors.
#include "insula/cpu.hpp"
#include "insula/insula.hpp"
#include "insula/plain.hpp"
#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/fill.hpp"
#include "support/folder.hpp"

using namespace insula;
using namespace insula::testing;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

/// Runs loss(var) forward and backward; the gradient is what was added to noise.
template <class T, class B, class S, class Loss>
std::pair<double, std::vector<double>> value_and_gradient(std::vector<T> x, index_t batch, Loss loss) {
  context<B> cx;
  tape<B> t(cx);
  auto const noise = random_vector<T>(batch * S::size, 91);
  auto g = noise;
  double const value = loss(var<T, S, B>{x.data(), g.data(), batch, &t});
  CHECK(g == noise);  // nothing before backward()
  t.backward();
  std::vector<double> added(g.size());
  for (std::size_t i = 0; i < g.size(); ++i) added[i] = double(g[i]) - double(noise[i]);
  return {value, added};
}

template <class B, class S, class Loss>
void check_gradient(Loss loss) {
  for (index_t const batch : {1, 3}) {
    auto const x = random_vector<double>(batch * S::size, 5);
    auto const g = value_and_gradient<double, B, S>(x, batch, [&](auto y) { return loss(y, 0.7); }).second;
    std::vector<double> numeric(x.size());
    context<B> cx;
    tape<B> t(cx);
    auto const at = [&](std::vector<double> v) {
      double const l = loss(var<double, S, B>{v.data(), nullptr, batch, &t}, 0.7);
      t.backward();
      t.clear();
      return l;
    };
    for (std::size_t i = 0; i < x.size(); ++i) {
      auto up = x, down = x;
      up[i] += 1e-5, down[i] -= 1e-5;
      numeric[i] = 0.7 * (at(up) - at(down)) / 2e-5;
    }
    CHECK(relative_error(g, numeric) < 1e-8);
  }
}

template <class B>
void check_all_gradients() {
  auto const target = random_vector<double>(200, 6);
  std::vector<double> binary(200);
  for (std::size_t i = 0; i < 200; ++i) binary[i] = i % 2 ? double(i % 4 == 1) : 0.5 + 0.5 * target[i];
  std::vector<std::int32_t> const label{2, 0, 3, 1, 1, 3, 0, 2, 2};
  check_gradient<B, shape<1, 2, 3, 4>>([&](auto y, double w) { return l1(y, target.data(), w); });
  check_gradient<B, shape<1, 2, 3, 4>>([&](auto y, double w) { return mse(y, target.data(), w); });
  check_gradient<B, shape<5>>([&](auto y, double w) { return bce_with_logits(y, binary.data(), w); });
  check_gradient<B, shape<5>>([&](auto y, double w) { return bce_with_logits(y, binary.data(), w, 2.5); });
  check_gradient<B, shape<4>>([&](auto y, double w) { return cross_entropy(y, label.data(), w); });
  check_gradient<B, shape<3, 4>>([&](auto y, double w) { return cross_entropy(y, label.data(), w); });
}

}  // namespace

TEST_CASE("gradients of the supervised losses agree with differences and carry their weight") {
  check_all_gradients<plain>();
  check_all_gradients<cpu>();
}

TEST_CASE("losses are means, by hand") {
  std::vector<double> const x{1, -2, 0.5}, y{0, 1, 0.5};
  auto const l = value_and_gradient<double, cpu, shape<1>>(x, 3, [&](auto v) { return l1(v, y.data()); });
  CHECK(l.first == Approx(4.0 / 3));
  CHECK(l.second[0] == Approx(1.0 / 3));
  CHECK(l.second[1] == Approx(-1.0 / 3));
  CHECK(l.second[2] == 0);
  auto const m = value_and_gradient<double, cpu, shape<1>>(x, 3, [&](auto v) { return mse(v, y.data()); });
  CHECK(m.first == Approx(10.0 / 3));
  CHECK(m.second[1] == Approx(-2.0));
  std::vector<std::int32_t> const label{0};
  auto const c =
      value_and_gradient<double, cpu, shape<3>>(x, 1, [&](auto v) { return cross_entropy(v, label.data()); });
  double const total = std::exp(1.0) + std::exp(-2.0) + std::exp(0.5);
  CHECK(c.first == Approx(std::log(total) - 1));
  CHECK(c.second[2] == Approx(std::exp(0.5) / total));
}

TEST_CASE("binary cross-entropy of the published probing step is its published value") {
  std::vector<double> const logits{-0.404016343, -0.114900331}, label{1, 0};
  auto const d = value_and_gradient<double, plain, shape<1>>(
      logits, 2, [&](auto v) { return bce_with_logits(v, label.data()); });
  CHECK(std::abs(d.first - 0.776384047) < 1e-9);
  std::vector<float> const flogits(logits.begin(), logits.end()), flabel(label.begin(), label.end());
  auto const f = value_and_gradient<float, cpu, shape<1>>(
      flogits, 2, [&](auto v) { return bce_with_logits(v, flabel.data()); });
  CHECK(std::abs(f.first - 0.776384047) < 1e-7);
}

TEST_CASE("binary cross-entropy of huge logits is finite and right") {
  std::vector<double> const x{1e4, -1e4, 1e4}, y{1, 0, 0};
  auto const l =
      value_and_gradient<double, cpu, shape<1>>(x, 3, [&](auto v) { return bce_with_logits(v, y.data()); });
  CHECK(l.first == Approx(1e4 / 3));
  CHECK(l.second[0] == Approx(0).margin(1e-15));
  CHECK(l.second[2] == Approx(1.0 / 3));
}

TEST_CASE("losses refuse what they cannot use, by name") {
  context<cpu> cx;
  tape<cpu> t(cx);
  double v[2] = {1, 2}, bad[2] = {0, 7};
  std::int32_t const label[2] = {0, 2};
  var<double, shape<1>, cpu> const none{v, v, 0, &t}, two{v, nullptr, 2, &t};
  CHECK_THAT(message_of([&] { l1(none, v); }), Contains("l1: the batch is empty"));
  CHECK_THAT(message_of([&] { mse(none, v); }), Contains("mse: the batch is empty"));
  CHECK_THAT(message_of([&] { bce_with_logits(none, v); }), Contains("bce_with_logits: the batch is empty"));
  CHECK_THAT(message_of([&] { bce_with_logits(two, bad); }), Contains("target[1] is 7"));
  CHECK_THAT(message_of([&] { bce_with_logits(two, v, 1, 0); }), Contains("positive_weight is 0"));
  CHECK_THAT(message_of([&] {
               cross_entropy(var<double, shape<2>, cpu>{v, nullptr, 0, &t}, label);
             }),
             Contains("cross_entropy: the batch is empty"));
  CHECK_THAT(message_of([&] {
               cross_entropy(var<double, shape<2>, cpu>{v, nullptr, 1, &t}, label + 1);
             }),
             Contains("label[0] is 2"));
  std::uint8_t const mask[1] = {1};
  CHECK_THAT(message_of([&] { dice_bce{}(none, mask); }), Contains("dice_bce: the batch is empty"));
  std::int64_t const patient[1] = {1};
  negatives<double, 1, 1, cpu> const queue{v, patient};
  var<double, shape<1>, cpu> const one{v, nullptr, 1, &t};
  CHECK_THAT(message_of([&] { info_nce<1>{}(none, none, queue, patient); }),
             Contains("info_nce: the batch is empty"));
  CHECK_THAT(message_of([&] { info_nce<1>{.temperature = 0}(one, one, queue, patient); }),
             Contains("info_nce: the temperature is 0"));
}
