// SPDX-License-Identifier: Apache-2.0
// Layer and group normalisation against their reference, and the reference against differences.
#include "insula/kernels/cpu/norm.hpp"

#include "insula/kernels/plain/norm.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

template <class V>
auto given(bool is, V& v) {
  return is ? v.data() : nullptr;
}

struct layer_case {
  index_t rows, width;
  bool affine = true, stats = true, adds = false, in_place = false, gx = true, gw = true, gb = true;
  float shift = 0;
};

void check_layer_norm(layer_case const& s, double double_tolerance = 1e-13) {
  INFO("rows " << s.rows << ", width " << s.width << ", shift " << s.shift);
  check_parity(
      [&]<class B, class T>(context<B>& cx) -> outputs {
        index_t const n = s.rows * s.width;
        auto x = input<T>(n, 1), gy = input<T>(n, 2);
        for (T& v : x) v = T(float(v) + s.shift);
        auto const w = input<T>(s.width, 3), b = input<T>(s.width, 4);
        auto y = poisoned<T>(n), stats = poisoned<T>(3 * s.rows), gx = target<T>(s.adds, n, 5);
        auto gw = input<T>(s.width, 6), gb = input<T>(s.width, 7);
        run<op::layer_norm, B, T>(cx, {s.rows, s.width, 1e-5, x.data(), given(s.affine, w),
                                       given(s.affine, b), y.data(), given(s.stats, stats)});
        if (!s.stats) {
          run<op::layer_norm, B, T>(cx, {s.rows, s.width, 1e-5, x.data(), given(s.affine, w),
                                         given(s.affine, b), x.data(), nullptr});
          return {widened(y), widened(x)};
        }
        T* const to = s.in_place ? gy.data() : gx.data();
        run<op::layer_norm_grad, B, T>(
            cx, {s.rows, s.width, x.data(), given(s.affine, w), stats.data(), gy.data(), s.adds,
                 s.gx ? to : nullptr, given(s.gw, gw), given(s.gb, gb)});
        if (!s.gx || s.in_place) gx = gy;
        return {widened(y), widened(stats), widened(gx), widened(gw), widened(gb)};
      },
      2e-6, double_tolerance);
}

struct group_case {
  index_t batch, positions, channels, groups;
  activation act = activation::none;
  bool affine = true, skip = false, adds = false, skip_adds = false, gx = true, gskip = false, gw = true;
  int in_place = 0;  // 1: gx is gy, 2: gskip is gy
  float shift = 0;
};

void check_group_norm(group_case const& s, double double_tolerance = 1e-13) {
  INFO("batch " << s.batch << ", positions " << s.positions << ", channels " << s.channels << ", groups "
                << s.groups << ", act " << int(s.act) << ", skip " << s.skip << ", in place " << s.in_place);
  check_parity(
      [&]<class B, class T>(context<B>& cx) -> outputs {
        index_t const n = s.batch * s.positions * s.channels;
        auto x = input<T>(n, 1), gy = input<T>(n, 2);
        for (T& v : x) v = T(float(v) + s.shift);
        auto const skip = input<T>(n, 3), w = input<T>(s.channels, 4), b = input<T>(s.channels, 5);
        auto y = poisoned<T>(n), stats = poisoned<T>(3 * s.batch * s.groups), gx = target<T>(s.adds, n, 6),
             gskip = target<T>(s.skip_adds, n, 7);
        auto gw = input<T>(s.channels, 8), gb = input<T>(s.channels, 9);
        run<op::group_norm, B, T>(
            cx, {s.batch, s.positions, s.channels, s.groups, 1e-5, s.act, x.data(), given(s.skip, skip),
                 given(s.affine, w), given(s.affine, b), y.data(), stats.data()});
        T* const to = s.in_place == 1 ? gy.data() : gx.data();
        T* const skip_to = s.in_place == 2 ? gy.data() : gskip.data();
        run<op::group_norm_grad, B, T>(
            cx, {s.batch, s.positions, s.channels, s.groups, s.act, x.data(), given(s.skip, skip),
                 given(s.affine, w), given(s.affine, b), stats.data(), gy.data(), s.adds, s.gx ? to : nullptr,
                 s.skip_adds, s.gskip ? skip_to : nullptr, given(s.gw, gw), given(s.gw, gb)});
        if (s.in_place == 1) gx = gy;
        if (s.in_place == 2) gskip = gy;
        if (!s.gx) gx = x;
        if (!s.gskip) gskip = x;
        auto own = x, own_skip = skip;  // y may be x or skip
        auto again = poisoned<T>(3 * s.batch * s.groups);
        run<op::group_norm, B, T>(
            cx, {s.batch, s.positions, s.channels, s.groups, 1e-5, s.act, own.data(), given(s.skip, skip),
                 given(s.affine, w), given(s.affine, b), own.data(), again.data()});
        if (s.skip)
          run<op::group_norm, B, T>(
              cx, {s.batch, s.positions, s.channels, s.groups, 1e-5, s.act, x.data(), own_skip.data(),
                   given(s.affine, w), given(s.affine, b), own_skip.data(), again.data()});
        return {widened(y),  widened(stats), widened(gx),  widened(gskip),
                widened(gw), widened(gb),    widened(own), widened(own_skip)};
      },
      3e-6, double_tolerance);
}

}  // namespace

