// SPDX-License-Identifier: Apache-2.0
// NT-Xent on the CPU against its reference, and the reference against differences.
#include "insula/kernels/cpu/nt_xent.hpp"

#include "insula/kernels/plain/nt_xent.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

void check_nt_xent(index_t pairs, index_t width, double temperature, bool gradient = true) {
  INFO("pairs " << pairs << ", width " << width << ", temperature " << temperature);
  check_parity(
      [&]<class B, class T>(context<B>& cx) -> outputs {
        auto const z = input<T>(2 * pairs * width, 1);
        auto gz = poisoned<T>(2 * pairs * width);
        double loss = 0;
        run<op::nt_xent, B, T>(cx,
                               {pairs, width, temperature, z.data(), gradient ? gz.data() : nullptr, &loss});
        if (!gradient) gz = z;
        return {{loss}, widened(gz)};
      },
      3e-6, 1e-13);
}

}  // namespace

TEST_CASE("NT-Xent on the CPU is the reference at awkward sizes") {
  for (index_t pairs : {2, 3, 7, 12, 17})
    for (index_t width : {1, 5, 64}) check_nt_xent(pairs, width, 0.5);
  check_nt_xent(72, 64, 0.5);   // the published batch
  check_nt_xent(140, 33, 0.1);  // two tiles of columns
  check_nt_xent(9, 8, 0.01);    // exponents of a hundred
  check_nt_xent(5, 8, 0.5, false);
}

TEST_CASE("NT-Xent of equal similarities is ln(N - 1)") {
  context<cpu> cx;
  std::vector<float> const z(144 * 3, 0.5f);
  double loss = 0;
  run<op::nt_xent, cpu, float>(cx, {72, 3, 0.5, z.data(), nullptr, &loss});
  CHECK(loss == Approx(std::log(143.0)).epsilon(1e-6));
}

TEST_CASE("a vector of length zero has a finite loss and gradient") {
  context<plain> slow;
  context<cpu> fast;
  auto z = input<float>(6 * 4, 3);
  for (int c = 0; c < 4; ++c) z[std::size_t(c)] = 0;
  auto a = poisoned<float>(24), b = a;
  double l = 0, k = 0;
  run<op::nt_xent, plain, float>(slow, {3, 4, 0.5, z.data(), a.data(), &l});
  run<op::nt_xent, cpu, float>(fast, {3, 4, 0.5, z.data(), b.data(), &k});
  CHECK(std::isfinite(l));
  CHECK(l == Approx(k).epsilon(1e-6));
  CHECK(relative_error(b, a) < 1e-6);
}

TEST_CASE("the reference gradient of NT-Xent is a difference quotient") {
  context<plain> cx;
  auto const z = input<double>(2 * 5 * 6, 4);
  auto gz = poisoned<double>(60);
  auto const loss = [&](std::vector<double> const& v, double* g) {
    double l = 0;
    run<op::nt_xent, plain, double>(cx, {5, 6, 0.3, v.data(), g, &l});
    return l;
  };
  loss(z, gz.data());
  CHECK(difference_error(z, gz, [&](auto const& v) { return loss(v, nullptr); }) < 1e-7);
}

TEST_CASE("one pair is refused: it has no negatives") {
  context<cpu> cx;
  float const z[4] = {1, 2, 3, 4};
  double loss = 0;
  CHECK_THROWS_WITH((run<op::nt_xent, cpu, float>(cx, {1, 2, 0.5, z, nullptr, &loss})),
                    Catch::Contains("no negatives"));
}
