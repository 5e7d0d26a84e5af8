// SPDX-License-Identifier: Apache-2.0
// Batch normalisation and max-pooling against their reference, the reference against differences, and two ranks against one.
#include "insula/kernels/cpu/batch_norm.hpp"

#include "insula/kernels/plain/batch_norm.hpp"
#include "support/parity.hpp"
#include "support/ranks.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

template <class V>
auto given(bool is, V& v) {
  return is ? v.data() : nullptr;
}

struct norm_case {
  index_t rows, channels;
  activation act = activation::none;
  norm_statistics from = norm_statistics::batch;
  bool affine = true, running = true, skip = false, adds = false, skip_adds = false, gx = true, gskip = false,
       gw = true;
  int in_place = 0;  // 1: gx is gy, 2: gskip is gy
  float shift = 0;
};

template <class T>
std::vector<T> variances(index_t n, std::uint64_t seed) {
  auto v = input<T>(n, seed);
  for (T& x : v) x = T(1) + x / T(2);
  return v;
}

void check_batch_norm(norm_case const& s, double float_tolerance = 3e-6) {
  INFO("rows " << s.rows << ", channels " << s.channels << ", act " << int(s.act) << ", from " << int(s.from)
               << ", skip " << s.skip << ", in place " << s.in_place);
  check_parity(
      [&]<class B, class T>(context<B>& cx) -> outputs {
        index_t const n = s.rows * s.channels, c = s.channels;
        auto x = input<T>(n, 1), gy = input<T>(n, 2);
        for (T& v : x) v = T(float(v) + s.shift);
        auto const skip = input<T>(n, 3), w = input<T>(c, 4), b = input<T>(c, 5);
        auto y = poisoned<T>(n), stats = poisoned<T>(3 * c), gx = target<T>(s.adds, n, 6),
             gskip = target<T>(s.skip_adds, n, 7);
        auto gw = input<T>(c, 8), gb = input<T>(c, 9), mean = input<T>(c, 10), var = variances<T>(c, 11);
        bool const running = s.running || s.from == norm_statistics::running;
        auto const forward = [&](norm_statistics from, T const* in, T const* add, T* out, T* kept) {
          run<op::batch_norm, B, T>(cx, {s.rows,
                                         c,
                                         1e-5,
                                         s.act,
                                         from,
                                         {},
                                         in,
                                         add,
                                         given(s.affine, w),
                                         given(s.affine, b),
                                         0.1,
                                         given(running, mean),
                                         given(running, var),
                                         out,
                                         kept});
        };
        forward(s.from, x.data(), given(s.skip, skip), y.data(), stats.data());
        auto const new_mean = mean, new_var = var;
        T* const to = s.in_place == 1 ? gy.data() : gx.data();
        T* const skip_to = s.in_place == 2 ? gy.data() : gskip.data();
        run<op::batch_norm_grad, B, T>(cx, {s.rows,
                                            c,
                                            s.act,
                                            s.from,
                                            {},
                                            x.data(),
                                            given(s.skip, skip),
                                            given(s.affine, w),
                                            given(s.affine, b),
                                            stats.data(),
                                            gy.data(),
                                            s.adds,
                                            s.gx ? to : nullptr,
                                            s.skip_adds,
                                            s.gskip ? skip_to : nullptr,
                                            given(s.gw, gw),
                                            given(s.gw, gb)});
        if (s.in_place == 1) gx = gy;
        if (s.in_place == 2) gskip = gy;
        if (!s.gx) gx = x;
        if (!s.gskip) gskip = x;
        auto again =
            poisoned<T>(n);  // the second pass of a recomputation: the same numbers, nothing else moves
        forward(norm_statistics::kept, x.data(), given(s.skip, skip), again.data(), stats.data());
        if (std::is_same_v<B, cpu>) CHECK(again == y);
        CHECK(mean == new_mean);
        auto own = x, own_skip = skip;  // y may be x or skip, and stats may be absent
        forward(s.from, own.data(), given(s.skip, skip), own.data(), nullptr);
        if (s.skip) forward(s.from, x.data(), own_skip.data(), own_skip.data(), nullptr);
        return {widened(y),   widened(gx),       widened(gskip),    widened(gw),     widened(gb),
                widened(own), widened(own_skip), widened(new_mean), widened(new_var)};
      },
      float_tolerance, 1e-13);
}