TEST_CASE("layer norm and its gradient on the CPU are the reference at awkward sizes") {
  std::mt19937 g(1);
  for (int round = 0; round < 40; ++round)
    check_layer_norm({.rows = pick(g, {1, 7, 33, 1000}),
                      .width = pick(g, {3, 5, 24, 48, 50, 130}),
                      .affine = round % 3 != 0,
                      .stats = round % 4 != 3,
                      .adds = round % 4 == 1,
                      .in_place = round % 4 == 2,
                      .gx = round % 5 != 0,
                      .gw = round % 6 != 0,
                      .gb = round % 7 != 0});
}

TEST_CASE("layer norm of several rows at once gives the bits of one row at a time") {
  context<cpu> cx;
  for (index_t width : {1, 5, 48, 101})
    for (index_t rows : {1, 4, 7}) {
      INFO("rows " << rows << ", width " << width);
      auto const x = input<float>(rows * width, 1), w = input<float>(width, 2), b = input<float>(width, 3);
      auto y = poisoned<float>(rows * width), stats = poisoned<float>(3 * rows), one = y, of_one = stats;
      run<op::layer_norm, cpu, float>(
          cx, {rows, width, 1e-5, x.data(), w.data(), b.data(), y.data(), stats.data()});
      for (index_t r = 0; r < rows; ++r)
        run<op::layer_norm, cpu, float>(cx, {1, width, 1e-5, x.data() + r * width, w.data(), b.data(),
                                             one.data() + r * width, of_one.data() + 3 * r});
      CHECK(y == one);
      CHECK(stats == of_one);
    }
}

TEST_CASE("layer norm of one column is its bias") {
  context<cpu> cx;
  float const x = 3, w = 5, b = 0.25f;
  float y = 0;
  run<op::layer_norm, cpu, float>(cx, {1, 1, 1e-5, &x, &w, &b, &y, nullptr});
  CHECK(y == 0.25f);
}

TEST_CASE("the gradient of layer norm of no row adds nothing") {
  context<cpu> cx;
  auto const x = input<float>(7 * 40, 1), w = input<float>(40, 2);
  std::vector<float> stats(3 * 7, 1.0f), gx(7 * 40), gw(40, 5.0f), gb(40, 6.0f);
  run<op::layer_norm_grad, cpu, float>(
      cx, {7, 40, x.data(), w.data(), stats.data(), x.data(), false, gx.data(), gw.data(), gb.data()});
  auto const before = gw;
  run<op::layer_norm_grad, cpu, float>(
      cx, {0, 40, x.data(), w.data(), stats.data(), x.data(), false, gx.data(), gw.data(), gb.data()});
  CHECK(gw == before);
}

