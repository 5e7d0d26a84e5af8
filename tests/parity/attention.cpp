// SPDX-License-Identifier: Apache-2.0
// Soft-max and global attention against their reference, and the reference against differences.
#include "insula/kernels/cpu/attention.hpp"

#include <algorithm>
#include <limits>

#include "insula/kernels/plain/attention.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

struct attention_case {
  index_t batch, tokens, heads, width;
  bool adds = false, has_lse = true;
  float sharpness = 2;
};

void check_attention(attention_case const& s) {
  INFO("batch " << s.batch << ", tokens " << s.tokens << ", heads " << s.heads << ", width " << s.width);
  auto const body = [&]<class B, class T>(context<B>& cx) -> outputs {
    index_t const channels = s.heads * s.width, n = s.batch * s.tokens * channels;
    auto qkv = input<T>(3 * n, 1);
    auto const go = input<T>(n, 2);
    for (T& x : qkv) x = T(s.sharpness * float(x));
    auto o = poisoned<T>(n), lse = poisoned<T>(s.batch * s.heads * s.tokens),
         gqkv = target<T>(s.adds, 3 * n, 3);
    run<op::attention, B, T>(
        cx, {s.batch, s.tokens, channels, s.heads, qkv.data(), o.data(), s.has_lse ? lse.data() : nullptr});
    if (!s.has_lse) return {widened(o)};
    run<op::attention_grad, B, T>(cx, {s.batch, s.tokens, channels, s.heads, qkv.data(), o.data(), lse.data(),
                                       go.data(), s.adds, gqkv.data()});
    return {widened(o), widened(lse), widened(gqkv)};
  };
  if (s.sharpness <= 2) return check_parity(body, 5e-6, 5e-14);
  // Scores far apart: the gradient's error is that of lse, which is as large as they are and kept as a float. The reference in float
  // has it, too; a kernel that computes in float has a few times as much.
  auto const gradient = [&]<class B, class T>(context<B>& cx) -> outputs {
    return {body.template operator()<B, T>(cx).back()};
  };
  context<plain> cx;
  double const kept = relative_error(gradient.template operator()<plain, float>(cx).back(),
                                     gradient.template operator()<plain, double>(cx).back());
  check_parity(gradient, std::max(5e-6, 4 * kept), 5e-14);
  check_parity(
      [&]<class B, class T>(context<B>& c) -> outputs {
        auto out = body.template operator()<B, T>(c);
        out.pop_back();
        return out;
      },
      5e-6, 5e-14);
}

}  // namespace

TEST_CASE("soft-max and its gradient on the CPU are the reference, in place too") {
  std::mt19937 g(1);
  for (int round = 0; round < 30; ++round) {
    index_t const rows = pick(g, {1, 7, 33, 400}), width = pick(g, {1, 5, 24, 48, 50, 130});
    bool const adds = round & 1;
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          index_t const n = rows * width;
          auto x = input<T>(n, 1);
          for (T& v : x) v = T(float(v) * 20 - 100);  // far from 0: the largest must be taken off
          auto const gy = input<T>(n, 2);
          auto y = poisoned<T>(n), same = x, gx = target<T>(adds, n, 3);
          run<op::softmax, B, T>(cx, {rows, width, x.data(), y.data()});
          run<op::softmax, B, T>(cx, {rows, width, same.data(), same.data()});
          run<op::softmax_grad, B, T>(cx, {rows, width, y.data(), gy.data(), adds, gx.data()});
          return {widened(y), widened(same), widened(gx)};
        },
        2e-6, 1e-14);
  }
}

TEST_CASE("soft-max of one column is one and passes no gradient") {
  context<cpu> cx;
  float const x = -1e30f, gy = 3;
  float y = 0, gx = 7;
  run<op::softmax, cpu, float>(cx, {1, 1, &x, &y});
  CHECK(y == 1.0f);
  run<op::softmax_grad, cpu, float>(cx, {1, 1, &y, &gy, false, &gx});
  CHECK(gx == 0.0f);
}

