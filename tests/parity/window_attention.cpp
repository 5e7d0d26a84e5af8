// SPDX-License-Identifier: Apache-2.0
// Shifted-window attention: the plain gradient against finite differences, the CPU kernels against the plain ones.
#include "insula/kernels/cpu/window_attention.hpp"

#include "insula/device/cpu.hpp"
#include "insula/kernels/cpu/window_attention_backward.hpp"
#include "insula/kernels/plain/window_attention.hpp"
#include "insula/testing/compare.hpp"
#include "support/catch.hpp"

using namespace insula;
using insula::testing::poisoned;
using insula::testing::random_vector;
using insula::testing::relative_error;

namespace {

op::window_geometry geometry(index_t batch, extent grid, index_t window, index_t shift, index_t heads,
                             index_t width) {
  return {batch, grid, cube(window), cube(shift), heads * width, heads};
}

/// One set of inputs and outputs of the half-block and its gradient.
template <class T>
struct problem {
  op::window_geometry g;
  bool keeps = false;  // q, k, v and the heads' outputs for the gradient
  std::vector<T> x, norm_w, norm_b, table, qkv_w, qkv_b, proj_w, proj_b, gy;
  std::vector<T> y, lse, kept, gx, gnorm_w, gnorm_b, gtable, gqkv_w, gqkv_b, gproj_w, gproj_b;
  static constexpr double eps = 1e-5;

  explicit problem(op::window_geometry geometry, std::uint64_t seed = 1) : g(geometry) {
    index_t const n = g.batch * g.grid.size() * g.channels, c = g.channels;
    auto const fill = [&](index_t count, double scale, double offset = 0) {
      auto const d = random_vector<double>(count, ++seed);
      std::vector<T> v(d.size());
      for (std::size_t i = 0; i < d.size(); ++i) v[i] = T(scale * d[i] + offset);
      return v;
    };
    double const spread = 3 / std::sqrt(double(c));
    x = fill(n, 1), norm_w = fill(c, .3, 1), norm_b = fill(c, .3), table = fill(g.table_rows() * g.heads, 1);
    qkv_w = fill(3 * c * c, spread), qkv_b = fill(3 * c, .5), proj_w = fill(c * c, spread),
    proj_b = fill(c, .5);
    gy = fill(n, 1), y = poisoned<T>(n), lse = poisoned<T>(g.saved()), gx = poisoned<T>(n);
    kept = poisoned<T>(g.kept());
    gnorm_w = fill(c, 1), gnorm_b = fill(c, 1), gtable = fill(g.table_rows() * g.heads, .1);
    gqkv_w = fill(3 * c * c, 1), gqkv_b = fill(3 * c, 1), gproj_w = fill(c * c, 1), gproj_b = fill(c, 1);
  }

  /// The same numbers in another scalar.
  template <class U>
  explicit problem(problem<U> const& o) : g(o.g), keeps(o.keeps) {
    auto const to = [](std::vector<U> const& v) { return std::vector<T>(v.begin(), v.end()); };
    x = to(o.x), norm_w = to(o.norm_w), norm_b = to(o.norm_b), table = to(o.table), qkv_w = to(o.qkv_w);
    qkv_b = to(o.qkv_b), proj_w = to(o.proj_w), proj_b = to(o.proj_b), gy = to(o.gy), y = to(o.y),
    lse = to(o.lse), kept = to(o.kept);
    gx = to(o.gx), gnorm_w = to(o.gnorm_w), gnorm_b = to(o.gnorm_b), gtable = to(o.gtable),
    gqkv_w = to(o.gqkv_w);
    gqkv_b = to(o.gqkv_b), gproj_w = to(o.gproj_w), gproj_b = to(o.gproj_b);
  }