struct pool_case {
  op::pool3d_geometry g;
  activation act = activation::relu;
  norm_statistics from = norm_statistics::batch;
  bool affine = true, adds = false, in_place = false, gw = true, ties = false;
};

void check_pool(pool_case const& s) {
  INFO("batch " << s.g.batch << ", channels " << s.g.channels << ", in " << s.g.in.d << "x" << s.g.in.h << "x"
                << s.g.in.w << ", act " << int(s.act) << ", from " << int(s.from));
  index_t const n = s.g.batch * s.g.in.size() * s.g.channels, m = s.g.batch * s.g.out().size() * s.g.channels;
  auto const draw = [&]<class T>(T) {
    auto x = input<T>(n, 1);
    if (s.ties)
      for (T& v : x) v = std::round(v * 2);
    return x;
  };
  check_parity([&]<class B, class T>(context<B>& cx) -> outputs {
    auto const x = draw(T{}), gy = input<T>(m, 2);
    auto y = poisoned<T>(m), gx = target<T>(s.adds, n, 3), unused = poisoned<T>(m);
    std::vector<std::uint8_t> pick(std::size_t(m), 255);
    run<op::max_pool3d, B, T>(cx, {s.g, x.data(), y.data(), pick.data()});
    run<op::max_pool3d_grad, B, T>(cx, {s.g, pick.data(), gy.data(), s.adds, gx.data()});
    run<op::max_pool3d, B, T>(cx, {s.g, x.data(), unused.data(), nullptr});
    return {widened(y), widened(gx), widened(unused), std::vector<double>(pick.begin(), pick.end())};
  });
  check_parity(
      [&]<class B, class T>(context<B>& cx) -> outputs {
        index_t const c = s.g.channels;
        auto x = draw(T{}), gy = input<T>(m, 2), w = input<T>(c, 4), b = input<T>(c, 5);
        auto y = poisoned<T>(m), stats = poisoned<T>(3 * c), gx = target<T>(s.adds, n, 3),
             gw = input<T>(c, 6), gb = input<T>(c, 7), mean = input<T>(c, 8), var = variances<T>(c, 9);
        std::vector<std::uint8_t> pick(std::size_t(m), 255);
        run<op::batch_norm_pool, B, T>(cx, {s.g,
                                            1e-5,
                                            s.act,
                                            s.from,
                                            {},
                                            x.data(),
                                            given(s.affine, w),
                                            given(s.affine, b),
                                            0.1,
                                            mean.data(),
                                            var.data(),
                                            y.data(),
                                            stats.data(),
                                            pick.data()});
        T* const to = s.in_place ? x.data() : gx.data();
        run<op::batch_norm_pool_grad, B, T>(cx, {s.g,
                                                 s.act,
                                                 s.from,
                                                 {},
                                                 x.data(),
                                                 given(s.affine, w),
                                                 given(s.affine, b),
                                                 stats.data(),
                                                 pick.data(),
                                                 gy.data(),
                                                 s.adds,
                                                 to,
                                                 given(s.gw, gw),
                                                 given(s.gw, gb)});
        return {widened(y),  widened(s.in_place ? x : gx), widened(gw), widened(gb), widened(mean),
                widened(var)};
      },
      3e-6, 1e-13);
}

}  // namespace

