// SPDX-License-Identifier: Apache-2.0
// Patch merging, voxel shuffle and concatenation against their reference.
#include "insula/kernels/cpu/gather.hpp"

#include <algorithm>

#include "insula/kernels/cpu/pad.hpp"
#include "insula/kernels/plain/gather.hpp"
#include "insula/kernels/plain/pad.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

constexpr op::merge_order orders[] = {
    op::merging, op::merging_before_1_5, op::merging_v2, {{7, 7, 7, 0, 0, 3, 3, 1}}};

extent half(extent e) { return {(e.d + 1) / 2, (e.h + 1) / 2, (e.w + 1) / 2}; }

std::vector<double> merged(index_t batch, extent in, index_t c, op::merge_order order,
                           std::vector<double> const& x) {
  context<plain> cx;
  auto y = poisoned<double>(batch * half(in).size() * 8 * c);
  run<op::merge_patches, plain, double>(cx, {batch, in, c, order, x.data(), y.data()});
  return y;
}

}  // namespace

TEST_CASE("patch merging copies the eight sub-grids in the order asked for") {
  std::vector<double> x(8);
  for (std::size_t i = 0; i < 8; ++i) x[i] = double(i);  // value = d * 4 + h * 2 + w
  CHECK(merged(1, cube(2), 1, op::merging, x) == std::vector<double>{0, 4, 2, 1, 6, 5, 3, 7});
  CHECK(merged(1, cube(2), 1, op::merging_before_1_5, x) == std::vector<double>{0, 4, 2, 1, 5, 2, 1, 7});
  CHECK(merged(1, cube(2), 1, op::merging_v2, x) == std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(merged(1, {1, 1, 3}, 1, op::merging_v2, {1, 2, 3}) ==
        std::vector<double>{1, 2, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("patch merging on the CPU is the reference") {
  std::mt19937 g(1);
  for (int round = 0; round < 24; ++round) {
    index_t const batch = pick(g, {1, 3}), c = pick(g, {1, 5, 24, 48, 50});
    extent const in = pick_extent(g);
    op::merge_order const order = orders[round % 4];
    bool const adds = round & 1;
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          auto const x = input<T>(batch * in.size() * c, 1),
                     gy = input<T>(batch * half(in).size() * 8 * c, 2);
          auto y = poisoned<T>(std::ssize(gy)), gx = target<T>(adds, std::ssize(x), 3);
          run<op::merge_patches, B, T>(cx, {batch, in, c, order, x.data(), y.data()});
          run<op::merge_patches_grad, B, T>(cx, {batch, in, c, order, gy.data(), adds, gx.data()});
          run<op::merge_patches_grad, B, T>(cx, {batch, in, c, order, gy.data(), adds, nullptr});
          return {widened(y), widened(gx)};
        },
        2e-7, 1e-15);
  }
}

TEST_CASE("the gradient of patch merging is its transpose, also for sub-grids that occur twice") {
  for (auto const& order : orders) {
    index_t const batch = 2, c = 3;
    extent const in{3, 2, 5};
    auto const x = input<double>(batch * in.size() * c, 4),
               gy = input<double>(batch * half(in).size() * 8 * c, 5);
    auto gx = poisoned<double>(std::ssize(x));
    context<plain> cx;
    run<op::merge_patches_grad, plain, double>(cx, {batch, in, c, order, gy.data(), false, gx.data()});
    CHECK(difference_error(x, gx, [&](auto const& v) { return dot(gy, merged(batch, in, c, order, v)); }) <
          1e-9);
  }
}

TEST_CASE("the voxel shuffle puts channel ((c bd + i) bh + j) bw + k at offset (i, j, k)") {
  context<plain> cx;
  std::vector<double> x(16), y(16);
  for (std::size_t i = 0; i < 16; ++i) x[i] = double(i);
  run<op::depth_to_space, plain, double>(cx, {1, {1, 1, 2}, 1, cube(2), x.data(), y.data()});
  CHECK(y == std::vector<double>{0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15});
  run<op::depth_to_space, plain, double>(cx, {1, cube(1), 2, cube(2), x.data(), y.data()});
  CHECK(y == std::vector<double>{0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15});
}

TEST_CASE("the voxel shuffle on the CPU is the reference") {
  std::mt19937 g(2);
  for (int round = 0; round < 24; ++round) {
    index_t const batch = pick(g, {1, 3}), c = pick(g, {1, 1, 5, 24});
    extent const in = pick_extent(g), block{pick(g, {1, 2, 3}), pick(g, {1, 2, 3}), pick(g, {1, 2, 2, 3})};
    bool const adds = round & 1;
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          index_t const n = batch * in.size() * block.size() * c;
          auto const x = input<T>(n, 1), gy = input<T>(n, 2);
          auto y = poisoned<T>(n), gx = target<T>(adds, n, 3);
          run<op::depth_to_space, B, T>(cx, {batch, in, c, block, x.data(), y.data()});
          run<op::depth_to_space_grad, B, T>(cx, {batch, in, c, block, gy.data(), adds, gx.data()});
          run<op::depth_to_space_grad, B, T>(cx, {batch, in, c, block, gy.data(), adds, nullptr});
          return {widened(y), widened(gx)};
        },
        2e-7, 1e-15);
  }
}

