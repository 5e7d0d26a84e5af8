// SPDX-License-Identifier: Apache-2.0
// Vectorised exponentials against long double.
#include "insula/kernels/cpu/exp.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "support/catch.hpp"

using namespace insula;

namespace {

template <class T, class F, class G>
double worst_error(T from, T to, F ours, G exact) {
  double worst = 0;
  int const steps = 100'000;
  for (int i = 0; i <= steps; ++i) {
    T const x = from + (to - from) * T(i) / T(steps);
    long double const want = exact(static_cast<long double>(x));
    worst = std::fmax(
        worst, double(std::fabs((static_cast<long double>(ours(simd::broadcast(x))[0]) - want) / want)));
  }
  return worst;
}

template <class T>
simd::pack<T> natural(simd::pack<T> x) {
  return simd::exp<T>(x);
}
template <class T>
simd::pack<T> base2(simd::pack<T> x) {
  return simd::exp2<T>(x);
}

}  // namespace

TEMPLATE_TEST_CASE("exponentials are accurate over the normal range", "", float, double) {
  using T = TestType;
  bool const single = sizeof(T) == 4;
  double const bound = single ? 2e-7 : 5e-16;
  T const edge = single ? T(87.3) : T(708.3);
  CHECK(worst_error<T>(-edge, edge, natural<T>, [](long double x) { return std::exp(x); }) < bound);
  CHECK(worst_error<T>(-1, 1, natural<T>, [](long double x) { return std::exp(x); }) < bound);
  T const edge2 = single ? T(125.9) : T(1021.9);
  CHECK(worst_error<T>(-edge2, edge2, base2<T>, [](long double x) { return std::exp2(x); }) < bound);
  CHECK(worst_error<T>(-1, 1, base2<T>, [](long double x) { return std::exp2(x); }) < bound);
}

TEMPLATE_TEST_CASE("exponentials of NaN are NaN, whatever it carries", "", float, double) {
  using bits = std::conditional_t<sizeof(TestType) == 4, std::uint32_t, std::uint64_t>;
  bits const quiet = std::bit_cast<bits>(std::numeric_limits<TestType>::quiet_NaN());
  for (bits carried : {bits{0}, bits{1}, bits{37}, bits{255}, bits{256}, bits{511}, bits{1954}, bits{2047}}) {
    auto const x = simd::broadcast(std::bit_cast<TestType>(bits(quiet | carried)));
    for (int i = 0; i < simd::width<TestType>; ++i) {
      CHECK(std::isnan(simd::exp<TestType>(x)[i]));
      CHECK(std::isnan(simd::exp2<TestType>(x)[i]));
    }
  }
}

TEMPLATE_TEST_CASE("exponentials at and beyond the ends of the range", "", float, double) {
  using T = TestType;
  using limits = std::numeric_limits<T>;
  auto const e = [](T x) { return natural<T>(simd::broadcast(x))[simd::width<T> - 1]; };
  auto const two = [](T x) { return base2<T>(simd::broadcast(x))[0]; };
  CHECK(e(0) == T(1));
  CHECK(two(0) == T(1));
  CHECK(two(10) == T(1024));
  for (T const x : {T(-720), T(-1e30), -limits::max(), -limits::infinity()}) {
    CHECK(e(x) == T(0));
    CHECK(two(2 * x) == T(0));
  }
  for (T const x : {T(720), T(1e30), limits::infinity()}) {
    CHECK(e(x) == limits::infinity());
    CHECK(two(2 * x) == limits::infinity());
  }
  T const most = T(limits::max_exponent);  // 2^most is the first that is not a number any more
  CHECK(two(most) == limits::infinity());
  CHECK(std::fabs(two(most - T(0.6)) / std::exp2(most - T(0.6)) - 1) < 10 * limits::epsilon());
  for (T x = most - T(0.5); x < most; x += T(0.03))
    CHECK(two(x) >= std::exp2(x) * (1 - 10 * limits::epsilon()));
  T const least = T(limits::min_exponent - 1);  // 2^least is the smallest normal number
  CHECK(two(least) == limits::min());
  for (T x = least; x > least - 3; x -= T(0.03)) CHECK((two(x) >= 0 && two(x) <= limits::min()));
  CHECK(std::isnan(e(limits::quiet_NaN())));
  CHECK(std::isnan(two(limits::quiet_NaN())));
}