TEST_CASE("layer norm keeps its digits when the mean is a thousand deviations away") {
  // In double the reference itself has an error of |mean| / deviation units of rounding; in float nothing is lost.
  check_layer_norm({.rows = 33, .width = 50, .stats = false, .shift = 1000}, 2e-12);
  check_layer_norm({.rows = 7, .width = 130, .stats = false, .shift = -3000}, 2e-12);
  check_layer_norm({.rows = 33, .width = 50, .shift = 1000}, 2e-12);
  check_layer_norm({.rows = 7, .width = 130, .adds = true, .shift = -3000}, 2e-12);
}

TEST_CASE("group norm and its gradient on the CPU are the reference at awkward sizes") {
  struct {
    index_t channels, groups;
  } const cuts[] = {{1, 1}, {5, 5}, {5, 1}, {24, 3}, {24, 24}, {48, 1}, {50, 10}, {130, 2}};
  activation const acts[] = {activation::none, activation::relu, activation::leaky_relu, activation::gelu};
  std::mt19937 g(2);
  for (int round = 0; round < 48; ++round) {
    auto const cut = cuts[g() % 8];
    int const in_place = round % 4 == 3 ? 1 + round / 4 % 2 : 0;
    bool const skip = round % 3 != 0;
    check_group_norm({.batch = pick(g, {1, 3}),
                      .positions = pick(g, {3, 7, 33, 200}),
                      .channels = cut.channels,
                      .groups = cut.groups,
                      .act = acts[g() % 4],
                      .affine = round % 5 != 0,
                      .skip = skip,
                      .adds = in_place != 1 && round % 2,
                      .skip_adds = in_place != 2 && round % 3 == 1,
                      .gx = in_place == 1 || round % 7 != 0,
                      .gskip = skip && (in_place == 2 || round % 4 != 0),
                      .gw = round % 6 != 0,
                      .in_place = in_place == 2 && !skip ? 0 : in_place});
  }
}

TEST_CASE("group norm merges many chunks of positions in order") {
  check_group_norm(
      {.batch = 2, .positions = 5000, .channels = 5, .groups = 5, .act = activation::leaky_relu});
  check_group_norm({.batch = 1,
                    .positions = 1500,
                    .channels = 24,
                    .groups = 2,
                    .act = activation::gelu,
                    .skip = true,
                    .adds = true,
                    .gskip = true});
  check_group_norm({.batch = 1, .positions = 9, .channels = 3072, .groups = 32});
}

TEST_CASE(
    "group norm keeps its digits when the mean is a thousand deviations away, at once or in the course of a "
    "volume") {
  context<cpu> cx;
  context<plain> reference;
  index_t const positions = 3000, channels = 24, groups = 4, n = positions * channels;
  for (index_t from : {index_t{0}, index_t{1}, index_t{170}, index_t{400}, index_t{682}, index_t{2999}}) {
    INFO("far away from position " << from << " on");
    auto x = input<float>(n, 1);
    for (index_t i = from * channels; i < n; ++i) x[std::size_t(i)] += 1000;
    auto y = poisoned<float>(n), stats = poisoned<float>(3 * groups);
    std::vector<double> const wide(x.begin(), x.end());
    auto exact = poisoned<double>(n), exact_stats = poisoned<double>(3 * groups);
    run<op::group_norm, cpu, float>(cx, {1, positions, channels, groups, 1e-5, activation::none, x.data(),
                                         nullptr, nullptr, nullptr, y.data(), stats.data()});
    run<op::group_norm, plain, double>(
        reference, {1, positions, channels, groups, 1e-5, activation::none, wide.data(), nullptr, nullptr,
                    nullptr, exact.data(), exact_stats.data()});
    CHECK(relative_error(y, exact) < 2e-6);
    for (index_t i = 0; i < groups; ++i)
      CHECK(stats[std::size_t(3 * i + 1)] == Approx(exact_stats[std::size_t(3 * i + 1)]).epsilon(2e-6));
    CHECK(relative_error(stats, exact_stats) < 2e-6);
  }
}

