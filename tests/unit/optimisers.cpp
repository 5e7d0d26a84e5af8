// SPDX-License-Identifier: Apache-2.0
// Adam, AdamW, LARS, SGD: the published golden steps, their rules, groups, schedules over epochs, exact resume.
#include "insula/cpu.hpp"
#include "insula/insula.hpp"
#include "insula/plain.hpp"
#include "insula/testing/compare.hpp"
#include "insula/train/weights_io.hpp"
#include "support/catch.hpp"
#include "support/fill.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using insula::testing::random_vector;
using support::fill, support::message_of;

namespace {

tensor_place place(char const* name, dims shape, index_t offset, bool frozen = false) {
  return {name, shape, layout::same, start::zeros, 1, offset, frozen};
}

/// p after three steps with the gradients of the golden numbers.
template <class T, class B, class Optimizer>
std::vector<T> after_three_steps(Optimizer optimizer, double rate) {
  context<B> cx;
  auto p = fill<T>(21, 5);
  for (std::uint32_t t = 1; t <= 3; ++t) {
    auto g = fill<T>(30 + t, 5);
    for (T& v : g) v *= T(0.1);
    optimizer.step(cx, g.data(), p.data(), rate);
  }
  return p;
}

template <class T, class B>
void check_golden(double tolerance) {
  auto const near = [&](std::vector<T> const& p, std::vector<double> const& golden) {
    for (std::size_t i = 0; i < 5; ++i) {
      INFO(i << ": " << double(p[i]) << ", published " << golden[i]);
      CHECK(std::abs(double(p[i]) - golden[i]) < tolerance);
    }
  };
  near(after_three_steps<T, B>(adam<T, B>(5), 3e-4),
       {0.696199599, -0.706668541, -0.424366637, -0.221390332, -0.431227933});
  near(after_three_steps<T, B>(adamw<T, B>(5, {{0, 5, 0.05}}, {.beta2 = 0.95}), 1e-2),
       {0.666706913, -0.722948525, -0.443235216, -0.205225188, -0.425564277});
  near(after_three_steps<T, B>(lars<T, B>(5, {place("w", make_dims(5), 0)}), 0.084375),
       {0.696940644, -0.706196530, -0.423945063, -0.221770696, -0.431419607});
}

}  // namespace

TEST_CASE("the golden fill is the published one") {
  auto const a = fill(1, 4), b = fill(7, 3);
  std::vector<double> const first{0.1467952, 0.1767875, 0.4082675, 0.8555259};
  std::vector<double> const seventh{-0.05675941, 0.94473535, -0.05637561};
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(a[i] - first[i]) < 6e-8);
  for (std::size_t i = 0; i < 3; ++i) CHECK(std::abs(b[i] - seventh[i]) < 6e-9);
}

TEST_CASE(
    "three steps of Adam, AdamW and LARS are the published ones, to one unit of the last printed digit in "
    "double") {
  check_golden<double, plain>(1e-9);
  check_golden<double, cpu>(1e-9);
}
TEST_CASE("three steps of Adam, AdamW and LARS are the published ones in float") {
  check_golden<float, plain>(2e-7);
  check_golden<float, cpu>(2e-7);
}

TEST_CASE("published LARS never moves a tensor of zeros; the corrected rule does, with ratio 1") {
  context<cpu> cx;
  std::vector<double> const g{1, 1, 1};
  std::vector<tensor_place> const one{place("bn1.bias", make_dims(3), 0)};
  std::vector<double> p(3, 0.0), q(3, 0.0);
  lars<double> published(3, one), corrected(3, one, {.rule = lars_rule::corrected});
  published.step(cx, g.data(), p.data(), 0.1), corrected.step(cx, g.data(), q.data(), 0.1);
  CHECK(p == std::vector<double>{0, 0, 0});
  for (double const v : q) CHECK(v == Approx(-0.1).epsilon(1e-14));
}

