// SPDX-License-Identifier: Apache-2.0
// Large results are written past the caches where they lie on whole registers, and are the same as those that are not.
#include "insula/kernels/cpu/stream.hpp"

#include <limits>

#include "insula/device/buffer.hpp"
#include "insula/kernels/cpu/activation.hpp"
#include "insula/kernels/cpu/batch_norm.hpp"
#include "insula/kernels/cpu/norm.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

constexpr index_t channels = 32, rows = simd::far_bytes / (channels * index_t(sizeof(float))) + 77,
                  size = rows * channels;

/// What a kernel writes to an aligned array, and to one that is not, which no kernel can stream to: the same bits, on 1 and 2 threads.
template <class F>
void check_far(F const& write) {
  buffer<float, cpu> aligned(size), apart(size + 1);
  REQUIRE(simd::can_stream_in_order(aligned.data()) == (simd::register_bytes > 16));
  for (int threads = 1; threads <= 2; ++threads) {
    context<cpu> cx(threads);
    for (float& v : aligned) v = std::numeric_limits<float>::quiet_NaN();
    for (float& v : apart) v = std::numeric_limits<float>::quiet_NaN();
    write(cx, aligned.data());
    write(cx, apart.data() + 1);
    CHECK(std::memcmp(aligned.data(), apart.data() + 1, std::size_t(size) * sizeof(float)) == 0);
    index_t missed = 0;
    for (float v : aligned) missed += v != v;
    CHECK(missed == 0);
  }
}

}  // namespace

TEST_CASE("activations written past the caches are the same") {
  auto const x = input<float>(size, 1), gy = input<float>(size, 2);
  for (activation act : {activation::relu, activation::gelu}) {
    check_far([&](context<cpu>& cx, float* y) {
      run<op::activate, cpu, float>(cx, {size, act, x.data(), y});
    });
    check_far([&](context<cpu>& cx, float* gx) {
      run<op::activate_grad, cpu, float>(cx, {size, act, x.data(), gy.data(), false, gx});
    });
  }
}

TEST_CASE("group norm written past the caches is the same") {
  auto const x = input<float>(size, 1), gy = input<float>(size, 2), w = input<float>(channels, 3),
             b = input<float>(channels, 4);
  std::vector<float> stats(12), gw(channels), gb(channels);
  for (activation act : {activation::none, activation::leaky_relu, activation::gelu}) {
    check_far([&](context<cpu>& cx, float* y) {
      run<op::group_norm, cpu, float>(
          cx, {1, rows, channels, 4, 1e-5, act, x.data(), nullptr, w.data(), b.data(), y, stats.data()});
    });
    check_far([&](context<cpu>& cx, float* gx) {
      run<op::group_norm_grad, cpu, float>(
          cx, {1, rows, channels, 4, act, x.data(), nullptr, w.data(), b.data(), stats.data(), gy.data(),
               false, gx, false, nullptr, gw.data(), gb.data()});
    });
  }
}

TEST_CASE("group norm's gradient that leaves a shortcut's is the same past the caches") {
  auto const x = input<float>(size, 1), gy = input<float>(size, 2), skip = input<float>(size, 3);
  std::vector<float> stats(12), gskip(static_cast<std::size_t>(size)), y(static_cast<std::size_t>(size));
  context<cpu> cx;
  run<op::group_norm, cpu, float>(cx, {1, rows, channels, 4, 1e-5, activation::relu, x.data(), skip.data(),
                                       nullptr, nullptr, y.data(), stats.data()});
  check_far([&](context<cpu>& own, float* gx) {
    run<op::group_norm_grad, cpu, float>(
        own, {1, rows, channels, 4, activation::relu, x.data(), skip.data(), nullptr, nullptr, stats.data(),
              gy.data(), false, gx, false, gskip.data(), nullptr, nullptr});
  });
}

TEST_CASE("batch norm, alone and before max-pooling, written past the caches is the same") {
  auto const x = input<float>(size, 1), gy = input<float>(size, 2), w = input<float>(channels, 3),
             b = input<float>(channels, 4);
  std::vector<float> stats(3 * channels), gw(channels), gb(channels);
  auto const batch = norm_statistics::batch;
  check_far([&](context<cpu>& cx, float* y) {
    run<op::batch_norm, cpu, float>(cx, {rows,
                                         channels,
                                         1e-5,
                                         activation::relu,
                                         batch,
                                         {},
                                         x.data(),
                                         nullptr,
                                         w.data(),
                                         b.data(),
                                         0.1,
                                         nullptr,
                                         nullptr,
                                         y,
                                         stats.data()});
  });
  check_far([&](context<cpu>& cx, float* gx) {
    run<op::batch_norm_grad, cpu, float>(cx, {rows,
                                              channels,
                                              activation::relu,
                                              batch,
                                              {},
                                              x.data(),
                                              nullptr,
                                              w.data(),
                                              b.data(),
                                              stats.data(),
                                              gy.data(),
                                              false,
                                              gx,
                                              false,
                                              nullptr,
                                              gw.data(),
                                              gb.data()});
  });
  op::pool3d_geometry const g{1, {1, 1, rows}, channels, {1, 1, 2}, {1, 1, 2}, {0, 0, 0}};
  index_t const half = g.out().size() * channels;
  std::vector<float> y(static_cast<std::size_t>(half));
  std::vector<std::uint8_t> pick(static_cast<std::size_t>(half));
  context<cpu> cx;
  run<op::batch_norm_pool, cpu, float>(cx, {g,
                                            1e-5,
                                            activation::relu,
                                            batch,
                                            {},
                                            x.data(),
                                            w.data(),
                                            b.data(),
                                            0.1,
                                            nullptr,
                                            nullptr,
                                            y.data(),
                                            stats.data(),
                                            pick.data()});
  check_far([&](context<cpu>& own, float* gx) {
    run<op::batch_norm_pool_grad, cpu, float>(own, {g,
                                                    activation::relu,
                                                    batch,
                                                    {},
                                                    x.data(),
                                                    w.data(),
                                                    b.data(),
                                                    stats.data(),
                                                    pick.data(),
                                                    gy.data(),
                                                    false,
                                                    gx,
                                                    gw.data(),
                                                    gb.data()});
  });
}
