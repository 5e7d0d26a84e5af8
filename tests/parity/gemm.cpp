// SPDX-License-Identifier: Apache-2.0
// Linear layers and the fused feed-forward half-block against their reference, and the reference against differences.
#include "insula/kernels/cpu/gemm.hpp"

#include <algorithm>

#include "insula/kernels/plain/gemm.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

struct linear_case {
  index_t rows, in, out;
  bool bias = true, adds = false, gx = true, gw = true, gb = true;
};

void check_linear(linear_case const& s) {
  INFO("rows " << s.rows << ", in " << s.in << ", out " << s.out << ", adds " << s.adds);
  check_parity(
      [&]<class B, class T>(context<B>& cx) -> outputs {
        auto const x = input<T>(s.rows * s.in, 1), w = input<T>(s.in * s.out, 2), b = input<T>(s.out, 3),
                   gy = input<T>(s.rows * s.out, 4);
        auto y = poisoned<T>(s.rows * s.out), gx = target<T>(s.adds, s.rows * s.in, 5);
        auto gw = input<T>(s.in * s.out, 6), gb = input<T>(s.out, 7);
        run<op::linear, B, T>(
            cx, {s.rows, s.in, s.out, x.data(), w.data(), s.bias ? b.data() : nullptr, y.data()});
        run<op::linear_grad, B, T>(
            cx, {s.rows, s.in, s.out, x.data(), w.data(), gy.data(), s.adds, s.gx ? gx.data() : nullptr,
                 s.gw ? gw.data() : nullptr, s.gb ? gb.data() : nullptr});
        if (!s.gx) gx = input<T>(1, 8);
        return {widened(y), widened(gx), widened(gw), widened(gb)};
      },
      2e-6, 5e-15);
}

/// In place, and with what GELU was taken of.
void check_linear_gelu(index_t rows, index_t in, index_t out) {
  INFO("rows " << rows << ", in " << in << ", out " << out);
  check_parity(
      [&]<class B, class T>(context<B>& cx) -> outputs {
        auto const x = input<T>(rows * in, 1), w = input<T>(in * out, 2), b = input<T>(out, 3);
        auto y = poisoned<T>(rows * out), u = poisoned<T>(rows * out), alone = poisoned<T>(rows * out);
        run<op::linear_gelu, B, T>(cx, {rows, in, out, x.data(), w.data(), b.data(), u.data(), y.data()});
        run<op::linear_gelu, B, T>(cx, {rows, in, out, x.data(), w.data(), nullptr, nullptr, alone.data()});
        return {widened(y), widened(u), widened(alone)};
      },
      2e-6, 5e-15);
}

struct mlp_case {
  index_t rows, width, hidden;
  bool norm = true, bias = true, adds = false, in_place = false, weights = true, gx = true;
};

/// Weights of the size a trained layer has, so that the hidden layer is of order one.
template <class T>
std::vector<T> weights_of(index_t in, index_t out, std::uint64_t seed) {
  auto w = input<T>(in * out, seed);
  for (T& v : w) v = T(float(v) / std::sqrt(float(in)));
  return w;
}

template <class B, class T>
outputs run_mlp(context<B>& cx, mlp_case const& s) {
  index_t const n = s.rows * s.width;
  auto x = input<T>(n, 1), gy = input<T>(n, 2);
  auto const norm_w = input<T>(s.width, 3), norm_b = input<T>(s.width, 4), b1 = input<T>(s.hidden, 5),
             b2 = input<T>(s.width, 6), w1 = weights_of<T>(s.width, s.hidden, 7),
             w2 = weights_of<T>(s.hidden, s.width, 8);
  auto const given = [](bool is, auto& v) { return is ? v.data() : nullptr; };
  auto const *nw = given(s.norm, norm_w), *nb = given(s.norm, norm_b);
  auto gx = target<T>(s.adds, n, 9), y = poisoned<T>(n);
  auto gnorm_w = input<T>(s.width, 10), gnorm_b = input<T>(s.width, 11), gb1 = input<T>(s.hidden, 12),
       gb2 = input<T>(s.width, 13), gw1 = input<T>(s.width * s.hidden, 14),
       gw2 = input<T>(s.hidden * s.width, 15);
  T* const to = s.in_place ? gy.data() : gx.data();
  run<op::mlp_grad, B, T>(cx, {s.rows,
                               s.width,
                               s.hidden,
                               1e-5,
                               x.data(),
                               nw,
                               nb,
                               w1.data(),
                               given(s.bias, b1),
                               w2.data(),
                               given(s.bias, b2),
                               gy.data(),
                               s.adds,
                               s.gx ? to : nullptr,
                               given(s.weights, gnorm_w),
                               given(s.weights, gnorm_b),
                               given(s.weights, gw1),
                               given(s.weights, gb1),
                               given(s.weights, gw2),
                               given(s.weights, gb2)});
  run<op::mlp, B, T>(cx, {s.rows, s.width, s.hidden, 1e-5, x.data(), nw, nb, w1.data(), given(s.bias, b1),
                          w2.data(), given(s.bias, b2), s.in_place ? x.data() : y.data()});
  if (!s.gx) gx = gy;
  return {widened(s.in_place ? x : y),
          widened(s.in_place ? gy : gx),
          widened(gnorm_w),
          widened(gnorm_b),
          widened(gw1),
          widened(gb1),
          widened(gw2),
          widened(gb2)};
}