TEST_CASE("published LARS decays and adapts vectors, the corrected rule does not") {
  context<plain> cx;
  std::vector<double> const g{0.5, -0.25};
  std::vector<tensor_place> const one{place("norm.weight", make_dims(2), 0)};
  std::vector<double> p{3, 4}, q{3, 4};
  lars_options const o{.momentum = 0.5, .decay = 0.1};
  lars<double, plain> published(2, one, o);
  published.step(cx, g.data(), p.data(), 2);
  double const g0 = 0.5 + 0.3, g1 = -0.25 + 0.4, ratio = 0.001 * 5 / std::hypot(g0, g1);
  CHECK(p[0] == Approx(3 - 2 * ratio * g0).epsilon(1e-14));
  CHECK(p[1] == Approx(4 - 2 * ratio * g1).epsilon(1e-14));
  lars_options c = o;
  c.rule = lars_rule::corrected;
  lars<double, plain> corrected(2, one, c);
  corrected.step(cx, g.data(), q.data(), 2);
  CHECK(q[0] == Approx(3 - 2 * 0.5).epsilon(1e-14));
  CHECK(q[1] == Approx(4 + 2 * 0.25).epsilon(1e-14));
}

TEST_CASE(
    "LARS adapts each tensor by its own norms, and leaves frozen tensors and the rest of the range alone") {
  context<cpu> cx;
  std::vector<tensor_place> const two{place("a.weight", make_dims(2, 2), 0),
                                      place("b.weight", make_dims(1, 3), 16),
                                      place("c.weight", make_dims(2, 2), 32, true)};
  auto w = random_vector<double>(48, 1);
  auto const g = random_vector<double>(48, 2), before = w;
  lars<double>(48, two, {.decay = 0}).step(cx, g.data(), w.data(), 0.5);
  for (std::size_t const first : {std::size_t(0), std::size_t(16)}) {
    std::size_t const n = first == 0 ? 4 : 3;
    double ww = 0, gg = 0;
    for (std::size_t i = first; i < first + n; ++i) ww += before[i] * before[i], gg += g[i] * g[i];
    for (std::size_t i = first; i < first + n; ++i)
      CHECK(w[i] == Approx(before[i] - 0.5 * 0.001 * std::sqrt(ww / gg) * g[i]).epsilon(1e-13));
  }
  for (std::size_t i = 0; i < 48; ++i)
    if (!(i < 4 || (i >= 16 && i < 19))) CHECK(w[i] == before[i]);
}

TEST_CASE("the rate of LARS enters the velocity, or multiplies it where it is used") {
  context<plain> cx;
  std::vector<tensor_place> const one{place("w", make_dims(1, 1), 0)};
  for (bool const inside : {true, false}) {
    lars<double, plain> l(1, one, {.momentum = 0.5, .decay = 0, .trust = 1, .rate_in_velocity = inside});
    double w = 2;
    double const g = 4;
    l.step(cx, &g, &w, 0.1);  // q = 1/2: b = 2 (or 0.2), w = 1.8
    CHECK(w == Approx(1.8).epsilon(1e-14));
    l.step(cx, &g, &w, 0.2);  // q g = w: inside b = 0.1 + 0.36, outside b = 1 + 1.8
    CHECK(w == Approx(inside ? 1.8 - 0.46 : 1.8 - 0.2 * 2.8).epsilon(1e-14));
  }
}

TEST_CASE(
    "published LARS names a tensor whose gradient is zero and changes nothing; the corrected rule steps") {
  context<cpu> cx;
  std::vector<tensor_place> const two{place("a.weight", make_dims(1, 2), 0),
                                      place("head.bias", make_dims(2), 16)};
  std::vector<double> w(32, 1.0), g(32, 0.0);
  g[0] = 1;
  lars<double> l(32, two, {.decay = 0});
  CHECK_THAT(message_of([&] { l.step(cx, g.data(), w.data(), 0.1); }),
             Contains("head.bias") && Contains("lars_rule::corrected"));
  CHECK(w == std::vector<double>(32, 1.0));
  CHECK(l.counts()[0] == 0);
  lars<double>(32, two, {.decay = 0, .rule = lars_rule::corrected}).step(cx, g.data(), w.data(), 0.1);
  CHECK(w[0] < 1);
  CHECK(w[16] == 1);
}

TEST_CASE("SGD is PyTorch's: momentum after the gradient, Nesterov looks ahead") {
  context<cpu> cx;
  double const g = 1;
  for (bool const nesterov : {false, true}) {
    double w = 1;
    sgd<double> s(1, {{0, 1, 0.5, 2}}, {.momentum = 0.9, .nesterov = nesterov});
    s.step(cx, &g, &w, 0.1);  // g' = 1.5, b = 1.5, rate 0.2
    double const first = 1 - 0.2 * (nesterov ? 1.5 + 0.9 * 1.5 : 1.5);
    CHECK(w == Approx(first).epsilon(1e-14));
    s.step(cx, &g, &w, 0.1);
    double const g2 = 1 + 0.5 * first, b = 0.9 * 1.5 + g2;
    CHECK(w == Approx(first - 0.2 * (nesterov ? g2 + 0.9 * b : b)).epsilon(1e-14));
  }
}