TEST_CASE("batch norm and its gradient on the CPU are the reference at awkward sizes") {
  activation const acts[] = {activation::none, activation::relu, activation::leaky_relu, activation::gelu};
  std::mt19937 g(1);
  for (int round = 0; round < 48; ++round) {
    int const in_place = round % 4 == 3 ? 1 + round / 4 % 2 : 0;
    bool const skip = round % 3 != 0;
    check_batch_norm({.rows = pick(g, {3, 7, 33, 200}),
                      .channels = pick(g, {1, 5, 8, 24, 50, 130}),
                      .act = acts[g() % 4],
                      .from = round % 5 == 4 ? norm_statistics::running : norm_statistics::batch,
                      .affine = round % 5 != 0,
                      .running = round % 7 != 3,
                      .skip = skip,
                      .adds = in_place != 1 && round % 2,
                      .skip_adds = in_place != 2 && round % 3 == 1,
                      .gx = in_place == 1 || round % 7 != 0,
                      .gskip = skip && (in_place == 2 || round % 4 != 0),
                      .gw = round % 6 != 0,
                      .in_place = in_place == 2 && !skip ? 0 : in_place});
  }
}

TEST_CASE("batch norm of two rows is plus and minus one") {
  // Its input gradient is the small rest of a cancellation, so it has no digits to compare.
  check_batch_norm({.rows = 2, .channels = 50, .act = activation::leaky_relu, .gx = false});
}

TEST_CASE("batch norm merges many blocks and tasks of rows in order") {
  check_batch_norm({.rows = 20000, .channels = 5, .act = activation::leaky_relu});
  check_batch_norm(
      {.rows = 3001, .channels = 64, .act = activation::relu, .skip = true, .adds = true, .gskip = true});
  check_batch_norm({.rows = 300, .channels = 3000, .act = activation::relu});
}

TEST_CASE("batch norm keeps its digits when the mean is a thousand deviations away") {
  context<cpu> cx;
  context<plain> reference;
  index_t const rows = 3000, c = 24, n = rows * c;
  auto x = input<float>(n, 1);
  for (float& v : x) v += 1000;
  auto const gy = input<float>(n, 2);
  auto y = poisoned<float>(n), stats = poisoned<float>(3 * c), gx = poisoned<float>(n);
  std::vector<double> const wide(x.begin(), x.end()), wide_gy(gy.begin(), gy.end());
  auto exact = poisoned<double>(n), exact_stats = poisoned<double>(3 * c), exact_gx = poisoned<double>(n);
  run<op::batch_norm, cpu, float>(cx, {rows,
                                       c,
                                       1e-5,
                                       activation::none,
                                       norm_statistics::batch,
                                       {},
                                       x.data(),
                                       nullptr,
                                       nullptr,
                                       nullptr,
                                       0.1,
                                       nullptr,
                                       nullptr,
                                       y.data(),
                                       stats.data()});
  run<op::batch_norm_grad, cpu, float>(cx, {rows,
                                            c,
                                            activation::none,
                                            norm_statistics::batch,
                                            {},
                                            x.data(),
                                            nullptr,
                                            nullptr,
                                            nullptr,
                                            stats.data(),
                                            gy.data(),
                                            false,
                                            gx.data(),
                                            false,
                                            nullptr,
                                            nullptr,
                                            nullptr});
  run<op::batch_norm, plain, double>(reference, {rows,
                                                 c,
                                                 1e-5,
                                                 activation::none,
                                                 norm_statistics::batch,
                                                 {},
                                                 wide.data(),
                                                 nullptr,
                                                 nullptr,
                                                 nullptr,
                                                 0.1,
                                                 nullptr,
                                                 nullptr,
                                                 exact.data(),
                                                 exact_stats.data()});
  run<op::batch_norm_grad, plain, double>(reference, {rows,
                                                      c,
                                                      activation::none,
                                                      norm_statistics::batch,
                                                      {},
                                                      wide.data(),
                                                      nullptr,
                                                      nullptr,
                                                      nullptr,
                                                      exact_stats.data(),
                                                      wide_gy.data(),
                                                      false,
                                                      exact_gx.data(),
                                                      false,
                                                      nullptr,
                                                      nullptr,
                                                      nullptr});
  CHECK(relative_error(y, exact) < 2e-6);
  CHECK(relative_error(gx, exact_gx) < 2e-6);
}