void check_mlp(mlp_case const& s) {
  INFO("rows " << s.rows << ", width " << s.width << ", hidden " << s.hidden << ", adds " << s.adds
               << ", in place " << s.in_place);
  check_parity([&]<class B, class T>(context<B>& cx) -> outputs { return run_mlp<B, T>(cx, s); }, 3e-6,
               1e-14);
}

#ifdef INSULA_WHOLE_TILES_IN_ASSEMBLER
/// The whole tile in assembler against the loop that compilers make, bit by bit: stretches, then one, asking and not, with what is
/// added last: nothing, a row or C; or with sums that start from C.
template <int R, int V, bool Across>
void check_whole_tile(index_t depth) {
  constexpr index_t w = simd::width<float>, columns = V * w, count = 3;
  index_t const step = Across ? R + 3 : count * depth + 5, c_row = columns + 3;
  auto const a = input<float>((Across ? count * depth : index_t(R)) * step, 1),
             b = input<float>(count * depth * columns, 2), start = input<float>(columns, 3),
             bias = input<float>(columns, 4), before = input<float>(R * c_row, 5);
  simd::stretch at[count];
  for (index_t i = 0; i < count; ++i)  // the last first
    at[i] = {(count - 1 - i) * depth * (Across ? step : 1), i * depth * columns};
  for (index_t stretches : {index_t{0}, index_t{1}, count})  // 0: the function of one product
    for (int rest = 0; rest < 4; ++rest)
      for (bool asks : {false, true}) {
        INFO(R << " x " << V << ", across " << Across << ", depth " << depth << ", stretches " << stretches
               << ", rest " << rest << ", asks " << asks);
        auto c = before, expected = before;  // elements between rows stay what they are
        simd::tile_results to{start.data(), 0, c.data(), c_row};
        if (rest == 1) to.rest = bias.data();
        if (rest == 2) to.rest = c.data(), to.rest_row = c_row;
        if (rest == 3) to.start = c.data(), to.start_row = c_row;
        bool const reads = asks || simd::register_count == 32;  // there something is asked for always
        simd::asked_for<float> const ahead{reads ? a.data() : nullptr, asks, c.data(), 2 * asks};
        if (stretches == 0)
          simd::whole_tile<R, V, Across>(depth, a.data(), step, b.data(), to, ahead);
        else
          simd::whole_tile<R, V, Across>(at, at + stretches, depth, a.data(), step, b.data(), to, ahead);
        simd::pack<float> sum[R][V];
        for (int r = 0; r < R; ++r)
          for (int v = 0; v < V; ++v)
            sum[r][v] = simd::load(rest == 3 ? before.data() + r * c_row + v * w : start.data() + v * w);
        for (index_t i = 0; i < (stretches > 0 ? stretches : 1); ++i)
          simd::add_products<R, V, Across, true>(depth, a.data() + (stretches > 0 ? at[i].a : 0), step,
                                                 b.data() + (stretches > 0 ? at[i].b : 0), columns, sum);
        for (int r = 0; r < R; ++r)
          for (int v = 0; v < V; ++v) {
            float* const to_here = expected.data() + r * c_row + v * w;
            if (rest == 1) sum[r][v] += simd::load(bias.data() + v * w);
            if (rest == 2) sum[r][v] += simd::load(to_here);
            simd::store(to_here, sum[r][v]);
          }
        CHECK(c == expected);
      }
}
#endif

}  // namespace

#ifdef INSULA_WHOLE_TILES_IN_ASSEMBLER
TEST_CASE("whole tiles in assembler give the bits of the portable loop") {
  for (index_t depth : {0, 1, 3, 4, 7, 48, 65}) {
    if constexpr (simd::register_count == 32) {
      check_whole_tile<8, 3, false>(depth), check_whole_tile<8, 3, true>(depth);
      check_whole_tile<12, 2, false>(depth), check_whole_tile<12, 2, true>(depth);
      check_whole_tile<6, 4, false>(depth);
    } else {
      check_whole_tile<6, 2, false>(depth), check_whole_tile<6, 2, true>(depth);
    }
  }
}
#endif

