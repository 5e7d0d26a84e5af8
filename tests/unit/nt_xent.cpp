// SPDX-License-Identifier: Apache-2.0
// NT-Xent on a tape: the golden numbers, what it adds to gradients, and ranks that gather their views.
#include "insula/loss/nt_xent.hpp"

#include <mutex>

#include "insula/cpu.hpp"
#include "insula/plain.hpp"
#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/fill.hpp"
#include "support/ranks.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

template <class T, class B>
void golden(double temperature, double loss, std::vector<double> const& gi, std::vector<double> const& gj,
            double size, double tolerance) {
  context<B> cx;
  tape<B> t(cx);
  auto const zi = support::fill<T>(11, 32), zj = support::fill<T>(12, 32);
  auto const a = leaf_variable<shape<8>>(t, zi.data(), 4), b = leaf_variable<shape<8>>(t, zj.data(), 4);
  CHECK(std::abs(nt_xent{.temperature = temperature}(a, b) - loss) < (sizeof(T) == 8 ? 1e-10 : 1e-5));
  t.backward();
  for (std::size_t k = 0; k < gi.size(); ++k) CHECK(std::abs(double(a.grad[k]) - gi[k]) < tolerance);
  for (std::size_t k = 0; k < gj.size(); ++k) CHECK(std::abs(double(b.grad[24 + k]) - gj[k]) < tolerance);
  double square = 0;
  for (int k = 0; k < 32; ++k) square += double(a.grad[k]) * double(a.grad[k]);
  CHECK(std::abs(std::sqrt(square) - size) < tolerance);
}
template <class T, class B>
void both_temperatures(double tolerance) {
  golden<T, B>(0.5, 2.0634368557, {0.1652986, 0.0860668, -0.1063216}, {0.0438171, 0.1342611}, 0.5792543,
               tolerance);
  golden<T, B>(0.1, 4.4039728269, {0.9212391, 0.5981924, -0.6494019}, {}, 2.6952276, tolerance);
}

}  // namespace

TEST_CASE("loss and gradients are the published ones", "[nt_xent]") {
  both_temperatures<double, plain>(6e-8);  // to the last printed digit
  both_temperatures<double, cpu>(6e-8);
  both_temperatures<float, cpu>(1e-5);
}

TEST_CASE("gradients are added, scaled by the weight of the term and by grad_scale", "[nt_xent]") {
  context<cpu> cx;
  tape<cpu> t(cx);
  auto const zi = random_vector<double>(12, 1), zj = random_vector<double>(12, 2);
  auto const pass = [&](nt_xent const& f, double weight, double start) {
    t.clear();
    auto const a = leaf_variable<shape<4>>(t, zi.data(), 3), b = leaf_variable<shape<4>>(t, zj.data(), 3);
    for (int k = 0; k < 12; ++k) a.grad[k] = b.grad[k] = start;
    double const l = f(a, b, weight);
    t.backward();
    std::vector<double> g(a.grad, a.grad + 12);
    g.insert(g.end(), b.grad, b.grad + 12);
    g.push_back(l);
    return g;
  };
  auto const one = pass({}, 1, 0), scaled = pass({.grad_scale = 0.25}, 3, 2);
  for (std::size_t k = 0; k < 24; ++k) CHECK(scaled[k] == Approx(2 + 0.75 * one[k]));
  CHECK(scaled.back() == one.back());
}

TEST_CASE("ranks that gather have the loss of the whole batch and their slice of its gradient", "[nt_xent]") {
  index_t const batch = 2, n = batch * 5;
  auto const zi = random_vector<double>(3 * n, 1), zj = random_vector<double>(3 * n, 2);
  context<cpu> cx;
  tape<cpu> t(cx);
  auto const a = leaf_variable<shape<5>>(t, zi.data(), 6), b = leaf_variable<shape<5>>(t, zj.data(), 6);
  double const whole = nt_xent{}(a, b);
  t.backward();
  std::mutex one_at_a_time;
  support::threads_as_ranks ranks(3);
  ranks.run([&](int rank, rank_group const& group) {
    context<cpu> own;
    tape<cpu> mine(own);
    auto const i = leaf_variable<shape<5>>(mine, zi.data() + rank * n, batch),
               j = leaf_variable<shape<5>>(mine, zj.data() + rank * n, batch);
    double const loss = nt_xent{.ranks = group}(i, j);
    mine.backward();
    std::lock_guard const lock(one_at_a_time);
    CHECK(loss == whole);
    CHECK(std::equal(i.grad, i.grad + n, a.grad + rank * n));
    CHECK(std::equal(j.grad, j.grad + n, b.grad + rank * n));
  });
}

TEST_CASE("wrong batches and ranks without an exchange are refused", "[nt_xent]") {
  context<cpu> cx;
  tape<cpu> t(cx);
  auto const z = random_vector<float>(12, 1);
  auto const two = leaf_variable<shape<4>>(t, z.data(), 2), three = leaf_variable<shape<4>>(t, z.data(), 3);
  CHECK_THROWS_WITH(nt_xent{}(two, three), Catch::Contains("the first view has 2 samples, the second 3"));
  CHECK_THROWS_WITH((nt_xent{.ranks = {.rank = 0, .size = 2}})(two, two),
                    Catch::Contains("without rank_group::gather"));
}