  typename op::window_attention::args<T> forward_args() {
    return {g,
            eps,
            x.data(),
            norm_w.data(),
            norm_b.data(),
            table.data(),
            qkv_w.data(),
            qkv_b.data(),
            proj_w.data(),
            proj_b.data(),
            y.data(),
            lse.data(),
            keeps ? kept.data() : nullptr};
  }
  typename op::window_attention_grad::args<T> gradient_args() {
    return {g,
            eps,
            x.data(),
            norm_w.data(),
            norm_b.data(),
            table.data(),
            qkv_w.data(),
            qkv_b.data(),
            proj_w.data(),
            proj_b.data(),
            lse.data(),
            gy.data(),
            false,
            gx.data(),
            gnorm_w.data(),
            gnorm_b.data(),
            gtable.data(),
            gqkv_w.data(),
            gqkv_b.data(),
            gproj_w.data(),
            gproj_b.data(),
            keeps ? kept.data() : nullptr};
  }
};

double dot(std::vector<double> const& a, std::vector<double> const& b) {
  double s = 0;
  for (std::size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}

/// Every gradient along a random direction against the central difference of <gy, y>.
void check_differences(op::window_geometry g) {
  using P = problem<double>;
  P p(g, 40);
  context<plain> cx;
  run<op::window_attention, plain, double>(cx, p.forward_args());
  P const before = p;
  run<op::window_attention_grad, plain, double>(cx, p.gradient_args());

  using field = std::vector<double> P::*;
  field const inputs[] = {&P::x,     &P::norm_w, &P::norm_b, &P::table,
                          &P::qkv_w, &P::qkv_b,  &P::proj_w, &P::proj_b};
  field const gradients[] = {&P::gx,     &P::gnorm_w, &P::gnorm_b, &P::gtable,
                             &P::gqkv_w, &P::gqkv_b,  &P::gproj_w, &P::gproj_b};
  for (int f = 0; f < 8; ++f) {
    auto gradient = p.*gradients[f];
    if (f > 0)
      for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] -= (before.*gradients[f])[i];
    auto const direction = random_vector<double>(index_t(gradient.size()), 90 + std::uint64_t(f));
    double const step = 1e-5;
    double value[2];
    for (int side = 0; side < 2; ++side) {
      P moved = before;
      for (std::size_t i = 0; i < gradient.size(); ++i)
        (moved.*inputs[f])[i] += (side ? -step : step) * direction[i];
      run<op::window_attention, plain, double>(cx, moved.forward_args());
      value[side] = dot(moved.y, moved.gy);
    }
    INFO("gradient " << f);
    double const difference = (value[0] - value[1]) / (2 * step);
    CHECK(dot(gradient, direction) == Approx(difference).epsilon(2e-7).margin(1e-8));
  }
}

}  // namespace

TEST_CASE("the plain gradient of window attention agrees with finite differences") {
  check_differences(geometry(1, {5, 4, 7}, 3, 1, 2, 3));
  check_differences(geometry(2, {2, 3, 5}, 3, 1, 1, 5));
}

