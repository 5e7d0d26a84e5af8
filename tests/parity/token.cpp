// SPDX-License-Identifier: Apache-2.0
// Patches as rows, masked-patch errors, and the sequences of a vision transformer against their reference.
#include "insula/kernels/cpu/token.hpp"

#include <algorithm>
#include <numeric>

#include "insula/kernels/cpu/patch.hpp"
#include "insula/kernels/plain/patch.hpp"
#include "insula/kernels/plain/token.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

struct permutations {
  std::vector<std::int32_t> shuffle, restore;  // (batch, n)
  permutations(std::mt19937& g, index_t batch, index_t n)
      : shuffle(std::size_t(batch * n)), restore(shuffle.size()) {
    for (index_t b = 0; b < batch; ++b) {
      auto* const s = shuffle.data() + b * n;
      std::iota(s, s + n, 0);
      std::shuffle(s, s + n, g);
      for (index_t i = 0; i < n; ++i) restore[std::size_t(b * n + s[i])] = std::int32_t(i);
    }
  }
};

std::vector<std::uint8_t> some_masked(std::mt19937& g, index_t n) {
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(n));
  for (auto& m : mask) m = g() % 3 != 0;
  return mask;
}

constexpr double exact = 1e-300;  // copies: not one bit may differ

}  // namespace

TEST_CASE("a patch's row is ordered z, y, x, channel and patches are numbered z, y, x") {
  std::vector<double> x(2 * 2 * 4 * 2);
  std::iota(x.begin(), x.end(), 0.0);  // value = ((z * 2 + y) * 4 + x) * 2 + c
  context<plain> cx;
  op::patch_geometry const g{1, {2, 2, 4}, {2, 1, 2}, 2};
  auto y = poisoned<double>(32);
  run<op::patchify, plain, double>(cx, {g, 4, nullptr, x.data(), false, y.data()});
  CHECK(std::vector<double>(y.begin(), y.begin() + 8) == std::vector<double>{0, 1, 2, 3, 16, 17, 18, 19});
  CHECK(std::vector<double>(y.begin() + 8, y.begin() + 16) ==
        std::vector<double>{4, 5, 6, 7, 20, 21, 22, 23});
  CHECK(y[16] == 8.0);
  auto back = poisoned<double>(32);
  run<op::unpatchify, plain, double>(cx, {g, 4, nullptr, y.data(), false, back.data()});
  CHECK(back == x);
}

TEST_CASE("patchify and unpatchify on the CPU are the reference") {
  std::mt19937 g(1);
  for (int round = 0; round < 24; ++round) {
    index_t const batch = pick(g, {1, 3}), c = pick(g, {1, 3, 8});
    extent const grid = pick_extent(g), patch = pick_extent(g);
    op::patch_geometry const geometry{
        batch, {grid.d * patch.d, grid.h * patch.h, grid.w * patch.w}, patch, c};
    index_t const all = geometry.patches(),
                  rows = round % 3 == 0 ? all : 1 + index_t(g() % std::uint64_t(all));
    permutations const order(g, batch, all);
    bool const adds = round & 1;
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          auto const* const ids = round % 4 == 3 ? nullptr : order.shuffle.data();
          auto const x = input<T>(batch * geometry.in.size() * c, 1);
          auto y = target<T>(adds, batch * rows * geometry.row(), 2),
               back = target<T>(adds, std::ssize(x), 3);
          run<op::patchify, B, T>(cx, {geometry, rows, ids, x.data(), adds, y.data()});
          run<op::unpatchify, B, T>(cx, {geometry, rows, ids, y.data(), adds, back.data()});
          return {widened(y), widened(back)};
        },
        adds ? 2e-7 : exact, adds ? 1e-15 : exact);
  }
}

TEST_CASE("the error of masked patches on the CPU is the reference") {
  std::mt19937 g(2);
  for (int round = 0; round < 24; ++round) {
    index_t const batch = pick(g, {1, 3}), c = pick(g, {1, 2});
    extent const grid = pick_extent(g), patch{pick(g, {1, 2, 5}), pick(g, {2, 3, 8}), pick(g, {1, 4, 17})};
    op::patch_geometry const geometry{
        batch, {grid.d * patch.d, grid.h * patch.h, grid.w * patch.w}, patch, c};
    bool const adds = round & 1, normalised = round & 2;
    auto const mask = some_masked(g, batch * geometry.patches());
    check_parity([&]<class B, class T>(context<B>& cx) -> outputs {
      index_t const n = batch * geometry.in.size() * c;
      auto const x = input<T>(n, 1), volume = input<T>(n, 2);
      auto gx = target<T>(adds, n, 3);
      double sum = -1;
      index_t count = -1;
      run<op::masked_patch_mse, B, T>(
          cx, {geometry, normalised, mask.data(), x.data(), volume.data(), &sum, &count});
      run<op::masked_patch_mse_grad, B, T>(
          cx, {geometry, normalised, mask.data(), x.data(), volume.data(), T(0.7), adds, gx.data()});
      return {{sum, double(count)}, widened(gx)};
    });
  }
}

TEST_CASE("a constant patch has the normalised target zero") {
  context<cpu> cx(1);
  std::vector<float> const x{1, 2, 3, 4}, volume(4, 1.7f);
  std::uint8_t const mask = 1;
  double sum = 0;
  index_t count = 0;
  run<op::masked_patch_mse, cpu, float>(
      cx, {{1, {1, 2, 2}, {1, 2, 2}, 1}, true, &mask, x.data(), volume.data(), &sum, &count});
  CHECK(std::abs(sum - 7.5) < 1e-6);
  CHECK(count == 1);
}

