// SPDX-License-Identifier: Apache-2.0
// The ops over modalities against their reference.
#include "insula/kernels/cpu/modality.hpp"

#include "insula/kernels/plain/modality.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

TEST_CASE("groups of channels become volumes of their own") {
  context<plain> cx;
  std::vector<double> const x{1, 2, 10, 20, 3, 4, 30, 40};  // two voxels, two modalities of two channels
  auto y = poisoned<double>(8);
  run<op::split_modalities, plain, double>(cx, {1, 2, 2, 2, x.data(), y.data()});
  CHECK(y == std::vector<double>{1, 2, 3, 4, 10, 20, 30, 40});
  auto back = poisoned<double>(8);
  run<op::split_modalities_grad, plain, double>(cx, {1, 2, 2, 2, y.data(), false, back.data()});
  CHECK(back == x);
}

TEST_CASE("splitting modalities on the CPU is the reference") {
  std::mt19937 g(1);
  for (int round = 0; round < 16; ++round) {
    index_t const batch = pick(g, {1, 3}), n = pick(g, {1, 2, 3}), c = pick(g, {1, 1, 2, 9, 24}),
                  positions = pick(g, {1, 7, 105, 9000});
    bool const adds = round & 1;
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          index_t const size = batch * n * positions * c;
          auto const x = input<T>(size, 1), gy = input<T>(size, 2);
          auto y = poisoned<T>(size), gx = target<T>(adds, size, 3);
          run<op::split_modalities, B, T>(cx, {batch, n, positions, c, x.data(), y.data()});
          run<op::split_modalities_grad, B, T>(cx, {batch, n, positions, c, gy.data(), adds, gx.data()});
          run<op::split_modalities_grad, B, T>(cx, {batch, n, positions, c, gy.data(), adds, nullptr});
          return {widened(y), widened(gx)};
        },
        2e-7, 1e-15);
  }
}

TEST_CASE("fusing modalities on the CPU is the reference") {
  std::mt19937 g(2);
  for (int round = 0; round < 16; ++round) {
    index_t const batch = pick(g, {1, 3}), n = pick(g, {1, 2, 3}), stride = n * pick(g, {1, 6}),
                  size = pick(g, {1, 7, 105, 40000});
    bool const adds = round & 1;
    int const missing = round % 5;  // 1: no gx, 2: no gw
    check_parity([&]<class B, class T>(context<B>& cx) -> outputs {
      auto const x = input<T>(batch * n * size, 1), w = input<T>(batch * stride, 2),
                 gy = input<T>(batch * size, 3);
      auto y = poisoned<T>(batch * size);
      auto gx = target<T>(adds, batch * n * size, 4), gw = input<T>(batch * stride, 5);
      run<op::fuse_modalities, B, T>(cx, {batch, n, size, stride, x.data(), w.data(), y.data()});
      run<op::fuse_modalities_grad, B, T>(
          cx, {batch, n, size, stride, x.data(), w.data(), gy.data(), adds,
               missing == 1 ? nullptr : gx.data(), missing == 2 ? nullptr : gw.data()});
      if (missing == 1) gx.clear();
      return {widened(y), widened(gx), widened(gw)};
    });
  }
}

TEST_CASE("the gradients of fusing agree with differences") {
  context<plain> cx;
  index_t const batch = 2, n = 3, size = 4, stride = 6;
  auto const x = input<double>(batch * n * size, 1), w = input<double>(batch * stride, 2),
             gy = input<double>(batch * size, 3);
  auto gx = poisoned<double>(std::ssize(x));
  std::vector<double> gw(w.size());
  run<op::fuse_modalities_grad, plain, double>(
      cx, {batch, n, size, stride, x.data(), w.data(), gy.data(), false, gx.data(), gw.data()});
  auto const loss = [&](std::vector<double> const& at, std::vector<double> const& by) {
    auto y = poisoned<double>(batch * size);
    run<op::fuse_modalities, plain, double>(cx, {batch, n, size, stride, at.data(), by.data(), y.data()});
    return dot(gy, y);
  };
  CHECK(difference_error(x, gx, [&](auto const& v) { return loss(v, w); }) < 1e-9);
  CHECK(difference_error(w, gw, [&](auto const& v) { return loss(x, v); }) < 1e-9);
}