TEST_CASE("max-pooling, alone and behind batch norm, is the reference at awkward sizes") {
  activation const acts[] = {activation::none, activation::relu, activation::leaky_relu, activation::gelu};
  std::mt19937 g(3);
  for (int round = 0; round < 24; ++round) {
    op::pool3d_geometry s{pick(g, {1, 3}), {1, 1, 1}, pick(g, {1, 5, 8, 19, 64})};
    for (int i = 0; i < 3; ++i) {
      s.kernel[i] = pick(g, {1, 2, 3, 4});
      s.stride[i] = pick(g, {1, 2, 3});
      s.pad[i] = pick(g, {0, 1, 2}) % (s.kernel[i] / 2 + 1);
      s.in[i] = s.kernel[i] + pick(g, {0, 1, 2, 5});
    }
    check_pool({.g = s,
                .act = acts[g() % 4],
                .from = round % 3 == 2 ? norm_statistics::running : norm_statistics::batch,
                .affine = round % 4 != 0,
                .adds = round % 2 == 1,
                .in_place = round % 4 == 2,
                .gw = round % 5 != 0,
                .ties = round % 3 == 1});
  }
  check_pool({.g = {2, {9, 8, 11}, 64}});  // the stem's own
}

TEST_CASE("max-pooling gives the gradient to the first maximum, and NaN wins") {
  context<cpu> cx;
  op::pool3d_geometry const g{1, {1, 1, 4}, 1, {1, 1, 4}, {1, 1, 1}, {0, 0, 0}};
  float const nan = std::numeric_limits<float>::quiet_NaN();
  float y = 0, one = 1, gx[4];
  std::uint8_t pick = 0;
  float const tied[4] = {1, 3, 2, 3};
  run<op::max_pool3d, cpu, float>(cx, {g, tied, &y, &pick});
  run<op::max_pool3d_grad, cpu, float>(cx, {g, &pick, &one, false, gx});
  CHECK(y == 3);
  CHECK((gx[0] == 0 && gx[1] == 1 && gx[2] == 0 && gx[3] == 0));
  float const bad[4] = {1, nan, 2, 3};
  run<op::max_pool3d, cpu, float>(cx, {g, bad, &y, &pick});
  CHECK(y != y);
  CHECK(pick == 1);
}

