// SPDX-License-Identifier: Apache-2.0
// Shifted-window attention: the plain gradient against finite differences, the CPU kernels against the plain ones.
#include "insula/kernels/plain/window_attention.hpp"

#include "insula/device/cpu.hpp"
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
  std::vector<T> x, norm_w, norm_b, table, qkv_w, qkv_b, proj_w, proj_b, gy;
  std::vector<T> y, lse, gx, gnorm_w, gnorm_b, gtable, gqkv_w, gqkv_b, gproj_w, gproj_b;
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
    gnorm_w = fill(c, 1), gnorm_b = fill(c, 1), gtable = fill(g.table_rows() * g.heads, .1);
    gqkv_w = fill(3 * c * c, 1), gqkv_b = fill(3 * c, 1), gproj_w = fill(c * c, 1), gproj_b = fill(c, 1);
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
            lse.data()};
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
            gproj_b.data()};
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
