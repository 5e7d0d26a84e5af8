// SPDX-License-Identifier: Apache-2.0
// Norms with what is fused into them, GELU, pooling and global attention at the sizes networks use, float, one thread.
#include "insula/kernels/cpu/norm.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>

#include "insula/device/buffer.hpp"
#include "insula/kernels/cpu/activation.hpp"
#include "insula/kernels/cpu/attention.hpp"
#include "insula/kernels/cpu/batch_norm.hpp"
#include "insula/testing/compare.hpp"

using namespace insula;
using testing::random_vector;

namespace {

/// Bytes that have to move if every operand is read once and every result written once.
void count(benchmark::State& state, index_t elements) {
  state.counters["GB/s"] =
      benchmark::Counter(4e-9 * double(elements), benchmark::Counter::kIsIterationInvariantRate);
}

/// A copy where networks have their tensors, see memory_block.
buffer<float, cpu> as_tensor(std::vector<float> const& from) {
  buffer<float, cpu> to(index_t(from.size()));
  std::copy(from.begin(), from.end(), to.data());
  return to;
}

/// Arguments: rows, width.
void layer_norm(benchmark::State& state) {
  index_t const rows = state.range(0), width = state.range(1);
  auto const x = as_tensor(random_vector<float>(rows * width, 1)),
             w = as_tensor(random_vector<float>(width, 2)), b = as_tensor(random_vector<float>(width, 3));
  auto y = as_tensor(testing::poisoned<float>(rows * width)),
       stats = as_tensor(testing::poisoned<float>(3 * rows));
  context<cpu> cx;
  for (auto _ : state)
    run<op::layer_norm, cpu, float>(
        cx, {rows, width, 1e-5, x.data(), w.data(), b.data(), y.data(), stats.data()});
  count(state, 2 * rows * width);
}

void layer_norm_grad(benchmark::State& state) {
  index_t const rows = state.range(0), width = state.range(1);
  auto const x = as_tensor(random_vector<float>(rows * width, 1)),
             gy = as_tensor(random_vector<float>(rows * width, 2)),
             w = as_tensor(random_vector<float>(width, 3));
  auto gx = as_tensor(testing::poisoned<float>(rows * width));
  auto gw = as_tensor(random_vector<float>(width, 4)), gb = as_tensor(random_vector<float>(width, 5));
  std::vector<float> stats(std::size_t(3 * rows), 1.0f);
  context<cpu> cx;
  for (auto _ : state)
    run<op::layer_norm_grad, cpu, float>(cx, {rows, width, x.data(), w.data(), stats.data(), gy.data(), false,
                                              gx.data(), gw.data(), gb.data()});
  count(state, 3 * rows * width);
}

/// Arguments: positions, channels, groups, activation (0 none, 2 leaky ReLU, 3 GELU).
void group_norm(benchmark::State& state) {
  index_t const positions = state.range(0), channels = state.range(1), groups = state.range(2);
  auto const act = activation(state.range(3));
  auto const x = as_tensor(random_vector<float>(positions * channels, 1)),
             w = as_tensor(random_vector<float>(channels, 2)),
             b = as_tensor(random_vector<float>(channels, 3));
  auto y = as_tensor(testing::poisoned<float>(positions * channels)),
       stats = as_tensor(testing::poisoned<float>(3 * groups));
  context<cpu> cx;
  for (auto _ : state)
    run<op::group_norm, cpu, float>(cx, {1, positions, channels, groups, 1e-5, act, x.data(), nullptr,
                                         w.data(), b.data(), y.data(), stats.data()});
  count(state, 3 * positions * channels);  // the second read of x comes after all of it was read once
}

void group_norm_grad(benchmark::State& state) {
  index_t const positions = state.range(0), channels = state.range(1), groups = state.range(2);
  auto const act = activation(state.range(3));
  auto const x = as_tensor(random_vector<float>(positions * channels, 1)),
             gy = as_tensor(random_vector<float>(positions * channels, 2)),
             w = as_tensor(random_vector<float>(channels, 3)),
             b = as_tensor(random_vector<float>(channels, 4));
  auto gx = as_tensor(testing::poisoned<float>(positions * channels));
  auto gw = as_tensor(random_vector<float>(channels, 5)), gb = as_tensor(random_vector<float>(channels, 6));
  std::vector<float> stats(std::size_t(3 * groups), 1.0f);
  context<cpu> cx;
  for (auto _ : state)
    run<op::group_norm_grad, cpu, float>(
        cx, {1, positions, channels, groups, act, x.data(), nullptr, w.data(), b.data(), stats.data(),
             gy.data(), false, gx.data(), false, nullptr, gw.data(), gb.data()});
  count(state, 5 * positions * channels);
}

/// Arguments: positions, channels. Batch norm, residual and ReLU.
void batch_norm(benchmark::State& state) {
  index_t const positions = state.range(0), channels = state.range(1), n = positions * channels;
  auto const x = as_tensor(random_vector<float>(n, 1)), skip = as_tensor(random_vector<float>(n, 2)),
             w = as_tensor(random_vector<float>(channels, 3)),
             b = as_tensor(random_vector<float>(channels, 4));
  auto y = as_tensor(testing::poisoned<float>(n)), stats = as_tensor(testing::poisoned<float>(3 * channels));
  context<cpu> cx;
  for (auto _ : state)
    run<op::batch_norm, cpu, float>(cx, {positions,
                                         channels,
                                         1e-5,
                                         activation::relu,
                                         norm_statistics::batch,
                                         {},
                                         x.data(),
                                         skip.data(),
                                         w.data(),
                                         b.data(),
                                         0.1,
                                         nullptr,
                                         nullptr,
                                         y.data(),
                                         stats.data()});
  count(state, 4 * n);
}

void batch_norm_grad(benchmark::State& state) {
  index_t const positions = state.range(0), channels = state.range(1), n = positions * channels;
  auto const x = as_tensor(random_vector<float>(n, 1)), skip = as_tensor(random_vector<float>(n, 2)),
             gy = as_tensor(random_vector<float>(n, 3)), w = as_tensor(random_vector<float>(channels, 4)),
             b = as_tensor(random_vector<float>(channels, 5));
  auto gx = as_tensor(testing::poisoned<float>(n)), gskip = as_tensor(testing::poisoned<float>(n));
  auto gw = as_tensor(random_vector<float>(channels, 6)), gb = as_tensor(random_vector<float>(channels, 7));
  std::vector<float> stats(std::size_t(3 * channels), 1.0f);
  context<cpu> cx;
  for (auto _ : state)
    run<op::batch_norm_grad, cpu, float>(cx, {positions,
                                              channels,
                                              activation::relu,
                                              norm_statistics::batch,
                                              {},
                                              x.data(),
                                              skip.data(),
                                              w.data(),
                                              b.data(),
                                              stats.data(),
                                              gy.data(),
                                              false,
                                              gx.data(),
                                              false,
                                              gskip.data(),
                                              gw.data(),
                                              gb.data()});
  count(state, 8 * n);
}

/// Arguments: depth, height and width of the volume. Batch norm, ReLU and max-pooling 3^3 stride 2, 64 channels.
void batch_norm_pool(benchmark::State& state) {
  op::pool3d_geometry const g{1, {state.range(0), state.range(1), state.range(2)}, 64};
  index_t const n = g.in.size() * g.channels, outputs = g.out().size() * g.channels;
  auto const x = as_tensor(random_vector<float>(n, 1)), w = as_tensor(random_vector<float>(g.channels, 2)),
             b = as_tensor(random_vector<float>(g.channels, 3));
  auto y = as_tensor(testing::poisoned<float>(outputs)),
       stats = as_tensor(testing::poisoned<float>(3 * g.channels));
  std::vector<std::uint8_t> pick(y.size());
  context<cpu> cx;
  for (auto _ : state)
    run<op::batch_norm_pool, cpu, float>(cx, {g,
                                              1e-5,
                                              activation::relu,
                                              norm_statistics::batch,
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
  count(state, 2 * n + outputs);
}

void batch_norm_pool_grad(benchmark::State& state) {
  op::pool3d_geometry const g{1, {state.range(0), state.range(1), state.range(2)}, 64};
  index_t const n = g.in.size() * g.channels, outputs = g.out().size() * g.channels;
  auto const x = as_tensor(random_vector<float>(n, 1)), w = as_tensor(random_vector<float>(g.channels, 2)),
             b = as_tensor(random_vector<float>(g.channels, 3)),
             gy = as_tensor(random_vector<float>(outputs, 4));
  auto y = as_tensor(testing::poisoned<float>(outputs)),
       stats = as_tensor(testing::poisoned<float>(3 * g.channels)),
       gx = as_tensor(testing::poisoned<float>(n));
  auto gw = as_tensor(random_vector<float>(g.channels, 5)),
       gb = as_tensor(random_vector<float>(g.channels, 6));
  std::vector<std::uint8_t> pick(y.size());
  context<cpu> cx;
  run<op::batch_norm_pool, cpu, float>(cx, {g,
                                            1e-5,
                                            activation::relu,
                                            norm_statistics::batch,
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
  for (auto _ : state)
    run<op::batch_norm_pool_grad, cpu, float>(cx, {g,
                                                   activation::relu,
                                                   norm_statistics::batch,
                                                   {},
                                                   x.data(),
                                                   w.data(),
                                                   b.data(),
                                                   stats.data(),
                                                   pick.data(),
                                                   gy.data(),
                                                   false,
                                                   gx.data(),
                                                   gw.data(),
                                                   gb.data()});
  count(state, 2 * n + 2 * outputs);
}

void gelu(benchmark::State& state) {
  index_t const n = state.range(0);
  auto const x = as_tensor(random_vector<float>(n, 1));
  auto y = as_tensor(testing::poisoned<float>(n));
  context<cpu> cx;
  for (auto _ : state) run<op::activate, cpu, float>(cx, {n, activation::gelu, x.data(), y.data()});
  count(state, 2 * n);
}

/// Arguments: tokens, channels, heads, batch. Products of tokens^2 channels: 2 forward, 5 backward.
struct attention_tensors {
  index_t tokens, channels, heads, batch, size = batch * tokens * channels;
  buffer<float, cpu> qkv = as_tensor(random_vector<float>(3 * size, 1)),
                     go = as_tensor(random_vector<float>(size, 2)),
                     o = as_tensor(testing::poisoned<float>(size)),
                     lse = as_tensor(testing::poisoned<float>(batch * heads * tokens)),
                     gqkv = as_tensor(testing::poisoned<float>(3 * size));

  explicit attention_tensors(benchmark::State const& state)
      : tokens(state.range(0)), channels(state.range(1)), heads(state.range(2)), batch(state.range(3)) {}
  void forward(context<cpu>& cx) {
    run<op::attention, cpu, float>(cx, {batch, tokens, channels, heads, qkv.data(), o.data(), lse.data()});
  }
  void backward(context<cpu>& cx) {
    run<op::attention_grad, cpu, float>(cx, {batch, tokens, channels, heads, qkv.data(), o.data(), lse.data(),
                                             go.data(), false, gqkv.data()});
  }
  benchmark::Counter rate(int products) const {
    return {2e-9 * double(products * tokens * size), benchmark::Counter::kIsIterationInvariantRate};
  }
};

void attention(benchmark::State& state) {
  attention_tensors t(state);
  context<cpu> cx;
  for (auto _ : state) t.forward(cx);
  state.counters["GFLOP/s"] = t.rate(2);
}

void attention_grad(benchmark::State& state) {
  attention_tensors t(state);
  context<cpu> cx;
  t.forward(cx);
  for (auto _ : state) t.backward(cx);
  state.counters["GFLOP/s"] = t.rate(5);
}

void layer_sizes(benchmark::internal::Benchmark* b) {
  b->Args({110592, 48})
      ->Args({13824, 96})
      ->Args({1728, 192})
      ->Args({216, 384})
      ->Unit(benchmark::kMillisecond);
}
void group_sizes(benchmark::internal::Benchmark* b) {
  b->Args({110592, 32, 8, 3});
  for (int act : {0, 2, 3})
    b->Args({884736, 24, 24, act})
        ->Args({884736, 32, 32, act})
        ->Args({110592, 48, 48, act})
        ->Args({87552, 64, 8, act});
  b->Unit(benchmark::kMillisecond);
}
void attention_sizes(benchmark::internal::Benchmark* b) {
  b->Args({1728, 320, 5, 1})
      ->Args({865, 768, 12, 1})
      ->Args({257, 1024, 16, 8})
      ->Unit(benchmark::kMillisecond);
}

BENCHMARK(layer_norm)->Apply(layer_sizes);
BENCHMARK(layer_norm_grad)->Apply(layer_sizes);
BENCHMARK(group_norm)->Apply(group_sizes);
BENCHMARK(group_norm_grad)->Apply(group_sizes);
BENCHMARK(batch_norm)->Args({87552, 64})->Unit(benchmark::kMillisecond);
BENCHMARK(batch_norm_grad)->Args({87552, 64})->Unit(benchmark::kMillisecond);
BENCHMARK(batch_norm_pool)->Args({38, 48, 48})->Args({75, 96, 96})->Unit(benchmark::kMillisecond);
BENCHMARK(batch_norm_pool_grad)->Args({38, 48, 48})->Args({75, 96, 96})->Unit(benchmark::kMillisecond);
BENCHMARK(gelu)->Arg(110592 * 192)->Unit(benchmark::kMillisecond);
BENCHMARK(attention)->Apply(attention_sizes);
BENCHMARK(attention_grad)->Apply(attention_sizes);

}  // namespace

BENCHMARK_MAIN();
