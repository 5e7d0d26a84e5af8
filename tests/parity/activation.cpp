// SPDX-License-Identifier: Apache-2.0
// Activations of whole registers against their reference and against long double.
#include "insula/kernels/cpu/activation.hpp"

#include "insula/kernels/plain/activation.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

constexpr activation all[] = {activation::none, activation::relu, activation::leaky_relu, activation::gelu};

/// Inputs from -8 to 8, beyond both ends of what GELU bends.
template <class T>
std::vector<T> wide_input(index_t n, std::uint64_t seed) {
  auto v = input<T>(n, seed);
  for (T& x : v) x *= 8;
  return v;
}

}  // namespace

TEST_CASE("activations and their gradients on the CPU are the reference, in place too") {
  for (activation act : all)
    for (index_t n : {1, 7, 16, 33, 1000, 16384, 40001})
      for (bool adds : {false, true})
        check_parity([&]<class B, class T>(context<B>& cx) -> outputs {
          auto const x = wide_input<T>(n, 1), gy = input<T>(n, 2);
          auto y = poisoned<T>(n), same = x, gx = target<T>(adds, n, 3), own = gy;
          run<op::activate, B, T>(cx, {n, act, x.data(), y.data()});
          run<op::activate, B, T>(cx, {n, act, same.data(), same.data()});
          run<op::activate_grad, B, T>(cx, {n, act, x.data(), gy.data(), adds, gx.data()});
          run<op::activate_grad, B, T>(cx, {n, act, x.data(), own.data(), false, own.data()});
          return {widened(y), widened(same), widened(gx), widened(own)};
        });
}

TEST_CASE(
    "GELU in float is within 2e-7 of the exact value, relative to the larger of 1 and |u|, on all of its "
    "range") {
  double value = 0, slope = 0, alone = 0;
  for (double at = -20; at < 20; at += 1.1e-4) {
    float const u = float(at);
    auto const got = simd::gelu_with_slope<float>(simd::broadcast(u));
    double const x = double(u), phi = 0.5 * std::erfc(-x / std::sqrt(2.0));
    double const density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    value = std::fmax(value, std::fabs(double(got.value[0]) - x * phi) / std::fmax(1, std::fabs(x)));
    slope = std::fmax(slope, std::fabs(double(got.slope[0]) - (phi + x * density)));
    alone = std::fmax(
        alone, std::fabs(double(simd::gelu_slope<float>(simd::broadcast(u))[0]) - (phi + x * density)));
    REQUIRE(simd::gelu<float>(simd::broadcast(u))[0] == got.value[0]);
  }
  CHECK(value < 2e-7);
  CHECK(slope < 3e-7);
  CHECK(alone < 3e-7);
  double worst = 0;  // of every number about the place where the quotient of AVX2 errs most
  for (float u = 4.5f; u < 4.75f; u = std::nextafter(u, 5.0f)) {
    double const x = double(u), phi = 0.5 * std::erfc(-x / std::sqrt(2.0));
    worst = std::fmax(worst, std::fabs(double(simd::gelu<float>(simd::broadcast(u))[0]) - x * phi) / x);
  }
  CHECK(worst < 2e-7);
}

TEST_CASE("GELU in double is exact to 1e-15") {
  double value = 0, slope = 0;
  for (double u = -9; u < 9; u += 1.3e-3) {
    auto const got = simd::gelu_with_slope<double>(simd::broadcast(u));
    long double const x = static_cast<long double>(u), phi = std::erfc(-x / std::sqrt(2.0L)) / 2;
    long double const density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi_v<long double>);
    value = std::fmax(value, double(std::fabs(static_cast<long double>(got.value[0]) - x * phi) /
                                    std::fmax(1.0L, std::fabs(x))));
    slope = std::fmax(slope, double(std::fabs(static_cast<long double>(got.slope[0]) - (phi + x * density))));
  }
  CHECK(value < 1e-15);
  CHECK(slope < 1e-15);
}

TEST_CASE("the gradient of a ReLU is passed or stopped, whatever it is") {
  float const infinity = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> const x{-1, -1, 1, nan, 0}, gy{infinity, nan, infinity, 3, nan};
  auto const check_on = [&]<class B>(context<B>& cx) {
    auto gx = poisoned<float>(5);
    run<op::activate_grad, B, float>(cx, {5, activation::relu, x.data(), gy.data(), false, gx.data()});
    CHECK((gx[0] == 0 && gx[1] == 0 && gx[2] == infinity && gx[3] == 3 && gx[4] == 0));
  };
  context<cpu> fast;
  context<plain> reference;
  check_on(fast), check_on(reference);
}

TEST_CASE("activations far out and of NaN are what they should be") {
  context<cpu> cx;
  float const infinity = std::numeric_limits<float>::infinity();
  for (activation act : all) {
    std::vector<float> const x{1e4f, -1e4f, std::numeric_limits<float>::quiet_NaN(), infinity};
    auto y = poisoned<float>(4);
    run<op::activate, cpu, float>(cx, {4, act, x.data(), y.data()});
    float const negative = act == activation::none ? -1e4f : act == activation::leaky_relu ? -1e2f : 0.0f;
    CHECK(y[0] == 1e4f);
    CHECK(y[1] == Approx(negative));
    CHECK(std::isnan(y[2]));
    CHECK(y[3] == infinity);
  }
}

TEST_CASE("at a kink the slope is that of the negative side") {
  context<cpu> cx;
  float const x = 0, gy = 1;
  float gx = 5;
  run<op::activate_grad, cpu, float>(cx, {1, activation::relu, &x, &gy, false, &gx});
  CHECK(gx == 0.0f);
  run<op::activate_grad, cpu, float>(cx, {1, activation::leaky_relu, &x, &gy, false, &gx});
  CHECK(gx == 0.01f);
}

TEST_CASE("the reference gradient of each activation is the difference quotient") {
  context<plain> cx;
  index_t const n = 50;
  auto const x = wide_input<double>(n, 1), gy = input<double>(n, 2);
  for (activation act : all) {
    auto gx = poisoned<double>(n);
    run<op::activate_grad, plain, double>(cx, {n, act, x.data(), gy.data(), false, gx.data()});
    auto const loss = [&](std::vector<double> const& v) {
      auto y = poisoned<double>(n);
      run<op::activate, plain, double>(cx, {n, act, v.data(), y.data()});
      return dot(y, gy);
    };
    CHECK(difference_error(x, gx, loss) < 1e-6);
  }
}