TEST_CASE("Adam's decay is a term of the gradient, AdamW's is not") {
  context<cpu> cx;
  double const g = 0;
  double w1 = 2, w2 = 2;
  adam<double>(1, {{0, 1, 0.25}}, {.eps = 0}).step(cx, &g, &w1, 0.1);
  adamw<double>(1, {{0, 1, 0.25}}).step(cx, &g, &w2, 0.1);
  CHECK(w1 == Approx(2 - 0.1).epsilon(1e-14));  // the first step has length lr
  CHECK(w2 == Approx(2 * (1 - 0.1 * 0.25)).epsilon(1e-14));
}

TEST_CASE("an optimiser of a part of the range leaves the rest alone, and says which group lies outside") {
  context<cpu> cx;
  auto w = random_vector<float>(64, 3);
  auto const before = w, g = random_vector<float>(64, 4);
  adam<float> head(64, {{48, 9, 0}});
  for (int i = 0; i < 3; ++i) head.step(cx, g.data(), w.data(), 0.1);
  for (std::size_t i = 0; i < 64; ++i) CHECK((w[i] != before[i]) == (i >= 48 && i < 57));
  CHECK_THAT(message_of([] { adam<float>(8, {{4, 5, 0}}); }), Contains("adam: group 4 + 5") && Contains("8"));
  CHECK_THAT(message_of([] { adamw<float>(8, {{4, 5, 0}}); }), Contains("adamw: group 4 + 5"));
  CHECK_THAT(message_of([] { sgd<float>(8, {{-1, 5, 0}}); }), Contains("sgd: group -1 + 5"));
  CHECK_THAT(message_of([] { lars<float>(8, {place("w", make_dims(3, 3), 0)}); }),
             Contains("lars: w at 0 + 9"));
}

TEST_CASE("an average given to a step follows the new weights of the groups and leaves the rest alone") {
  context<cpu> cx;
  auto const follows = [&]<class Optimizer>(Optimizer alone, Optimizer joined) {
    auto const g = random_vector<float>(12, 1);
    auto w = random_vector<float>(12, 2), expected = w, average = random_vector<float>(12, 3),
         before = average;
    alone.step(cx, g.data(), expected.data(), 0.1, 0.5);
    joined.step(cx, g.data(), w.data(), 0.1, 0.5, {average.data(), 0.75});
    CHECK(w == expected);
    for (std::size_t i = 0; i < 12; ++i) {
      bool const inside = i >= 2 && i < 11;
      double const value = inside ? 0.75 * double(before[i]) + 0.25 * double(w[i]) : double(before[i]);
      CHECK(std::abs(double(average[i]) - value) <= (inside ? 1e-7 : 0));
    }
  };
  std::vector<parameter_group> const groups{{2, 4, 0.05}, {6, 5, 0}};
  follows(adamw<float>(12, groups), adamw<float>(12, groups));
  follows(adam<float>(12, groups), adam<float>(12, groups));
}

TEST_CASE("groups follow tensors: neighbours with equal settings join, gaps of alignment included") {
  std::vector<tensor_place> const places{place("b.weight", make_dims(4, 5), 16),
                                         place("a.weight", make_dims(3, 3), 0),
                                         place("b.bias", make_dims(4), 48),
                                         place("norm.weight", make_dims(4), 64),
                                         place("frozen.weight", make_dims(2, 2), 80, true),
                                         place("c.weight", make_dims(2, 2), 96)};
  auto const g = decay_matrices(places, 0.05);
  REQUIRE(g.size() == 3);
  CHECK((g[0].offset == 0 && g[0].size == 36 && g[0].decay == 0.05));
  CHECK((g[1].offset == 48 && g[1].size == 20 && g[1].decay == 0));
  CHECK((g[2].offset == 96 && g[2].size == 4 && g[2].decay == 0.05));
  auto const some = group_tensors(places, [](tensor_place const& t) -> std::optional<group_settings> {
    if (t.name == "norm.weight") return {};
    return group_settings{0, t.name == "b.bias" ? 2.0 : 1.0};
  });
  REQUIRE(some.size() == 3);
  CHECK((some[1].offset == 48 && some[1].size == 4 && some[1].rate_scale == 2));
}