TEST_CASE("the reference gradients of batch norm and max-pooling are difference quotients") {
  context<plain> cx;
  op::pool3d_geometry const g{2, {3, 4, 3}, 3};
  index_t const rows = 72, c = 3, n = rows * c, m = 2 * g.out().size() * c;
  auto const from = GENERATE(norm_statistics::batch, norm_statistics::running);
  auto const act = GENERATE(activation::none, activation::relu, activation::gelu);
  INFO("act " << int(act) << ", from " << int(from));
  std::vector<std::vector<double>> const in{input<double>(n, 1), input<double>(n, 2), input<double>(c, 3),
                                            input<double>(c, 4)};
  auto const gy = input<double>(n, 5), mean = input<double>(c, 6), var = variances<double>(c, 7);
  auto stats = poisoned<double>(3 * c);
  std::vector<std::uint8_t> pick(std::size_t(m), 255);
  auto const moved = [&] { return std::pair(mean, var); };
  SECTION("batch norm") {
    auto const loss = [&](std::vector<std::vector<double>> const& a) {
      auto y = poisoned<double>(n);
      auto [rm, rv] = moved();
      run<op::batch_norm, plain, double>(cx, {rows,
                                              c,
                                              1e-5,
                                              act,
                                              from,
                                              {},
                                              a[0].data(),
                                              a[1].data(),
                                              a[2].data(),
                                              a[3].data(),
                                              0.1,
                                              rm.data(),
                                              rv.data(),
                                              y.data(),
                                              stats.data()});
      return dot(y, gy);
    };
    loss(in);
    auto gx = poisoned<double>(n), gskip = poisoned<double>(n);
    std::vector<double> gw(c), gb(c);
    auto const kept = stats;
    run<op::batch_norm_grad, plain, double>(cx, {rows,
                                                 c,
                                                 act,
                                                 from,
                                                 {},
                                                 in[0].data(),
                                                 in[1].data(),
                                                 in[2].data(),
                                                 in[3].data(),
                                                 kept.data(),
                                                 gy.data(),
                                                 false,
                                                 gx.data(),
                                                 false,
                                                 gskip.data(),
                                                 gw.data(),
                                                 gb.data()});
    std::vector<std::vector<double>> const out{gx, gskip, gw, gb};
    for (std::size_t i = 0; i < in.size(); ++i) {
      INFO("argument " << i);
      CHECK(difference_error(in[i], out[i], [&](auto const& v) {
              auto a = in;
              a[i] = v;
              return loss(a);
            }) < 1e-6);
    }
  }
  SECTION("batch norm and max-pooling") {
    auto const loss = [&](std::vector<std::vector<double>> const& a) {
      auto y = poisoned<double>(m);
      auto [rm, rv] = moved();
      run<op::batch_norm_pool, plain, double>(cx, {g,
                                                   1e-5,
                                                   act,
                                                   from,
                                                   {},
                                                   a[0].data(),
                                                   a[2].data(),
                                                   a[3].data(),
                                                   0.1,
                                                   rm.data(),
                                                   rv.data(),
                                                   y.data(),
                                                   stats.data(),
                                                   pick.data()});
      y.resize(std::size_t(n), 0.0);
      return dot(y, gy);
    };
    loss(in);
    auto gx = poisoned<double>(n);
    std::vector<double> gw(c), gb(c);
    auto const kept = stats;
    auto const picked = pick;
    run<op::batch_norm_pool_grad, plain, double>(cx, {g,
                                                      act,
                                                      from,
                                                      {},
                                                      in[0].data(),
                                                      in[2].data(),
                                                      in[3].data(),
                                                      kept.data(),
                                                      picked.data(),
                                                      gy.data(),
                                                      false,
                                                      gx.data(),
                                                      gw.data(),
                                                      gb.data()});
    std::vector<std::vector<double>> const out{gx, {}, gw, gb};
    for (std::size_t i : {0u, 2u, 3u}) {
      INFO("argument " << i);
      CHECK(difference_error(
                in[i], out[i],
                [&](auto const& v) {
                  auto a = in;
                  a[i] = v;
                  return loss(a);
                },
                1e-5) < 1e-6);
    }
  }
}

namespace {

/// Forward and backward of `rows` rows on `ranks` ranks that share the rows out; outputs joined in order of ranks.
template <class B, class T>
outputs on_ranks(int ranks, activation act, index_t rows, index_t c) {
  auto const x = input<T>(rows * c, 1), gy = input<T>(rows * c, 2), w = input<T>(c, 3), b = input<T>(c, 4);
  auto y = poisoned<T>(rows * c), gx = poisoned<T>(rows * c);
  std::vector<T> const zeros(static_cast<std::size_t>(c));
  std::vector<std::vector<T>> gw(static_cast<std::size_t>(ranks), zeros), gb = gw, mean = gw, var = gw;
  support::threads_as_ranks group(ranks);
  group.run([&](int rank, rank_group const& r) {
    context<B> cx;
    index_t const first = rows * rank * rank / (ranks * ranks),
                  end = rows * (rank + 1) * (rank + 1) / (ranks * ranks);
    auto const i = std::size_t(rank);
    auto stats = poisoned<T>(3 * c);
    run<op::batch_norm, B, T>(
        cx, {end - first, c, 1e-5, act, norm_statistics::batch, r, x.data() + first * c, nullptr, w.data(),
             b.data(), 0.1, mean[i].data(), var[i].data(), y.data() + first * c, stats.data()});
    run<op::batch_norm_grad, B, T>(
        cx, {end - first, c, act, norm_statistics::batch, r, x.data() + first * c, nullptr, w.data(),
             b.data(), stats.data(), gy.data() + first * c, false, gx.data() + first * c, false, nullptr,
             gw[i].data(), gb[i].data()});
  });
  for (std::size_t i = 1; i < std::size_t(ranks); ++i) {
    CHECK(mean[i] == mean[0]);
    CHECK(var[i] == var[0]);
    for (std::size_t k = 0; k < std::size_t(c); ++k) gw[0][k] += gw[i][k], gb[0][k] += gb[i][k];
  }
  return {widened(y), widened(gx), widened(gw[0]), widened(gb[0]), widened(mean[0]), widened(var[0])};
}

template <class B, class T>
void check_ranks(double tolerance) {
  for (auto act : {activation::none, activation::relu}) {
    auto const one = on_ranks<B, T>(1, act, 40, 11), two = on_ranks<B, T>(2, act, 40, 11),
               three = on_ranks<B, T>(3, act, 40, 11);
    for (std::size_t i = 0; i < one.size(); ++i) {
      INFO("output " << i);
      CHECK(relative_error(two[i], one[i]) < tolerance);
      CHECK(relative_error(three[i], one[i]) < tolerance);
    }
  }
}

}  // namespace