namespace {

template <class B, class T>
void both(context<B>& cx, problem<T>& p) {
  run<op::window_attention, B, T>(cx, p.forward_args());
  run<op::window_attention_grad, B, T>(cx, p.gradient_args());
}

/// The CPU kernels against the plain ones in double, from inputs that both scalars hold exactly.
template <class T>
void check_parity(op::window_geometry g, double bound) {
  INFO("batch " << g.batch << ", grid " << text(g.grid) << ", window " << text(g.window) << ", shift "
                << text(g.shift) << ", channels " << g.channels << ", heads " << g.heads);
  problem<T> ours{problem<float>(g, 7)};
  problem<double> reference(ours);
  context<cpu> cx(2);
  context<plain> reference_cx;
  problem<T> const start = ours;
  both(reference_cx, reference);
  for (bool keeps : {false, true}) {
    INFO("keeps q, k, v and outputs: " << keeps);
    ours = start, ours.keeps = keeps;
    both(cx, ours);
    CHECK(relative_error(ours.y, reference.y) < bound);
    CHECK(relative_error(ours.gx, reference.gx) < bound);
    CHECK(relative_error(ours.gnorm_w, reference.gnorm_w) < bound);
    CHECK(relative_error(ours.gnorm_b, reference.gnorm_b) < bound);
    CHECK(relative_error(ours.gtable, reference.gtable) < bound);
    CHECK(relative_error(ours.gqkv_w, reference.gqkv_w) < bound);
    CHECK(relative_error(ours.gqkv_b, reference.gqkv_b) < bound);
    CHECK(relative_error(ours.gproj_w, reference.gproj_w) < bound);
    CHECK(relative_error(ours.gproj_b, reference.gproj_b) < bound);
  }
}

template <class T>
inline constexpr double bound = sizeof(T) == 4 ? 3e-6 : 1e-13;

template <class T>
bool same(problem<T> const& a, problem<T> const& b) {
  return a.y == b.y && a.lse == b.lse && a.gx == b.gx && a.gnorm_w == b.gnorm_w && a.gnorm_b == b.gnorm_b &&
         a.gtable == b.gtable && a.gqkv_w == b.gqkv_w && a.gqkv_b == b.gqkv_b && a.gproj_w == b.gproj_w &&
         a.gproj_b == b.gproj_b;
}

/// gradient - what was there before, to tell the computed part from the noise.
template <class T>
std::vector<T> minus(std::vector<T> a, std::vector<T> const& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

}  // namespace

TEMPLATE_TEST_CASE("window attention on the CPU agrees with the plain kernels", "", float, double) {
  using T = TestType;
  for (index_t shift : {0, 3}) {
    check_parity<T>(geometry(1, {5, 9, 14}, 7, shift, 3, 8), bound<T>);   // clamped, padded and exact axes
    check_parity<T>(geometry(1, {7, 7, 7}, 7, shift, 1, 16), bound<T>);   // one whole window
    check_parity<T>(geometry(3, {8, 6, 3}, 7, shift, 1, 5), bound<T>);    // mostly padding; odd head width
    check_parity<T>(geometry(2, {3, 2, 2}, 7, shift, 3, 16), bound<T>);   // nominal corner of the table
    check_parity<T>(geometry(2, {12, 9, 10}, 7, shift, 2, 8), bound<T>);  // few and many padding tokens
  }
  check_parity<T>(geometry(1, {14, 7, 10}, 7, 3, 3, 5), bound<T>);
  check_parity<T>(geometry(2, {9, 4, 5}, 4, 2, 2, 17), bound<T>);   // width just over a register
  check_parity<T>(geometry(1, {10, 9, 11}, 9, 4, 2, 8), bound<T>);  // rows of a window wider than a register
  check_parity<T>(geometry(1, {1, 1, 1}, 7, 3, 1, 1), bound<T>);
}

TEMPLATE_TEST_CASE("window attention in many whole windows agrees with the plain kernels", "", float,
                   double) {
  using T = TestType;
  check_parity<T>(geometry(17, {7, 7, 7}, 7, 0, 1, 8), bound<T>);
  for (index_t shift : {0, 1}) {  // windows that are no cubes
    auto g = geometry(1, {8, 9, 10}, 1, 0, 2, 8);
    g.window = {2, 3, 5}, g.shift = {shift, shift, shift};
    check_parity<T>(g, bound<T>);
  }
}

TEMPLATE_TEST_CASE("window attention with many windows sums chunks", "", float, double) {
  check_parity<TestType>(geometry(2, {9, 11, 10}, 3, 1, 2, 8), bound<TestType>);  // 2 x 64 windows
  check_parity<TestType>(geometry(3, {17, 5, 11}, 2, 1, 1, 16),
                         bound<TestType>);  // 3 x 162: several groups a chunk
}

TEMPLATE_TEST_CASE("window attention saves the row log-sum-exp of real tokens", "", float, double) {
  using T = TestType;
  auto const grid = GENERATE(extent{5, 9, 8}, extent{9, 8, 11});
  index_t const size = grid.d == 5 ? 4 : 7;
  problem<T> p{problem<float>(geometry(2, grid, size, size / 2, 2, 8), 3)};
  problem<double> reference(p);
  context<cpu> cx;
  context<plain> reference_cx;
  run<op::window_attention, cpu, T>(cx, p.forward_args());
  run<op::window_attention, plain, double>(reference_cx, reference.forward_args());
  auto const& g = p.g;
  double worst = 0;
  for (index_t window = 0; window < g.batch * g.windows().size(); ++window) {
    detail::window_tokens const tokens(g, window);
    for (index_t h = 0; h < g.heads; ++h)
      for (index_t t = 0; t < g.tokens(); ++t) {
        auto const at = std::size_t((window * g.heads + h) * g.tokens() + t);
        if (tokens.at[std::size_t(t)] >= 0)
          worst = std::fmax(worst, std::fabs(double(p.lse[at]) - reference.lse[at]));
      }
  }
  CHECK(worst < 20 * bound<T>);
  CHECK(worst > 0);
}

TEMPLATE_TEST_CASE("window attention with scores beyond the range of exponentials", "", float, double) {
  using T = TestType;
  auto const g = GENERATE(geometry(1, {5, 4, 6}, 4, 2, 2, 8), geometry(1, {9, 8, 11}, 7, 3, 2, 8));
  bool const keeps = GENERATE(false, true);
  for (double const growth : {30., 3e3}) {  // scores of some hundreds, and of millions: one key takes all
    problem<float> start(g, 21);
    for (auto& w : start.table) w = -float(growth * growth) * std::fabs(w);
    problem<T> ours{start};
    ours.keeps = keeps;
    for (std::size_t i = 0; i < ours.qkv_w.size(); ++i)
      if (index_t(i) % (3 * ours.g.channels) < 2 * ours.g.channels) ours.qkv_w[i] *= T(growth);
    problem<double> reference(ours);
    context<cpu> cx;
    context<plain> reference_cx;
    both(cx, ours);
    both(reference_cx, reference);
    CHECK(relative_error(ours.y, reference.y) < 10 * bound<T>);
    CHECK(relative_error(ours.gproj_w, reference.gproj_w) < 10 * bound<T>);
    for (auto v : ours.gx) REQUIRE(std::isfinite(v));
  }
}

TEST_CASE("rows of a whole window lie by place of the plane where biases do, those of others as they come") {
  context<cpu> cx;
  scratch memory(cx);
  for (index_t side : {index_t{9}, index_t{8}}) {  // the last of 27 windows is whole, or padded above
    windowed::sizes<float> const s(geometry(1, {side, 9, 9}, 3, 0, 1, 8));
    windowed::window_rows window(memory, s.tokens, s.used);
    window.locate(s, s.windows - 1);
    bool const by_plane = windowed::biases_by_plane && side == 9;
    REQUIRE(window.rows + window.paddings == s.tokens);
    for (index_t r = 0; r < window.rows; ++r) {
      index_t const token = by_plane ? r % 3 * 9 + r / 3 : r, d = token / 9, h = token / 3 % 3, w = token % 3;
      CHECK(window.token[r] == token);
      CHECK(window.at[r] == ((6 + d) * 9 + 6 + h) * 9 + 6 + w);
    }
  }
}

TEMPLATE_TEST_CASE("regions of a shifted window are windows of their own where the mask lets nothing through",
                   "", float, double) {
  using T = TestType;
  auto const g = geometry(1, {9, 8, 11}, 7, 3, 2, 8);
  context<cpu> cx;
  scratch memory(cx);
  windowed::sizes<T> const s(g);
  std::vector<T> table(std::size_t(g.table_rows() * g.heads), T(0));
  table[1] = 5;  // of head 1
  windowed::window_rows window(memory, s.tokens, s.used);
  window.locate(s, s.windows - 1);
  REQUIRE(window.mixed);

  SECTION("their rows lie together") {
    index_t rows = 0, paddings = 0;
    for (int i = 0; i < window.part_count; ++i) {
      auto const part = window.only(window.parts[i]);
      REQUIRE(part.first == rows);
      REQUIRE(part.rows > 0);
      for (index_t r = 0; r < part.rows; ++r) {
        CHECK(window.region[part.token[r]] == window.region[part.token[0]]);
        CHECK((r == 0 || part.token[r] > part.token[r - 1]));
      }
      for (index_t p = 0; p < part.paddings; ++p)
        CHECK(window.region[part.padding[p]] == window.region[part.token[0]]);
      rows += part.rows, paddings += part.paddings;
    }
    CHECK(rows == window.rows);
    CHECK(paddings <= window.paddings);
    CHECK(window.rows + window.paddings == s.tokens);
  }
  SECTION("nothing comes through: at most 2 |q| |k - mean| / sqrt(width) and the table's span, of 100") {
    T const limit = sizeof(T) == 4 ? 76 : 55;  // e^-24 or e^-45 is left
    windowed::reduced_windows<T> const reduced(cx, memory, s, table.data());
    REQUIRE(window.rows % 2 == 0);
    std::vector<T> qkv(std::size_t(window.rows * 3 * g.channels));
    auto const fill = [&](double q, double k,
                          double mean) {  // every second key is `mean` + k, the others - k
      for (std::size_t i = 0; i < qkv.size(); ++i) {
        index_t const column = index_t(i) % (3 * g.channels), r = index_t(i) / (3 * g.channels);
        qkv[i] = T(column < g.channels ? q : mean + (r % 2 ? k : -k));
      }
    };
    auto const apart = [&](double most, index_t head) {
      double const each = std::sqrt(most / (2 * std::sqrt(8.)));
      fill(each, each, 0);
      return reduced.takes_apart(memory, window, qkv.data(), nullptr, head);
    };
    CHECK(apart(double(limit) - .1, 0));
    CHECK_FALSE(apart(double(limit) + .1, 0));
    CHECK(apart(double(limit) - 5.1, 1));
    CHECK_FALSE(apart(double(limit) - 4.9, 1));
    CHECK_FALSE(apart(std::numeric_limits<double>::quiet_NaN(), 0));

    std::vector<T> bias(std::size_t(3 * g.channels), T(4));
    fill(0, 1, 0);  // 2 * 4 sqrt(8) * sqrt(8) / sqrt(8) = 22.6
    CHECK(reduced.takes_apart(memory, window, qkv.data(), bias.data(), 0));
    fill(10, 1, 0);  // with 14 in place of 4: 79.2
    CHECK_FALSE(reduced.takes_apart(memory, window, qkv.data(), bias.data(), 0));
    auto only =
        window;  // what all keys have in common does not matter, but for padding, whose key is the bias alone
    only.paddings = 0;
    fill(3, .1, 3);
    CHECK(reduced.takes_apart(memory, only, qkv.data(), nullptr, 0));
    CHECK(reduced.takes_apart(memory, window, qkv.data(), nullptr, 0));  // 50.9
    fill(5, .1, 3);
    CHECK(reduced.takes_apart(memory, only, qkv.data(), nullptr, 0));
    CHECK_FALSE(reduced.takes_apart(memory, window, qkv.data(), nullptr, 0));  // 84.9
  }
  SECTION("results agree on both sides of the limit") {
    bool const keeps = GENERATE(false, true);
    for (double const growth : {.5, 2., 4., 8.}) {  // of a score's factors
      INFO("growth " << growth);
      problem<T> ours{problem<float>(g, 33)};
      ours.keeps = keeps;
      for (std::size_t i = 0; i < ours.qkv_w.size(); ++i)
        if (index_t(i) % (3 * g.channels) < 2 * g.channels) ours.qkv_w[i] *= T(growth);
      problem<double> reference(ours);
      context<plain> reference_cx;
      both(cx, ours);
      both(reference_cx, reference);
      double const most = growth < 4 ? bound<T> : 10 * bound<T>;  // larger scores round more
      CHECK(relative_error(ours.y, reference.y) < most);
      CHECK(relative_error(ours.gx, reference.gx) < most);
      CHECK(relative_error(ours.gtable, reference.gtable) < most);
      CHECK(relative_error(ours.gqkv_w, reference.gqkv_w) < most);
      CHECK(relative_error(ours.gqkv_b, reference.gqkv_b) < most);
    }
  }
}

TEMPLATE_TEST_CASE("window attention does not depend on the number of threads", "", float, double) {
  using T = TestType;
  bool const keeps = GENERATE(false, true);
  for (auto const& g : {geometry(2, {5, 9, 8}, 4, 2, 3, 8), geometry(3, {9, 11, 10}, 3, 1, 2, 8),
                        geometry(1, {6, 6, 6}, 7, 3, 4, 16), geometry(1, {9, 8, 10}, 7, 3, 2, 8)}) {
    problem<T> start(g, 5);
    start.keeps = keeps;
    problem<T> first = start;
    context<cpu> one(1);
    both(one, first);
    for (int threads : {2, 3}) {
      context<cpu> cx(threads);
      problem<T> p = start;
      both(cx, p);
      CHECK(same(p, first));
    }
  }
}

TEMPLATE_TEST_CASE("the gradient of window attention takes q, k, v and the heads' outputs as they were kept",
                   "", float, double) {
  using T = TestType;
  for (auto const& g : {geometry(2, {5, 9, 8}, 4, 2, 3, 8), geometry(3, {9, 11, 10}, 3, 1, 2, 8)}) {
    problem<T> p(g, 17);
    p.keeps = true;
    context<cpu> cx(2);
    run<op::window_attention, cpu, T>(cx, p.forward_args());
    for (T v : p.kept) REQUIRE(std::isfinite(v));  // every element is written
    problem<T> again = p, other = p;
    again.keeps = false;
    auto const qkv = other.kept.begin(), o = qkv + 3 * index_t(other.kept.size()) / 4;
    for (auto i = o; i < other.kept.end(); ++i) *i *= 2;
    run<op::window_attention_grad, cpu, T>(cx, p.gradient_args());
    run<op::window_attention_grad, cpu, T>(cx, again.gradient_args());
    run<op::window_attention_grad, cpu, T>(cx, other.gradient_args());
    CHECK(relative_error(again.gx, p.gx) < bound<T>);
    problem<T> const start(g, 17);
    CHECK(relative_error(minus(other.gproj_w, p.gproj_w), minus(p.gproj_w, start.gproj_w)) < 10 * bound<T>);
  }
}

TEMPLATE_TEST_CASE("window attention in place, adding, and without what is null", "", float, double) {
  using T = TestType;
  bool const keeps = GENERATE(false, true);
  for (auto const& g : {geometry(2, {5, 9, 8}, 4, 2, 3, 8), geometry(3, {9, 11, 10}, 3, 1, 2, 8),
                        geometry(1, {9, 8, 10}, 7, 3, 2, 8)}) {
    problem<T> start(g, 9);
    start.keeps = keeps;
    problem<T> p = start;
    context<cpu> cx(2);
    both(cx, p);

    SECTION("y may be x, lse may be null") {
      auto in_place = start.x;
      problem<T> other = start;
      auto args = other.forward_args();
      args.x = args.y = in_place.data(), args.lse = args.kept = nullptr;
      run<op::window_attention, cpu, T>(cx, args);
      CHECK(in_place == p.y);
    }
    SECTION("gx may be gy") {
      problem<T> other = start;
      other.lse = p.lse, other.kept = p.kept;
      auto in_place = start.gy;
      auto args = other.gradient_args();
      args.gy = args.gx = in_place.data();
      run<op::window_attention_grad, cpu, T>(cx, args);
      CHECK(in_place == p.gx);
    }
    SECTION("adds") {
      problem<T> other = start;
      other.lse = p.lse, other.kept = p.kept, other.gx = start.x;
      auto args = other.gradient_args();
      args.adds = true;
      run<op::window_attention_grad, cpu, T>(cx, args);
      CHECK(relative_error(minus(other.gx, start.x), p.gx) < bound<T>);
    }
    SECTION("null gradients are not computed, the others do not change") {
      problem<T> other = start;
      other.lse = p.lse, other.kept = p.kept;
      auto args = other.gradient_args();
      args.gx = args.gnorm_b = args.gtable = args.gqkv_w = args.gproj_b = nullptr;
      run<op::window_attention_grad, cpu, T>(cx, args);
      CHECK(other.gnorm_w == p.gnorm_w);
      CHECK(other.gqkv_b == p.gqkv_b);
      CHECK(other.gproj_w == p.gproj_w);
      args = other.gradient_args();
      args.gnorm_w = args.gnorm_b = args.gtable = args.gqkv_w = args.gqkv_b = args.gproj_w = args.gproj_b =
          nullptr;
      run<op::window_attention_grad, cpu, T>(cx, args);
      CHECK(other.gx == p.gx);
    }
    SECTION("absent biases and norm weights") {
      problem<T> ours{problem<float>(g, 11)};
      problem<double> reference(ours);
      context<plain> reference_cx;
      auto const without = [](auto args) {
        args.norm_w = args.norm_b = args.qkv_b = args.proj_b = args.table = nullptr;
        return args;
      };
      run<op::window_attention, cpu, T>(cx, without(ours.forward_args()));
      run<op::window_attention_grad, cpu, T>(cx, without(ours.gradient_args()));
      run<op::window_attention, plain, double>(reference_cx, without(reference.forward_args()));
      run<op::window_attention_grad, plain, double>(reference_cx, without(reference.gradient_args()));
      CHECK(relative_error(ours.y, reference.y) < bound<T>);
      CHECK(relative_error(ours.gx, reference.gx) < bound<T>);
      CHECK(relative_error(ours.gqkv_w, reference.gqkv_w) < bound<T>);
    }
  }
}

TEST_CASE("window attention allocates nothing once warm and hides no NaN") {
  index_t const size = GENERATE(4, 7);
  problem<float> p(geometry(1, {9, 8, 10}, size, size / 2, 2, 8));
  p.keeps = GENERATE(false, true);
  context<cpu> cx;
  both(cx, p), both(cx, p);
  auto const calls = host_memory().calls.load();
  both(cx, p);
  CHECK(host_memory().calls.load() == calls);
  p.x[5] = std::numeric_limits<float>::quiet_NaN();
  both(cx, p);
  CHECK(std::isnan(p.y[5]));
  CHECK(std::isnan(p.gx[5]));
}
