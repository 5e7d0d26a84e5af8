// SPDX-License-Identifier: Apache-2.0
// Addition, mask-token injection and drop path against their reference.
#include "insula/kernels/cpu/pointwise.hpp"

#include "insula/kernels/plain/pointwise.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

std::vector<std::uint8_t> random_mask(index_t n, std::uint64_t seed) {
  std::vector<std::uint8_t> m(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < m.size(); ++i) m[i] = uniform_at({seed, 5}, std::uint32_t(i)) < 0.6;
  return m;
}

}  // namespace

TEST_CASE("add and axpy on the CPU are the reference, in place too") {
  for (index_t n : {1, 2, 15, 16, 17, 1000, 16384, 50001})
    check_parity([&]<class B, class T>(context<B>& cx) -> outputs {
      auto const a = input<T>(n, 1), b = input<T>(n, 2);
      auto y = poisoned<T>(n), left = a, right = b, sum = input<T>(n, 3);
      run<op::add, B, T>(cx, {n, a.data(), b.data(), y.data()});
      run<op::add, B, T>(cx, {n, left.data(), b.data(), left.data()});
      run<op::add, B, T>(cx, {n, a.data(), right.data(), right.data()});
      run<op::axpy, B, T>(cx, {n, T(0.75), a.data(), sum.data()});
      return {widened(y), widened(left), widened(right), widened(sum)};
    });
}

TEST_CASE("mask-token injection replaces masked positions only") {
  context<plain> cx;
  std::vector<double> const x{1, 2, 3, 4, 5, 6}, token{-1, -2};
  std::vector<std::uint8_t> const mask{0, 1, 0};
  std::vector<double> y(6), gx(6), gtoken{100, 100};
  run<op::mask_token, plain, double>(cx, {1, 3, 2, x.data(), mask.data(), token.data(), y.data()});
  CHECK(y == std::vector<double>{1, 2, -1, -2, 5, 6});
  run<op::mask_token_grad, plain, double>(cx,
                                          {1, 3, 2, mask.data(), x.data(), false, gx.data(), gtoken.data()});
  CHECK(gx == std::vector<double>{1, 2, 0, 0, 5, 6});
  CHECK(gtoken == std::vector<double>{103, 104});
}

TEST_CASE(
    "mask-token injection on the CPU is the reference, with and without mask and gradients, in place too") {
  std::mt19937 g(1);
  for (int round = 0; round < 24; ++round) {
    index_t const batch = pick(g, {1, 3}), positions = pick(g, {1, 2, 35, 343, 1500}),
                  c = pick(g, {1, 5, 24, 48, 50});
    bool const adds = round & 1, in_place = round & 2, has_mask = round % 3 != 0, has_gx = round % 5 != 0,
               has_gtoken = round % 7 != 0;
    auto const mask = random_mask(batch * positions, 9);
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          index_t const n = batch * positions * c;
          auto const m = has_mask ? mask.data() : nullptr;
          auto x = input<T>(n, 1), gy = input<T>(n, 2);
          auto const token = input<T>(c, 3);
          auto y = poisoned<T>(n), gx = target<T>(adds, n, 4), gtoken = input<T>(c, 5);
          run<op::mask_token, B, T>(
              cx, {batch, positions, c, x.data(), m, token.data(), in_place ? x.data() : y.data()});
          T* const to = in_place && !adds ? gy.data() : gx.data();
          run<op::mask_token_grad, B, T>(cx, {batch, positions, c, m, gy.data(), adds, has_gx ? to : nullptr,
                                              has_gtoken ? gtoken.data() : nullptr});
          if (!has_gx) gx = gy;
          return {widened(in_place ? x : y), widened(in_place && !adds ? gy : gx), widened(gtoken)};
        },
        1e-6, 1e-14);
  }
}

TEST_CASE("drop path keeps a sample whole, scaled by the survival rate, or drops it whole") {
  context<plain> cx;
  index_t const batch = 1000, size = 3;
  random_key const key{7, 8, 9};
  auto const x = input<double>(batch * size, 1);
  auto y = poisoned<double>(batch * size);
  run<op::drop_path, plain, double>(cx, {batch, size, 0.25, true, key, x.data(), nullptr, y.data()});
  int kept = 0;
  for (index_t n = 0; n < batch; ++n) {
    bool const keep = uniform_at(key, std::uint32_t(n)) >= 0.25;
    kept += keep;
    for (auto i = std::size_t(n * size); i < std::size_t((n + 1) * size); ++i)
      REQUIRE(y[i] == (keep ? Approx(x[i] / 0.75) : Approx(0)));
  }
  CHECK(kept > 700);
  CHECK(kept < 800);
}

TEST_CASE("drop path on the CPU is the reference") {
  std::mt19937 g(2);
  for (int round = 0; round < 24; ++round) {
    index_t const batch = pick(g, {1, 3, 8}), size = pick(g, {1, 5, 48, 343, 20000});
    bool const adds = round & 1, training = round & 2, has_skip = round % 3 != 0;
    double const rate = round % 4 == 1 ? 0 : round % 5 == 0 ? 1 : 0.4;
    random_key const key{std::uint64_t(round), 3, 1};
    check_parity([&]<class B, class T>(context<B>& cx) -> outputs {
      index_t const n = batch * size;
      auto const x = input<T>(n, 1), skip = input<T>(n, 2), gy = input<T>(n, 3);
      auto y = poisoned<T>(n), gx = target<T>(adds, n, 4);
      run<op::drop_path, B, T>(
          cx, {batch, size, rate, training, key, x.data(), has_skip ? skip.data() : nullptr, y.data()});
      run<op::drop_path_grad, B, T>(cx, {batch, size, rate, training, key, gy.data(), adds, gx.data()});
      run<op::drop_path_grad, B, T>(cx, {batch, size, rate, training, key, gy.data(), adds, nullptr});
      return {widened(y), widened(gx)};
    });
  }
}

TEST_CASE("the gradient of drop path is its transpose") {
  context<plain> cx;
  random_key const key{1, 2, 3};
  auto const x = input<double>(24, 1), gy = input<double>(24, 2);
  auto gx = poisoned<double>(24);
  run<op::drop_path_grad, plain, double>(cx, {8, 3, 0.5, true, key, gy.data(), false, gx.data()});
  auto const loss = [&](std::vector<double> const& v) {
    auto y = poisoned<double>(24);
    run<op::drop_path, plain, double>(cx, {8, 3, 0.5, true, key, v.data(), nullptr, y.data()});
    return dot(gy, y);
  };
  CHECK(difference_error(x, gx, loss) < 1e-9);
}
