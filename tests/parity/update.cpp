// SPDX-License-Identifier: Apache-2.0
// Optimiser updates against their reference and against hand-computed steps.
#include "insula/kernels/cpu/update.hpp"

#include "insula/kernels/plain/update.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

TEST_CASE("updates on the CPU are the reference at awkward sizes") {
  for (index_t n : {1, 7, 16, 33, 1000, 16384, 40001})
    for (std::int64_t step : {1, 2, 1000})
      check_parity(
          [&]<class B, class T>(context<B>& cx) -> outputs {
            auto const g = input<T>(n, 1);
            auto w = input<T>(n, 2), m = input<T>(n, 3), v = input<T>(n, 4), average = input<T>(n, 5),
                 scaled = input<T>(n, 6);
            for (T& x : v) x = T(float(x) * float(x) + 0.0078125f);
            run<op::adamw, B, T>(
                cx, {n, 1e-2, 0.9, 0.999, 1e-8, 0.05, 0.25, step, g.data(), w.data(), m.data(), v.data()});
            run<op::ema, B, T>(cx, {n, 0.996, g.data(), average.data()});
            run<op::scale, B, T>(cx, {n, T(0.75), scaled.data()});
            return {widened(w), widened(m), widened(v), widened(average), widened(scaled)};
          },
          5e-7, 1e-15);
}

TEST_CASE("Adam and momentum on the CPU are the reference at awkward sizes, decayed and not") {
  for (index_t n : {1, 7, 16, 33, 1000, 40001})
    for (double const decay : {0.0, 0.05})
      for (bool const nesterov : {false, true})
        check_parity(
            [&]<class B, class T>(context<B>& cx) -> outputs {
              auto const g = input<T>(n, 1);
              auto w = input<T>(n, 2), m = input<T>(n, 3), v = input<T>(n, 4), u = input<T>(n, 5),
                   b = input<T>(n, 6);
              for (T& x : v) x = T(float(x) * float(x) + 0.0078125f);
              run<op::adam, B, T>(
                  cx, {n, 1e-2, 0.9, 0.999, 1e-8, decay, 0.25, 7, g.data(), w.data(), m.data(), v.data()});
              run<op::momentum_step, B, T>(
                  cx, {n, 0.9, 0.3, 0.5, decay, 0.25, nesterov, g.data(), u.data(), b.data()});
              return {widened(w), widened(m), widened(v), widened(u), widened(b)};
            },
            5e-7, 1e-15);
}

TEST_CASE(
    "an average in the pass of Adam and AdamW is the reference's, and to the bit that of a pass of its own") {
  for (index_t n : {1, 7, 16, 33, 1000, 16384, 40001}) {
    auto const kept = [&]<class Op, class B, class T>(Op, context<B>& cx, bool apart) -> outputs {
      auto const g = input<T>(n, 1);
      auto w = input<T>(n, 2), m = input<T>(n, 3), v = input<T>(n, 4), average = input<T>(n, 5);
      for (T& x : v) x = T(float(x) * float(x) + 0.0078125f);
      T* const inside = apart ? nullptr : average.data();
      run<Op, B, T>(cx, {n, 1e-2, 0.9, 0.999, 1e-8, 0.05, 0.25, 3, g.data(), w.data(), m.data(), v.data(),
                         0.75, inside});
      if (apart) run<op::ema, B, T>(cx, {n, 0.75, w.data(), average.data()});
      return {widened(w), widened(m), widened(v), widened(average)};
    };
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          auto all = kept.template operator()<op::adamw, B, T>({}, cx, false);
          for (auto& one : kept.template operator()<op::adam, B, T>({}, cx, false)) all.push_back(one);
          return all;
        },
        5e-7, 1e-15);
    context<cpu> cx;
    CHECK(kept.template operator()<op::adamw, cpu, float>({}, cx, false) ==
          kept.template operator()<op::adamw, cpu, float>({}, cx, true));
    CHECK(kept.template operator()<op::adam, cpu, float>({}, cx, false) ==
          kept.template operator()<op::adam, cpu, float>({}, cx, true));
  }
}

TEST_CASE("the first AdamW step moves a weight by lr against the sign of its gradient, after decay") {
  context<cpu> cx;
  double const g = -4;
  double w = 2, m = 0, v = 0;
  run<op::adamw, cpu, double>(cx, {1, 0.1, 0.9, 0.999, 0.0, 0.5, 1.0, 1, &g, &w, &m, &v});
  CHECK(w == Approx(2 * (1 - 0.1 * 0.5) + 0.1).epsilon(1e-14));
  CHECK(m == Approx(0.1 * -4).epsilon(1e-14));
  CHECK(v == Approx(0.001 * 16).epsilon(1e-14));
}

TEST_CASE("AdamW sees the scaled gradient, so scaling it leaves the direction of the first step alone") {
  context<cpu> cx;
  float const g = 3;
  for (double scale : {1.0, 0.125}) {
    float w = 1, m = 0, v = 0;
    run<op::adamw, cpu, float>(cx, {1, 0.1, 0.9, 0.999, 0.0, 0.0, scale, 1, &g, &w, &m, &v});
    CHECK(w == Approx(0.9f).epsilon(1e-6));
    CHECK(m == Approx(0.1 * 3 * scale).epsilon(1e-6));
    CHECK(v == Approx(0.001 * 9 * scale * scale).epsilon(1e-6));
  }
}