TEST_CASE("the cosine over epochs is the published one, per epoch and per iteration") {
  epoch_cosine const simclr{.peak = 0.084375, .epochs = 150};
  CHECK(simclr.at(0) == 0.084375);
  CHECK(simclr.at(1) == Approx(0.0843657476).epsilon(1e-9));
  CHECK(simclr.at(75) == Approx(0.0421875).epsilon(1e-12));
  CHECK(simclr.at(149) == Approx(9.2524159e-6).epsilon(1e-7));
  CHECK(simclr.at(150) == Approx(0).margin(1e-18));
  CHECK(simclr.at(400) == Approx(0).margin(1e-18));
  epoch_cosine const mae{.peak = 7.5e-5, .warm_up = 40, .epochs = 150};
  CHECK(mae.at(0) == 0);
  for (auto const& [e, rate] : {std::pair{1.0, 1.875e-6},
                                {20.0, 3.75e-5},
                                {40.0, 7.5e-5},
                                {41.0, 7.49847072e-5},
                                {95.0, 3.75e-5},
                                {149.0, 1.52927689e-8}})
    CHECK(mae.at(e) == Approx(rate).epsilon(1e-8));
  CHECK(mae.at_step(146 * 20, 146) == Approx(3.75e-5).epsilon(1e-12));
  CHECK(mae.at_step(73, 146) == Approx(7.5e-5 / 80).epsilon(1e-12));
}

namespace {

template <class Make>
void check_resume(Make make, std::string const& range) {
  support::folder const dir;
  std::vector<tensor_place> const places{
      {"fc.weight", make_dims(6, 11), layout::linear, start::zeros, 11, 0, false},
      place("fc.bias", make_dims(6), 80)};
  context<cpu> cx;
  auto w1 = random_vector<float>(96, 5);
  auto first = make(places);
  auto const gradient = [](std::uint64_t t) { return random_vector<float>(96, 100 + t); };
  for (std::uint64_t t = 0; t < 3; ++t) first.step(cx, gradient(t).data(), w1.data(), 0.1);
  safetensors_writer w;
  state_map state;
  add_tensors(w, places, w1.data(), "model.");
  add_optimizer(w, state, places, first);
  w.metadata[state_entry] = pack_state(state);
  w.write(dir / "c.safetensors");
  safetensors_file const file(dir / "c.safetensors");
  CHECK(file.find("optimizer." + range + ".fc.weight") != nullptr);
  std::vector<float> w2(96);
  auto second = make(places);
  restore_tensors(file, places, w2.data(), "model.");
  restore_optimizer(file, unpack_state(file), places, second);
  for (std::uint64_t t = 3; t < 6; ++t)
    first.step(cx, gradient(t).data(), w1.data(), 0.1), second.step(cx, gradient(t).data(), w2.data(), 0.1);
  for (auto const& p : places)
    for (auto i = std::size_t(p.offset); i < std::size_t(p.offset + p.size()); ++i) REQUIRE(w1[i] == w2[i]);
}

}  // namespace

TEST_CASE("every optimiser goes on exactly where it was") {
  check_resume([](auto const&) { return adam<float>(96, {{0, 96, 0}}); }, "first_moment");
  check_resume([](auto const& p) { return adamw<float>(96, decay_matrices(p, 0.05)); }, "second_moment");
  check_resume([](auto const& p) { return lars<float>(96, p); }, "momentum");
  check_resume([](auto const&) { return sgd<float>(96); }, "momentum");
}

TEST_CASE("a checkpoint of another optimiser is refused with its reason") {
  support::folder const dir;
  std::vector<tensor_place> const places{place("w", make_dims(4), 0)};
  sgd<float> s(16);
  safetensors_writer w;
  state_map state;
  add_optimizer(w, state, places, s);
  w.write(dir / "c.safetensors");
  safetensors_file const file(dir / "c.safetensors");
  adam<float> a(16);
  CHECK_THAT(message_of([&] { restore_optimizer(file, state, places, a); }),
             Contains("another optimiser") && Contains("first_moment"));
}

TEST_CASE("a step allocates nothing") {
  context<cpu> cx(2);
  std::vector<tensor_place> const places{place("a.weight", make_dims(100, 300), 0)};
  std::vector<float> w(30000, 1.0f), g(30000, 0.5f);
  lars<float> l(30000, places);
  adam<float> a(30000);
  auto const step = [&] { l.step(cx, g.data(), w.data(), 0.1), a.step(cx, g.data(), w.data(), 0.1); };
  step();
  auto const before = host_memory().calls.load();
  step();
  CHECK(host_memory().calls.load() == before);
}