TEST_CASE("ranks with parts of a batch normalise, differentiate and remember as one rank with the whole") {
  check_ranks<plain, double>(1e-14);
  check_ranks<cpu, double>(1e-14);
  check_ranks<cpu, float>(1e-6);
}

TEST_CASE("batch norm of no row says what to do, and its gradient does nothing") {
  context<cpu> cx;
  float none[1] = {}, gw[2] = {3, 4}, gb[2] = {5, 6}, stats[6] = {0, 0, 1, 1, 0, 0};
  auto const batch = norm_statistics::batch;
  CHECK_THROWS_WITH((run<op::batch_norm, cpu, float>(cx, {0,
                                                          2,
                                                          1e-5,
                                                          activation::none,
                                                          batch,
                                                          {},
                                                          none,
                                                          nullptr,
                                                          nullptr,
                                                          nullptr,
                                                          0.1,
                                                          nullptr,
                                                          nullptr,
                                                          none,
                                                          stats})),
                    Catch::Contains("a variance needs two"));
  run<op::batch_norm_grad, cpu, float>(cx, {0,
                                            2,
                                            activation::none,
                                            norm_statistics::running,
                                            {},
                                            none,
                                            nullptr,
                                            nullptr,
                                            nullptr,
                                            stats,
                                            none,
                                            false,
                                            none,
                                            false,
                                            nullptr,
                                            gw,
                                            gb});
  CHECK((gw[0] == 3 && gw[1] == 4 && gb[0] == 5 && gb[1] == 6));
}

TEST_CASE("pooling refuses what is no window, by name") {
  context<cpu> cx;
  float x[8] = {}, y[8] = {}, stats[3] = {};
  CHECK_THROWS_WITH(
      (run<op::max_pool3d, cpu, float>(cx, {{1, cube(2), 1, cube(2), {2, 0, 2}, cube(0)}, x, y, nullptr})),
      Catch::Contains("max_pool3d: axis 1 has kernel 2, stride 0"));
  CHECK_THROWS_WITH((run<op::batch_norm_pool, cpu, float>(cx, {{1, cube(2), 1, cube(3), cube(1), cube(0)},
                                                               1e-5,
                                                               activation::none,
                                                               norm_statistics::batch,
                                                               {},
                                                               x,
                                                               nullptr,
                                                               nullptr,
                                                               0.1,
                                                               nullptr,
                                                               nullptr,
                                                               y,
                                                               stats,
                                                               nullptr})),
                    Catch::Contains("batch_norm_pool: axis 0 has kernel 3, padding 0 and extent 2"));
}

TEST_CASE("batch norm of a single row says what to do") {
  context<cpu> cx;
  float x[2] = {1, 2}, y[2];
  try {
    run<op::batch_norm, cpu, float>(cx, {1,
                                         2,
                                         1e-5,
                                         activation::none,
                                         norm_statistics::batch,
                                         {},
                                         x,
                                         nullptr,
                                         nullptr,
                                         nullptr,
                                         0.1,
                                         nullptr,
                                         nullptr,
                                         y,
                                         nullptr});
    FAIL("no error");
  } catch (error const& e) {
    CHECK_THAT(e.what(), Catch::Contains("a variance needs two"));
  }
}
