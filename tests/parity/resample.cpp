// SPDX-License-Identifier: Apache-2.0
// Resizing against its reference, the published index rule and finite differences.
#include "insula/kernels/cpu/resample.hpp"

#include "insula/kernels/plain/resample.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

template <class B>
std::vector<double> resized(extent in, extent out, resizing how, std::vector<double> const& x) {
  context<B> cx;
  auto y = poisoned<double>(out.size());
  run<op::resize, B, double>(cx, {1, 1, in, out, how, x.data(), y.data()});
  return y;
}

template <class B>
void check_rules() {
  std::vector<double> line(14);
  for (std::size_t i = 0; i < line.size(); ++i) line[i] = double(i);
  auto const nearest = [&](index_t in, index_t out) {
    std::vector<double> const x(line.begin(), line.begin() + in);
    return resized<B>({1, 1, in}, {1, 1, out}, resizing::nearest, x);
  };
  // The float32 ratio 14/12 is a little below 7/6; times 6 it rounds to 7 in float32 and is 6.9999998 in double.
  CHECK(nearest(14, 12) == std::vector<double>{0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12});
  CHECK(nearest(3, 6) == std::vector<double>{0, 0, 1, 1, 2, 2});
  CHECK(nearest(3, 3) == std::vector<double>{0, 1, 2});
  CHECK(nearest(3, 7) == std::vector<double>{0, 0, 0, 1, 1, 2, 2});
  CHECK(nearest(5, 2) == std::vector<double>{0, 2});
  double const inf = std::numeric_limits<double>::infinity();
  CHECK(resized<B>({1, 1, 2}, {1, 1, 3}, resizing::nearest, {inf, -inf}) ==
        std::vector<double>{inf, inf, -inf});
  CHECK(resized<B>({1, 1, 2}, {1, 1, 2}, resizing::trilinear, {inf, 1}) == std::vector<double>{inf, 1});
  auto const linear = [&](index_t in, index_t out) {
    std::vector<double> const x(line.begin(), line.begin() + in);
    return resized<B>({1, in, 1}, {1, out, 1}, resizing::trilinear, x);
  };
  CHECK(linear(3, 6) == std::vector<double>{0, 0.25, 0.75, 1.25, 1.75, 2});
  CHECK(linear(4, 2) == std::vector<double>{0.5, 2.5});
  CHECK(linear(3, 3) == std::vector<double>{0, 1, 2});
  CHECK(linear(1, 3) == std::vector<double>{0, 0, 0});
  CHECK(linear(5, 1) == std::vector<double>{2});
}

}  // namespace

TEST_CASE("resizing follows the published rules on the reference and on the CPU") {
  check_rules<plain>();
  check_rules<cpu>();
}

TEST_CASE("the product of the nearest rule is rounded to float32") {
  auto const at = [](index_t o, index_t in, index_t out) {
    return detail::resample_rule::source_of(o, in, out, resizing::nearest).low;
  };
  CHECK(at(6, 14, 12) == 7);
  CHECK(index_t(6.0 * double(float(14) / float(12))) == 6);  // what a product in double would give
  for (index_t in = 1; in < 50; ++in)
    for (index_t o = 0; o < 2 * in; ++o) {
      REQUIRE(at(o, in, 2 * in) == o / 2);
      if (o < in) REQUIRE(at(o, in, in) == o);
    }
}

TEST_CASE("resizing on the CPU is the reference") {
  std::mt19937 g(1);
  for (int round = 0; round < 60; ++round) {
    index_t const batch = pick(g, {1, 3}), c = pick(g, {1, 5, 24, 48, 50});
    extent const in = pick_extent(g);
    extent out = pick_extent(g);
    for (int axis = 0; axis < 3; ++axis)  // often exactly twice or the same
      if (g() % 3 == 0)
        out[axis] = 2 * in[axis];
      else if (g() % 4 == 0)
        out[axis] = in[axis];
    bool const adds = round & 1;
    auto const how = round % 3 == 0 ? resizing::nearest : resizing::trilinear;
    INFO(in.d << ' ' << in.h << ' ' << in.w << " to " << out.d << ' ' << out.h << ' ' << out.w);
    check_parity([&]<class B, class T>(context<B>& cx) -> outputs {
      auto const x = input<T>(batch * in.size() * c, 1), gy = input<T>(batch * out.size() * c, 2);
      auto y = poisoned<T>(std::ssize(gy)), gx = target<T>(adds, std::ssize(x), 3);
      run<op::resize, B, T>(cx, {batch, c, in, out, how, x.data(), y.data()});
      run<op::resize_grad, B, T>(cx, {batch, c, in, out, how, gy.data(), adds, gx.data()});
      run<op::resize_grad, B, T>(cx, {batch, c, in, out, how, gy.data(), adds, nullptr});
      return {widened(y), widened(gx)};
    });
  }
}

TEST_CASE("the gradient of resizing is its transpose") {
  for (auto how : {resizing::nearest, resizing::trilinear})
    for (extent out : {extent{6, 4, 2}, extent{2, 7, 5}, extent{3, 2, 1}}) {
      extent const in{3, 2, 5};
      auto const x = input<double>(in.size(), 4), gy = input<double>(out.size(), 5);
      auto gx = poisoned<double>(in.size());
      context<plain> cx;
      run<op::resize_grad, plain, double>(cx, {1, 1, in, out, how, gy.data(), false, gx.data()});
      auto const loss = [&](auto const& v) { return dot(gy, resized<plain>(in, out, how, v)); };
      CHECK(difference_error(x, gx, loss) < 1e-9);
    }
}
