// SPDX-License-Identifier: Apache-2.0
// Linear layers at the sizes of Swin, UniFormer and ViT, and the fused feed-forward half-block, float, one thread.
#include "insula/kernels/cpu/gemm.hpp"

#include <benchmark/benchmark.h>

#include "insula/device/buffer.hpp"
#include "insula/testing/compare.hpp"

using namespace insula;
using testing::random_vector;

namespace {

void count(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

/// Argument: depth. 192 rows by one panel of packed weights, all of it in the caches: the register tile alone.
void panel(benchmark::State& state) {
  constexpr index_t rows = 192, columns = simd::panel_registers * simd::width<float>;
  index_t const depth = state.range(0);
  auto const a = random_vector<float>(rows * depth, 1), b = random_vector<float>(depth * columns, 2);
  auto c = testing::poisoned<float>(rows * columns);
  for (auto _ : state)
    simd::panel_product(rows, simd::columns<float>{columns}, 0, 1, depth, a.data(), depth,
                        simd::right_operand<float>{b.data(), depth}, 0, {}, c.data(), columns);
  count(state, 2.0 * double(rows * depth * columns));
}

/// Arguments: rows, in, out.
void linear(benchmark::State& state) {
  index_t const rows = state.range(0), in = state.range(1), out = state.range(2);
  auto const x = random_vector<float>(rows * in, 1), w = random_vector<float>(in * out, 2),
             b = random_vector<float>(out, 3);
  auto y = testing::poisoned<float>(rows * out);
  context<cpu> cx;
  for (auto _ : state)
    run<op::linear, cpu, float>(cx, {rows, in, out, x.data(), w.data(), b.data(), y.data()});
  count(state, 2.0 * double(rows * in * out));
}

/// Arguments: rows, in, out.
void linear_gelu(benchmark::State& state) {
  index_t const rows = state.range(0), in = state.range(1), out = state.range(2);
  auto const x = random_vector<float>(rows * in, 1), w = random_vector<float>(in * out, 2),
             b = random_vector<float>(out, 3);
  buffer<float, cpu> y(rows * out);
  context<cpu> cx;
  for (auto _ : state)
    run<op::linear_gelu, cpu, float>(cx, {rows, in, out, x.data(), w.data(), b.data(), nullptr, y.data()});
  count(state, 2.0 * double(rows * in * out));
}

void linear_grad(benchmark::State& state) {
  index_t const rows = state.range(0), in = state.range(1), out = state.range(2);
  auto const x = random_vector<float>(rows * in, 1), w = random_vector<float>(in * out, 2),
             gy = random_vector<float>(rows * out, 3);
  auto gx = testing::poisoned<float>(rows * in), gw = random_vector<float>(in * out, 4),
       gb = random_vector<float>(out, 5);
  context<cpu> cx;
  for (auto _ : state)
    run<op::linear_grad, cpu, float>(
        cx, {rows, in, out, x.data(), w.data(), gy.data(), false, gx.data(), gw.data(), gb.data()});
  count(state, 4.0 * double(rows * in * out));
}

/// Arguments: rows, width; the hidden layer is four times as wide.
struct feed_forward {
  index_t rows, width, hidden;
  std::vector<float> x, gy, norm_w, norm_b, w1, b1, w2, b2, y, gx;
  std::vector<float> gnorm_w, gnorm_b, gw1, gb1, gw2, gb2;

  explicit feed_forward(benchmark::State const& state)
      : rows(state.range(0)),
        width(state.range(1)),
        hidden(4 * width),
        x(random_vector<float>(rows * width, 1)),
        gy(random_vector<float>(rows * width, 2)),
        norm_w(random_vector<float>(width, 3)),
        norm_b(random_vector<float>(width, 4)),
        w1(random_vector<float>(width * hidden, 5)),
        b1(random_vector<float>(hidden, 6)),
        w2(random_vector<float>(hidden * width, 7)),
        b2(random_vector<float>(width, 8)),
        y(x),
        gx(x),
        gnorm_w(norm_w),
        gnorm_b(norm_b),
        gw1(w1),
        gb1(b1),
        gw2(w2),
        gb2(b2) {}
};

void mlp(benchmark::State& state) {
  feed_forward f(state);
  context<cpu> cx;
  for (auto _ : state)
    run<op::mlp, cpu, float>(
        cx, {f.rows, f.width, f.hidden, 1e-5, f.x.data(), f.norm_w.data(), f.norm_b.data(), f.w1.data(),
             f.b1.data(), f.w2.data(), f.b2.data(), f.y.data()});
  count(state, 4.0 * double(f.rows * f.width * f.hidden));
}

/// Five products are counted, the recomputed one among them.
void mlp_grad(benchmark::State& state) {
  feed_forward f(state);
  context<cpu> cx;
  for (auto _ : state)
    run<op::mlp_grad, cpu, float>(
        cx, {f.rows,           f.width,         f.hidden,     1e-5,         f.x.data(),
             f.norm_w.data(),  f.norm_b.data(), f.w1.data(),  f.b1.data(),  f.w2.data(),
             f.b2.data(),      f.gy.data(),     false,        f.gx.data(),  f.gnorm_w.data(),
             f.gnorm_b.data(), f.gw1.data(),    f.gb1.data(), f.gw2.data(), f.gb2.data()});
  count(state, 10.0 * double(f.rows * f.width * f.hidden));
}

void linear_sizes(benchmark::internal::Benchmark* b) {
  for (auto const& [rows, width] : {std::pair{110592, 48}, {13824, 96}, {1728, 192}, {216, 384}}) {
    b->Args({rows, width, 3 * width})->Args({rows, width, 4 * width})->Args({rows, 4 * width, width});
  }
  b->Args({1728, 320, 1280})->Args({2056, 1024, 4096});
  b->Args({865, 768, 2304})->Args({865, 768, 3072})->Args({865, 3072, 768});
  b->Unit(benchmark::kMillisecond);
}
void mlp_sizes(benchmark::internal::Benchmark* b) {
  b->Args({110592, 48})
      ->Args({13824, 96})
      ->Args({1728, 192})
      ->Args({216, 384})
      ->Args({865, 768})
      ->Args({2056, 1024})
      ->Unit(benchmark::kMillisecond);
}

BENCHMARK(panel)->Arg(48)->Arg(384)->Unit(benchmark::kMicrosecond);
BENCHMARK(linear)->Apply(linear_sizes);
BENCHMARK(linear_gelu)
    ->Args({110592, 48, 192})
    ->Args({13824, 96, 384})
    ->Args({865, 768, 3072})
    ->Unit(benchmark::kMillisecond);
BENCHMARK(linear_grad)->Apply(linear_sizes);
BENCHMARK(mlp)->Apply(mlp_sizes);
BENCHMARK(mlp_grad)->Apply(mlp_sizes);

}  // namespace

BENCHMARK_MAIN();