TEST_CASE("gradients of group norm keep their digits when the mean is a thousand deviations away") {
  for (activation act : {activation::none, activation::relu, activation::leaky_relu, activation::gelu})
    for (bool skip : {false, true}) {
      check_group_norm({.batch = 2,
                        .positions = 700,
                        .channels = 12,
                        .groups = 3,
                        .act = act,
                        .skip = skip,
                        .gskip = skip,
                        .shift = 1000},
                       2e-12);
      check_group_norm({.batch = 1,
                        .positions = 90,
                        .channels = 40,
                        .groups = 40,
                        .act = act,
                        .skip = skip,
                        .adds = true,
                        .shift = -4000},
                       2e-12);
    }
}

TEST_CASE("the reference gradients of the norms are difference quotients") {
  context<plain> cx;
  SECTION("layer norm") {
    index_t const rows = 3, width = 6;
    auto const x = input<double>(rows * width, 1), w = input<double>(width, 2), b = input<double>(width, 3),
               gy = input<double>(rows * width, 4);
    auto stats = poisoned<double>(3 * rows), gx = poisoned<double>(rows * width);
    auto const loss = [&](std::vector<double> const& xs, std::vector<double> const& ws,
                          std::vector<double> const& bs) {
      auto y = poisoned<double>(rows * width);
      run<op::layer_norm, plain, double>(
          cx, {rows, width, 1e-5, xs.data(), ws.data(), bs.data(), y.data(), stats.data()});
      return dot(y, gy);
    };
    loss(x, w, b);
    std::vector<double> gw(6), gb(6);
    auto const kept = stats;
    run<op::layer_norm_grad, plain, double>(cx, {rows, width, x.data(), w.data(), kept.data(), gy.data(),
                                                 false, gx.data(), gw.data(), gb.data()});
    CHECK(difference_error(x, gx, [&](auto const& v) { return loss(v, w, b); }) < 1e-6);
    CHECK(difference_error(w, gw, [&](auto const& v) { return loss(x, v, b); }) < 1e-6);
    CHECK(difference_error(b, gb, [&](auto const& v) { return loss(x, w, v); }) < 1e-6);
  }
  SECTION("group norm") {
    index_t const batch = 2, positions = 3, channels = 6, groups = 2, n = batch * positions * channels;
    for (activation act : {activation::none, activation::relu, activation::leaky_relu, activation::gelu}) {
      std::vector<std::vector<double>> const in{input<double>(n, 1), input<double>(n, 2),
                                                input<double>(channels, 3), input<double>(channels, 4)};
      auto const gy = input<double>(n, 5);
      auto stats = poisoned<double>(3 * batch * groups);
      auto const loss = [&](std::vector<std::vector<double>> const& a) {
        auto y = poisoned<double>(n);
        run<op::group_norm, plain, double>(
            cx, {batch, positions, channels, groups, 1e-5, act, a[0].data(), a[1].data(), a[2].data(),
                 a[3].data(), y.data(), stats.data()});
        return dot(y, gy);
      };
      loss(in);
      auto const kept = stats;
      auto gx = poisoned<double>(n), gskip = poisoned<double>(n);
      std::vector<double> gw(channels), gb(channels);
      run<op::group_norm_grad, plain, double>(
          cx,
          {batch, positions, channels, groups, act, in[0].data(), in[1].data(), in[2].data(), in[3].data(),
           kept.data(), gy.data(), false, gx.data(), false, gskip.data(), gw.data(), gb.data()});
      std::vector<std::vector<double>> const out{gx, gskip, gw, gb};
      for (std::size_t i = 0; i < in.size(); ++i) {
        INFO("argument " << i << ", act " << int(act));
        CHECK(difference_error(in[i], out[i], [&](auto const& v) {
                auto a = in;
                a[i] = v;
                return loss(a);
              }) < 1e-6);
      }
    }
  }
}