TEST_CASE("rows of a product of small matrices do not depend on how many there are") {
  constexpr index_t m = 29, most = 300, columns = 45;
  auto const row = input<float>(most, 1), b = input<float>(most * columns, 2),
             before = input<float>(columns, 3);
  auto a = poisoned<float>(m * most);
  for (index_t r = 0; r < m; ++r) std::copy(row.begin(), row.end(), a.data() + r * most);
  for (index_t depth : {1, 20, 256, 300})  // longer ones are cut
    for (index_t n : {16, 45}) {
      INFO("depth " << depth << ", columns " << n);
      auto c = poisoned<float>(m * n), sums = poisoned<float>(m * n), one = before, sum = poisoned<float>(n);
      for (index_t r = 0; r < m; ++r) std::copy_n(before.data(), n, c.data() + r * n);
      simd::multiply<float, true>(m, n, depth, a.data(), most, 1, b.data(), columns, c.data(), n);
      simd::multiply<float, true>(1, n, depth, a.data(), most, 1, b.data(), columns, one.data(), n);
      simd::multiply<float, false>(m, n, depth, a.data(), most, 1, b.data(), columns, sums.data(), n);
      simd::multiply<float, false>(1, n, depth, a.data(), most, 1, b.data(), columns, sum.data(), n);
      for (index_t r = 0; r < m; ++r) {
        INFO("row " << r);
        CHECK(std::equal(sum.data(), sum.data() + n, sums.data() + r * n));
        CHECK(std::equal(one.data(), one.data() + n, c.data() + r * n));
      }
    }
}

TEST_CASE("linear and its gradient on the CPU are the reference at awkward sizes") {
  std::mt19937 g(1);
  for (int round = 0; round < 40; ++round)
    check_linear({.rows = pick(g, {1, 7, 33, 200}),
                  .in = pick(g, {1, 5, 24, 48, 50, 130}),
                  .out = pick(g, {1, 5, 24, 48, 50, 64, 130}),
                  .bias = round % 3 != 0,
                  .adds = round % 2 != 0,
                  .gx = round % 5 != 0,
                  .gw = round % 7 != 0,
                  .gb = round % 4 != 0});
}

TEST_CASE("linear cuts many rows, deep sums and wide outputs into blocks without changing the result") {
  check_linear({.rows = 1000, .in = 50, .out = 130, .adds = true});
  check_linear({.rows = 5003, .in = 5, .out = 17});
  check_linear({.rows = 3, .in = 801, .out = 5, .adds = true});
  check_linear({.rows = 26, .in = 25, .out = 700});
  check_linear({.rows = 5, .in = 450, .out = 450});
  check_linear({.rows = 601, .in = 128, .out = 3067});  // rows whose lines would meet in a cache are copied
  check_linear({.rows = 1003, .in = 33, .out = 70, .gb = false});  // the narrower operand is packed
  check_linear({.rows = 5003, .in = 5, .out = 17, .gb = false});
}

TEST_CASE("linear layers of many rows that meet in a cache give what a few rows at a time do") {
  index_t const rows = 300, in = 1024, out = 4090, few = 100;  // so few meet groups of columns, uncopied
  auto const x = input<float>(rows * in, 1), w = input<float>(in * out, 2), b = input<float>(out, 3);
  auto y = poisoned<float>(rows * out), parts = poisoned<float>(rows * out);
  context<cpu> cx;
  run<op::linear, cpu, float>(cx, {rows, in, out, x.data(), w.data(), b.data(), y.data()});
  for (index_t r = 0; r < rows; r += few)
    run<op::linear, cpu, float>(
        cx, {few, in, out, x.data() + r * in, w.data(), b.data(), parts.data() + r * out});
  CHECK(testing::relative_error(y, parts) < 1e-6);
}

TEST_CASE("linear with GELU is the reference however the product is cut") {
  std::mt19937 g(3);
  for (int trial = 0; trial < 20; ++trial)
    check_linear_gelu(pick(g, {1, 7, 33, 200}), pick(g, {1, 5, 48, 100}), pick(g, {1, 15, 48, 130}));
  check_linear_gelu(1000, 50, 130);  // strips of rows
  check_linear_gelu(600, 500, 260);  // blocks of rows and panels, two blocks of depth
  check_linear_gelu(26, 25, 700);    // groups of columns
}

TEST_CASE("a linear layer without inputs is its bias, one without outputs has no gradient") {
  context<cpu> cx;
  float const b[3] = {1, 2, 3};
  float y[6], gx[4] = {7, 7, 7, 7};
  run<op::linear, cpu, float>(cx, {2, 0, 3, b, b, b, y});
  for (int i = 0; i < 6; ++i) CHECK(y[i] == b[i % 3]);
  run<op::linear_grad, cpu, float>(cx, {2, 2, 0, b, b, b, false, gx, nullptr, nullptr});
  for (float g : gx) CHECK(g == 0);
}

