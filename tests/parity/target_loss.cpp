// SPDX-License-Identifier: Apache-2.0
// Absolute error and binary cross-entropy against their reference, and against differences.
#include "insula/kernels/cpu/target_loss.hpp"

#include "insula/kernels/plain/target_loss.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

TEST_CASE("the absolute error and its gradient on the CPU are the reference") {
  for (index_t n : {1, 2, 7, 16, 33, 1000, 16384, 40001})
    for (bool const adds : {false, true})
      check_parity(
          [&]<class B, class T>(context<B>& cx) -> outputs {
            auto x = input<T>(n, 1);
            auto const y = input<T>(n, 2);
            for (std::size_t i = 0; i < x.size(); i += 3) x[i] = y[i];  // equal: no gradient
            double sum = NAN;
            auto gx = target<T>(adds, n, 3);
            run<op::absolute_error, B, T>(cx, {n, x.data(), y.data(), &sum});
            run<op::absolute_error_grad, B, T>(cx, {n, x.data(), y.data(), T(0.75), adds, gx.data()});
            run<op::absolute_error_grad, B, T>(cx, {n, x.data(), y.data(), T(0.75), adds, nullptr});
            return {{sum, 1}, widened(gx)};
          },
          1e-6, 1e-13);
}

TEST_CASE(
    "binary cross-entropy and its gradient on the CPU are the reference, for small and for huge logits") {
  for (index_t n : {1, 2, 7, 16, 33, 1000, 16384, 40001})
    for (double const spread : {0.1, 3.0, 200.0})
      for (double const positive : {1.0, 4.5})
        check_parity(
            [&]<class B, class T>(context<B>& cx) -> outputs {
              auto x = input<T>(n, 1), y = input<T>(n, 2);
              for (T& v : x) v = T(float(double(v) * spread));
              for (std::size_t i = 0; i < y.size(); ++i)
                y[i] = i % 3 == 0 ? T(0) : i % 3 == 1 ? T(1) : T(0.5f * (1 + float(y[i])));
              bool const adds = n % 2 == 0;
              double sum = NAN;
              auto gx = target<T>(adds, n, 3);
              run<op::bce_with_logits, B, T>(cx, {n, positive, x.data(), y.data(), &sum});
              run<op::bce_with_logits_grad, B, T>(
                  cx, {n, positive, x.data(), y.data(), T(0.75), adds, gx.data()});
              run<op::bce_with_logits_grad, B, T>(cx,
                                                  {n, positive, x.data(), y.data(), T(0.75), adds, nullptr});
              return {{sum, 1}, widened(gx)};
            },
            1e-6, 1e-13);
}

TEST_CASE("gradients of absolute error and binary cross-entropy agree with differences") {
  context<plain> cx;
  auto const x = input<double>(24, 1);
  auto y = input<double>(24, 2);
  auto gx = poisoned<double>(24);
  run<op::absolute_error_grad, plain, double>(cx, {24, x.data(), y.data(), 1, false, gx.data()});
  CHECK(difference_error(x, gx, [&](std::vector<double> const& v) {
          double s = NAN;
          run<op::absolute_error, plain, double>(cx, {24, v.data(), y.data(), &s});
          return s;
        }) < 1e-6);
  for (auto& v : y) v = 0.5 + 0.5 * v;
  for (double const positive : {1.0, 3.0}) {
    run<op::bce_with_logits_grad, plain, double>(cx, {24, positive, x.data(), y.data(), 1, false, gx.data()});
    CHECK(difference_error(x, gx, [&](std::vector<double> const& v) {
            double s = NAN;
            run<op::bce_with_logits, plain, double>(cx, {24, positive, v.data(), y.data(), &s});
            return s;
          }) < 1e-6);
  }
}

TEST_CASE("the gradient of a saturated logit keeps its digits in float") {
  context<cpu> cx;
  float const x[2] = {15, -15}, y[2] = {1, 0};
  float gx[2];
  run<op::bce_with_logits_grad, cpu, float>(cx, {2, 1, x, y, 1, false, gx});
  double const tail = std::exp(-15.0) / (1 + std::exp(-15.0));
  CHECK(double(gx[0]) == Approx(-tail).epsilon(1e-6));
  CHECK(double(gx[1]) == Approx(tail).epsilon(1e-6));
}

TEST_CASE("a target outside of 0 to 1 is named; a logit that is NaN shows in the loss") {
  context<plain> one;
  context<cpu> two(2);
  std::vector<double> x(5, 0.5), y{0, 1, 0.5, 1.5, 0};
  double sum = 0;
  for (double const bad : {1.5, -0.25}) {
    y[3] = bad;
    CHECK_THROWS_WITH((run<op::bce_with_logits, plain, double>(one, {5, 1, x.data(), y.data(), &sum})),
                      text("bce_with_logits: target[3] is ", bad, ", it must be 0 to 1"));
    CHECK_THROWS_WITH((run<op::bce_with_logits, cpu, double>(two, {5, 1, x.data(), y.data(), &sum})),
                      text("bce_with_logits: target[3] is ", bad, ", it must be 0 to 1"));
  }
  y[3] = NAN;
  CHECK_THROWS((run<op::bce_with_logits, cpu, double>(two, {5, 1, x.data(), y.data(), &sum})));
  y[3] = 1, x[1] = NAN;
  run<op::bce_with_logits, cpu, double>(two, {5, 1, x.data(), y.data(), &sum});
  CHECK(std::isnan(sum));
  run<op::bce_with_logits, plain, double>(one, {5, 1, x.data(), y.data(), &sum});
  CHECK(std::isnan(sum));
}