TEST_CASE("sequences with class token, positions and restored tokens on the CPU are the reference") {
  std::mt19937 g(3);
  for (int round = 0; round < 24; ++round) {
    index_t const batch = pick(g, {1, 3}), all = pick(g, {1, 2, 7, 33, 200}), c = pick(g, {1, 5, 24, 50});
    bool const given = round % 4 != 3, adds = round & 1;
    index_t const kept = given ? 1 + index_t(g() % std::uint64_t(all)) : all;
    permutations const order(g, batch, all);
    check_parity([&]<class B, class T>(context<B>& cx) -> outputs {
      auto const* const shuffle = given ? order.shuffle.data() : nullptr;
      auto const* const restore = given ? order.restore.data() : nullptr;
      auto const x = input<T>(batch * kept * c, 1), token = input<T>(c, 2),
                 position = input<T>((all + 1) * c, 3);
      auto y = poisoned<T>(batch * (kept + 1) * c), z = poisoned<T>(batch * (all + 1) * c);
      run<op::lead_tokens, B, T>(
          cx, {batch, kept, all, c, shuffle, x.data(), token.data(), position.data(), y.data()});
      run<op::restore_tokens, B, T>(
          cx, {batch, kept, all, c, restore, y.data(), token.data(), position.data(), z.data()});
      auto const gz = input<T>(std::ssize(z), 4);
      auto gy = target<T>(adds, std::ssize(y), 5), gx = target<T>(adds, std::ssize(x), 6);
      auto g1 = input<T>(c, 7), g2 = g1, p1 = input<T>(std::ssize(position), 8), p2 = p1;
      run<op::restore_tokens_grad, B, T>(
          cx, {batch, kept, all, c, restore, gz.data(), adds, gy.data(), g1.data(), p1.data()});
      run<op::lead_tokens_grad, B, T>(
          cx, {batch, kept, all, c, restore, gy.data(), adds, gx.data(), g2.data(), p2.data()});
      run<op::restore_tokens_grad, B, T>(
          cx, {batch, kept, all, c, restore, gz.data(), adds, nullptr, nullptr, nullptr});
      run<op::lead_tokens_grad, B, T>(
          cx, {batch, kept, all, c, restore, gy.data(), adds, nullptr, nullptr, nullptr});
      return {widened(y),  widened(z),  widened(gy), widened(gx),
              widened(g1), widened(g2), widened(p1), widened(p2)};
    });
  }
}

TEST_CASE("parts of a sequence on the CPU are the reference") {
  std::mt19937 g(4);
  for (int round = 0; round < 12; ++round) {
    index_t const batch = pick(g, {1, 3}), tokens = pick(g, {1, 2, 7, 70}), c = pick(g, {1, 5, 24});
    index_t const first = index_t(g() % std::uint64_t(tokens)),
                  count = 1 + index_t(g() % std::uint64_t(tokens - first));
    bool const adds = round & 1;
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          auto const x = input<T>(batch * tokens * c, 1);
          auto y = poisoned<T>(batch * count * c), gx = target<T>(adds, std::ssize(x), 2);
          run<op::slice_tokens, B, T>(cx, {batch, tokens, c, first, count, x.data(), y.data()});
          run<op::slice_tokens_grad, B, T>(cx, {batch, tokens, c, first, count, y.data(), adds, gx.data()});
          return {widened(y), widened(gx)};
        },
        adds ? 2e-7 : exact, adds ? 1e-15 : exact);
  }
}

TEST_CASE("the reference gradients of masked patches and restored sequences are difference quotients") {
  context<plain> cx;
  std::mt19937 g(5);
  SECTION("masked patches") {
    op::patch_geometry const geometry{2, {2, 4, 6}, {2, 2, 3}, 1};
    index_t const n = 2 * 48;
    auto const x = input<double>(n, 1), volume = input<double>(n, 2);
    auto const mask = some_masked(g, 2 * geometry.patches());
    for (bool normalised : {false, true}) {
      auto const loss = [&](std::vector<double> const& v) {
        double sum = 0;
        index_t count = 0;
        run<op::masked_patch_mse, plain, double>(
            cx, {geometry, normalised, mask.data(), v.data(), volume.data(), &sum, &count});
        return sum;
      };
      auto gx = poisoned<double>(n);
      run<op::masked_patch_mse_grad, plain, double>(
          cx, {geometry, normalised, mask.data(), x.data(), volume.data(), 2.0 / 12, false, gx.data()});
      CHECK(difference_error(x, gx, loss) < 1e-8);
    }
  }
  SECTION("restored sequences") {
    index_t const batch = 2, all = 5, kept = 2, c = 3;
    permutations const order(g, batch, all);
    auto const position = input<double>((all + 1) * c, 1), gy = input<double>(batch * (all + 1) * c, 2);
    auto const x = input<double>(batch * (kept + 1) * c + c, 3);  // the mask token at the end
    auto const loss = [&](std::vector<double> const& v) {
      auto y = poisoned<double>(std::ssize(gy));
      run<op::restore_tokens, plain, double>(cx, {batch, kept, all, c, order.restore.data(), v.data(),
                                                  v.data() + std::ssize(v) - c, position.data(), y.data()});
      return dot(y, gy);
    };
    auto gx = poisoned<double>(std::ssize(x));
    std::fill(gx.end() - c, gx.end(), 0.0);
    run<op::restore_tokens_grad, plain, double>(
        cx, {batch, kept, all, c, order.restore.data(), gy.data(), false, gx.data(),
             gx.data() + std::ssize(gx) - c, nullptr});
    CHECK(difference_error(x, gx, loss) < 1e-8);
  }
}