TEST_CASE("a linear layer without rows leaves weight gradients alone") {
  context<cpu> cx(2);
  std::vector<double> w{1, 2}, gw{3, 4}, gb{5};
  run<op::linear_grad, cpu, double>(
      cx, {0, 2, 1, nullptr, w.data(), nullptr, false, nullptr, gw.data(), gb.data()});
  CHECK(gw == std::vector<double>{3, 4});
  CHECK(gb == std::vector<double>{5});
}

TEST_CASE("the fused feed-forward half-block on the CPU is the reference at awkward sizes") {
  std::mt19937 g(2);
  for (int round = 0; round < 24; ++round)
    check_mlp({.rows = pick(g, {1, 7, 33, 50}),
               .width = pick(g, {2, 5, 24, 48, 50}),
               .hidden = pick(g, {1, 10, 96, 97, 130}),
               .norm = round % 3 != 0,
               .bias = round % 4 != 0,
               .adds = round % 4 == 1,
               .in_place = round % 4 == 2,
               .weights = round % 5 != 0,
               .gx = round % 7 != 0});
}

TEST_CASE("the feed-forward half-block gives the same with many rows and with hidden layers of many blocks") {
  check_mlp({.rows = 2400, .width = 5, .hidden = 20});
  check_mlp({.rows = 1900, .width = 8, .hidden = 20, .adds = true});
  check_mlp({.rows = 30, .width = 20, .hidden = 500, .adds = true});
  check_mlp({.rows = 250, .width = 24, .hidden = 400, .in_place = true});
  check_mlp({.rows = 460, .width = 10, .hidden = 260});
  // long rows, of which many are taken at a time
  check_mlp({.rows = 210, .width = 800, .hidden = 50, .adds = true});
}

TEST_CASE("the reference gradient of linear is the difference quotient") {
  context<plain> cx;
  index_t const rows = 4, in = 3, out = 5;
  auto const x = input<double>(rows * in, 1), w = input<double>(in * out, 2), b = input<double>(out, 3),
             gy = input<double>(rows * out, 4);
  auto const loss = [&](std::vector<double> const& xs, std::vector<double> const& ws,
                        std::vector<double> const& bs) {
    auto y = poisoned<double>(rows * out);
    run<op::linear, plain, double>(cx, {rows, in, out, xs.data(), ws.data(), bs.data(), y.data()});
    return dot(y, gy);
  };
  auto gx = poisoned<double>(rows * in);
  std::vector<double> gw(w.size()), gb(b.size());
  run<op::linear_grad, plain, double>(
      cx, {rows, in, out, x.data(), w.data(), gy.data(), false, gx.data(), gw.data(), gb.data()});
  CHECK(difference_error(x, gx, [&](auto const& v) { return loss(v, w, b); }) < 1e-6);
  CHECK(difference_error(w, gw, [&](auto const& v) { return loss(x, v, b); }) < 1e-6);
  CHECK(difference_error(b, gb, [&](auto const& v) { return loss(x, w, v); }) < 1e-6);
}

TEST_CASE("the reference gradient of the feed-forward half-block is the difference quotient") {
  context<plain> cx;
  index_t const rows = 3, width = 4, hidden = 7;
  std::vector<std::vector<double>> in{input<double>(rows * width, 1), input<double>(width, 2),
                                      input<double>(width, 3),        input<double>(width * hidden, 4),
                                      input<double>(hidden, 5),       input<double>(hidden * width, 6),
                                      input<double>(width, 7)};
  auto const gy = input<double>(rows * width, 8);
  std::vector<std::vector<double>> out;
  for (auto const& v : in) out.emplace_back(v.size());
  run<op::mlp_grad, plain, double>(
      cx,
      {rows,          width,         hidden,        1e-5,          in[0].data(),  in[1].data(), in[2].data(),
       in[3].data(),  in[4].data(),  in[5].data(),  in[6].data(),  gy.data(),     false,        out[0].data(),
       out[1].data(), out[2].data(), out[3].data(), out[4].data(), out[5].data(), out[6].data()});
  for (std::size_t i = 0; i < in.size(); ++i) {
    INFO("argument " << i);
    auto const loss = [&](std::vector<double> const& v) {
      auto a = in;
      a[i] = v;
      auto y = poisoned<double>(rows * width);
      run<op::mlp, plain, double>(cx, {rows, width, hidden, 1e-5, a[0].data(), a[1].data(), a[2].data(),
                                       a[3].data(), a[4].data(), a[5].data(), a[6].data(), y.data()});
      return dot(y, gy);
    };
    CHECK(difference_error(in[i], out[i], loss) < 1e-6);
  }
}