TEST_CASE("the gradient of the voxel shuffle undoes it") {
  context<plain> cx;
  extent const in{2, 3, 1}, block{2, 1, 3};
  auto const x = input<double>(2 * in.size() * block.size() * 5, 6);
  auto y = poisoned<double>(std::ssize(x)), gx = y;
  run<op::depth_to_space, plain, double>(cx, {2, in, 5, block, x.data(), y.data()});
  CHECK(y != x);
  run<op::depth_to_space_grad, plain, double>(cx, {2, in, 5, block, y.data(), false, gx.data()});
  CHECK(gx == x);  // a permutation: its transpose is its inverse
}

TEST_CASE("concatenation on the CPU is the reference") {
  std::mt19937 g(3);
  for (int round = 0; round < 24; ++round) {
    index_t const rows = pick(g, {1, 7, 105, 700}), ca = pick(g, {1, 5, 24, 48, 50}),
                  cb = pick(g, {1, 5, 24, 48});
    bool const a_adds = round & 1, b_adds = round & 2;
    int const missing = round % 5;  // 1: no ga, 2: no gb
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          auto const a = input<T>(rows * ca, 1), b = input<T>(rows * cb, 2),
                     gy = input<T>(rows * (ca + cb), 3);
          auto y = poisoned<T>(rows * (ca + cb));
          auto ga = target<T>(a_adds, rows * ca, 4), gb = target<T>(b_adds, rows * cb, 5);
          run<op::concat, B, T>(cx, {rows, ca, cb, a.data(), b.data(), y.data()});
          run<op::concat_grad, B, T>(cx, {rows, ca, cb, gy.data(), a_adds, missing == 1 ? nullptr : ga.data(),
                                          b_adds, missing == 2 ? nullptr : gb.data()});
          if (missing == 1) ga.clear();
          if (missing == 2) gb.clear();
          return {widened(y), widened(ga), widened(gb)};
        },
        2e-7, 1e-15);
  }
}

TEST_CASE("the gradient of concatenation splits") {
  context<plain> cx;
  std::vector<double> const a{1, 2, 3, 4}, b{5, 6};
  std::vector<double> y(6), ga(4), gb{10, 10};
  run<op::concat, plain, double>(cx, {2, 2, 1, a.data(), b.data(), y.data()});
  CHECK(y == std::vector<double>{1, 2, 5, 3, 4, 6});
  run<op::concat_grad, plain, double>(cx, {2, 2, 1, y.data(), false, ga.data(), true, gb.data()});
  CHECK(ga == a);
  CHECK(gb == std::vector<double>{15, 16});
}

TEST_CASE("padding's gradient that nobody wants is not computed") {
  context<cpu> fast;
  context<plain> reference;
  float const gy[2] = {1, 2};
  float* const nothing = nullptr;
  run<op::pad_end_grad, cpu, float>(fast, {1, cube(1), {1, 1, 2}, 1, gy, false, nothing});
  run<op::pad_end_grad, plain, float>(reference, {1, cube(1), {1, 1, 2}, 1, gy, false, nothing});
  SUCCEED();
}
