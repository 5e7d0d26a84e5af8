// SPDX-License-Identifier: Apache-2.0
// Times of the shifted-window attention half-block at the four stages of the 96^3 Swin encoder.
#include "insula/kernels/cpu/window_attention.hpp"

#include <benchmark/benchmark.h>

#include "insula/kernels/cpu/window_attention_backward.hpp"
#include "insula/testing/compare.hpp"

using namespace insula;

namespace {

using T = float;

/// Arguments of one half-block with random contents.
struct half_block {
  op::window_geometry g;
  std::vector<T> x, norm_w, norm_b, table, qkv_w, qkv_b, proj_w, proj_b, gy;
  std::vector<T> y, lse, kept, gx, gnorm_w, gnorm_b, gtable, gqkv_w, gqkv_b, gproj_w, gproj_b;

  half_block(index_t side, index_t channels, index_t heads, index_t shift)
      : g{1, cube(side), cube(7), cube(shift), channels, heads} {
    auto const fill = [&](index_t n, double scale, double offset = 0) {
      auto v = testing::random_vector<T>(n, std::uint64_t(n));
      for (auto& e : v) e = T(scale * e + offset);
      return v;
    };
    index_t const n = g.grid.size() * channels, c = channels;
    double const spread = 1.7 / std::sqrt(double(c));  // scores of about unit variance
    x = fill(n, 1), gy = fill(n, 1), norm_w = fill(c, .1, 1), norm_b = fill(c, .1);
    table = fill(g.table_rows() * heads, 1), qkv_w = fill(3 * c * c, spread), qkv_b = fill(3 * c, .1);
    proj_w = fill(c * c, spread), proj_b = fill(c, .1);
    y = x, gx = x, lse.resize(std::size_t(g.saved()));
    if (c >= 192 && shift == 0) kept.resize(std::size_t(g.kept()));  // as swin::options::keeping_stage
    gnorm_w = norm_w, gnorm_b = norm_b, gtable = table, gqkv_w = qkv_w, gqkv_b = qkv_b;
    gproj_w = proj_w, gproj_b = proj_b;
  }

  void forward(context<cpu>& cx) {
    run<op::window_attention, cpu, T>(
        cx, {g, 1e-5, x.data(), norm_w.data(), norm_b.data(), table.data(), qkv_w.data(), qkv_b.data(),
             proj_w.data(), proj_b.data(), y.data(), lse.data(), kept_or_null()});
  }
  void backward(context<cpu>& cx) {
    run<op::window_attention_grad, cpu, T>(cx, {g,
                                                1e-5,
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
                                                gproj_b.data(),
                                                kept_or_null()});
  }

  T* kept_or_null() { return kept.empty() ? nullptr : kept.data(); }

  /// Floating-point operations of the forward pass: scores, values, qkv and projection of whole windows.
  double operations() const {
    double const n = double(g.tokens()), c = double(g.channels);
    return double(g.windows().size()) * (4 * n * n * c + 8 * n * c * c);
  }
};

/// GFLOP/s count the forward operations once; forward and backward together as four times those, three of them
/// backward: six products where the forward has two, eleven channel products where it has four.
void report(benchmark::State& state, half_block const& block, double passes) {
  state.counters["GFLOP/s"] =
      benchmark::Counter(1e-9 * passes * block.operations(), benchmark::Counter::kIsIterationInvariantRate);
}

void forward(benchmark::State& state) {
  half_block block(state.range(0), state.range(1), state.range(2), state.range(3));
  context<cpu> cx(int(state.range(4)));
  for (auto _ : state) block.forward(cx), benchmark::DoNotOptimize(block.y.data());
  report(state, block, 1);
}

void forward_backward(benchmark::State& state) {
  half_block block(state.range(0), state.range(1), state.range(2), state.range(3));
  context<cpu> cx(int(state.range(4)));
  for (auto _ : state) {
    block.forward(cx), block.backward(cx);
    benchmark::DoNotOptimize(block.gx.data());
  }
  report(state, block, 4);
}

void stages(benchmark::internal::Benchmark* b) {
  b->ArgNames({"side", "channels", "heads", "shift", "threads"})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
  for (int threads : {1, 2})
    for (int shift : {0, 3}) {
      b->Args({48, 48, 3, shift, threads})->Args({24, 96, 6, shift, threads});
      b->Args({12, 192, 12, shift, threads});
      if (shift == 0) b->Args({6, 384, 24, shift, threads});  // one clamped window: never shifted
    }
}
BENCHMARK(forward)->Apply(stages);
BENCHMARK(forward_backward)->Apply(stages);

}  // namespace

BENCHMARK_MAIN();