TEST_CASE("soft-max of rows at the lowest number is even, and of -infinity beside a number 0") {
  context<cpu> cx;
  for (index_t width : {1, 5, 16, 17, 40}) {
    INFO("width " << width);
    std::vector<float> x(std::size_t(width), std::numeric_limits<float>::lowest());
    auto y = poisoned<float>(width);
    run<op::softmax, cpu, float>(cx, {1, width, x.data(), y.data()});
    for (float v : y) CHECK(v == Approx(1.0 / double(width)));
    x.assign(std::size_t(width), -std::numeric_limits<float>::infinity());
    x[0] = 3;
    run<op::softmax, cpu, float>(cx, {1, width, x.data(), y.data()});
    for (index_t i = 0; i < width; ++i) CHECK(y[std::size_t(i)] == (i == 0 ? 1.0f : 0.0f));
  }
}

TEST_CASE("a key whose score is -infinity gets no weight") {
  context<cpu> cx;
  index_t const tokens = 5, channels = 4;
  auto qkv = input<float>(3 * tokens * channels, 1);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t c = 0; c < channels; ++c) {
      qkv[std::size_t((3 * t) * channels + c)] = 1e30f;                         // queries
      qkv[std::size_t((3 * t + 1) * channels + c)] = t == 2 ? 1e-30f : -1e30f;  // keys
    }
  auto o = poisoned<float>(tokens * channels);
  run<op::attention, cpu, float>(cx, {1, tokens, channels, 1, qkv.data(), o.data(), nullptr});
  for (index_t t = 0; t < tokens; ++t)
    for (index_t c = 0; c < channels; ++c)
      CHECK(o[std::size_t(t * channels + c)] == qkv[std::size_t((3 * 2 + 2) * channels + c)]);
}

TEST_CASE("global attention and its gradient on the CPU are the reference at awkward sizes") {
  std::mt19937 g(2);
  for (int round = 0; round < 16; ++round)
    check_attention({.batch = pick(g, {1, 2}),
                     .tokens = pick(g, {1, 7, 33, 65, 130}),
                     .heads = pick(g, {1, 2, 3}),
                     .width = pick(g, {1, 5, 16, 20, 24}),
                     .adds = round % 2 != 0,
                     .has_lse = round % 5 != 0});
}

TEST_CASE("global attention streams over several blocks of keys and queries") {
  check_attention({.batch = 1, .tokens = 450, .heads = 1, .width = 16, .adds = true});
  check_attention({.batch = 2, .tokens = 217, .heads = 9, .width = 4});
  check_attention(
      {.batch = 4, .tokens = 450, .heads = 4, .width = 4});  // a head is one task, which packs its own keys
}

TEST_CASE("global attention stays exact when scores are far apart") {
  for (index_t tokens : {97, 230, 450})
    for (index_t width : {8, 16, 40})
      check_attention({.batch = 1, .tokens = tokens, .heads = 2, .width = width, .sharpness = 12});
}

TEST_CASE("the reference gradients of soft-max and attention are difference quotients") {
  context<plain> cx;
  SECTION("soft-max") {
    index_t const rows = 3, width = 5;
    auto const x = input<double>(rows * width, 1), gy = input<double>(rows * width, 2);
    auto const forward = [&](std::vector<double> const& v) {
      auto y = poisoned<double>(rows * width);
      run<op::softmax, plain, double>(cx, {rows, width, v.data(), y.data()});
      return y;
    };
    auto const y = forward(x);
    auto gx = poisoned<double>(rows * width);
    run<op::softmax_grad, plain, double>(cx, {rows, width, y.data(), gy.data(), false, gx.data()});
    CHECK(difference_error(x, gx, [&](auto const& v) { return dot(forward(v), gy); }) < 1e-6);
  }
  SECTION("attention") {
    index_t const batch = 2, tokens = 4, heads = 2, width = 3, channels = heads * width;
    index_t const n = batch * tokens * channels;
    auto const qkv = input<double>(3 * n, 1), go = input<double>(n, 2);
    auto lse = poisoned<double>(batch * heads * tokens);
    auto const forward = [&](std::vector<double> const& v) {
      auto o = poisoned<double>(n);
      run<op::attention, plain, double>(cx, {batch, tokens, channels, heads, v.data(), o.data(), lse.data()});
      return o;
    };
    auto const o = forward(qkv);
    auto gqkv = poisoned<double>(3 * n);
    run<op::attention_grad, plain, double>(cx, {batch, tokens, channels, heads, qkv.data(), o.data(),
                                                lse.data(), go.data(), false, gqkv.data()});
    CHECK(difference_error(qkv, gqkv, [&](auto const& v) { return dot(forward(v), go); }) < 1e-6);
  }
}
