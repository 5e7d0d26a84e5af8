// SPDX-License-Identifier: Apache-2.0
// What a training step does beside its networks: contrastive and masked losses, gradient norm, optimiser, moving average;
// and resizing feature maps. Float, one thread.
#include <benchmark/benchmark.h>

#include "insula/kernels/cpu/reduce.hpp"
#include "insula/kernels/cpu/resample.hpp"
#include "insula/kernels/cpu/update.hpp"
#include "insula/testing/compare.hpp"

using namespace insula;
using testing::random_vector;

namespace {

void bytes(benchmark::State& state, index_t floats) {
  state.counters["GB/s"] =
      benchmark::Counter(4e-9 * double(floats), benchmark::Counter::kIsIterationInvariantRate);
}

/// (rows, width), each row of unit length.
std::vector<float> unit_rows(index_t rows, index_t width, std::uint64_t stream) {
  auto x = random_vector<float>(rows * width, stream);
  for (index_t r = 0; r < rows; ++r) {
    double square = 0;
    for (index_t c = 0; c < width; ++c) square += double(x[r * width + c]) * double(x[r * width + c]);
    for (index_t c = 0; c < width; ++c) x[r * width + c] *= float(1 / std::sqrt(square));
  }
  return x;
}

/// Arguments: queries, width, keys in the queue. Forward and gradient in one pass.
void info_nce(benchmark::State& state) {
  index_t const batch = state.range(0), width = state.range(1), length = state.range(2);
  auto const q = unit_rows(batch, width, 1), k = unit_rows(batch, width, 2),
             queue = unit_rows(length, width, 3);
  auto gq = testing::poisoned<float>(batch * width);
  std::vector<std::int64_t> const patient(std::size_t(batch), 1), queued(std::size_t(length), 2);
  double loss = 0;
  context<cpu> cx;
  for (auto _ : state)
    run<op::info_nce, cpu, float>(
        cx, {batch, width, length, 0.2, op::invalid_negative::clamped, q.data(), k.data(), queue.data(),
             patient.data(), queued.data(), gq.data(), &loss, nullptr});
  bytes(state, length * width);
}

void masked_mse(benchmark::State& state) {
  index_t const n = state.range(0);
  auto const x = random_vector<float>(n, 1), target = random_vector<float>(n, 2);
  std::vector<std::uint8_t> mask(std::size_t(n), 0);
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i / 32 % 2;
  double sum = 0;
  index_t masked = 0;
  context<cpu> cx;
  for (auto _ : state)
    run<op::masked_mse, cpu, float>(cx, {n, 1, mask.data(), x.data(), target.data(), &sum, &masked});
  bytes(state, 2 * n);
}

void gradient_norm(benchmark::State& state) {
  index_t const n = state.range(0);
  auto const g = random_vector<float>(n, 1);
  double sum = 0;
  context<cpu> cx;
  for (auto _ : state) run<op::sum_of_squares, cpu, float>(cx, {n, g.data(), &sum});
  bytes(state, n);
}

void adamw(benchmark::State& state) {
  index_t const n = state.range(0);
  auto const g = random_vector<float>(n, 1);
  auto w = random_vector<float>(n, 2);
  std::vector<float> m(w.size()), v(w.size());
  context<cpu> cx;
  for (auto _ : state)
    run<op::adamw, cpu, float>(
        cx, {n, 1e-3, 0.9, 0.999, 1e-8, 0.05, 1.0, 1, g.data(), w.data(), m.data(), v.data()});
  bytes(state, 7 * n);
}

/// AdamW with the moving average of the weights in the same pass.
void adamw_averaged(benchmark::State& state) {
  index_t const n = state.range(0);
  auto const g = random_vector<float>(n, 1);
  auto w = random_vector<float>(n, 2), average = random_vector<float>(n, 3);
  std::vector<float> m(w.size()), v(w.size());
  context<cpu> cx;
  for (auto _ : state)
    run<op::adamw, cpu, float>(cx, {n, 1e-3, 0.9, 0.999, 1e-8, 0.05, 1.0, 1, g.data(), w.data(), m.data(),
                                    v.data(), 0.996, average.data()});
  bytes(state, 9 * n);
}

void moving_average(benchmark::State& state) {
  index_t const n = state.range(0);
  auto const x = random_vector<float>(n, 1);
  auto average = random_vector<float>(n, 2);
  context<cpu> cx;
  for (auto _ : state) run<op::ema, cpu, float>(cx, {n, 0.996, x.data(), average.data()});
  bytes(state, 3 * n);
}

/// Arguments: channels, side of the coarse and of the fine map. Trilinear.
void resize(benchmark::State& state) {
  index_t const c = state.range(0);
  extent const in = cube(state.range(1)), out = cube(state.range(2));
  auto const x = random_vector<float>(in.size() * c, 1);
  auto y = testing::poisoned<float>(out.size() * c);
  context<cpu> cx;
  for (auto _ : state)
    run<op::resize, cpu, float>(cx, {1, c, in, out, resizing::trilinear, x.data(), y.data()});
  bytes(state, (in.size() + out.size()) * c);
}

constexpr index_t weights = 28'800'000;
BENCHMARK(info_nce)->Args({32, 128, 16384})->Unit(benchmark::kMillisecond);
BENCHMARK(masked_mse)->Arg(96 * 96 * 96)->Unit(benchmark::kMillisecond);
BENCHMARK(gradient_norm)->Arg(weights)->Unit(benchmark::kMillisecond);
BENCHMARK(adamw)->Arg(weights)->Unit(benchmark::kMillisecond);
BENCHMARK(adamw_averaged)->Arg(weights)->Unit(benchmark::kMillisecond);
BENCHMARK(moving_average)->Arg(weights)->Unit(benchmark::kMillisecond);
BENCHMARK(resize)->Args({32, 24, 48})->Args({32, 12, 24})->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
