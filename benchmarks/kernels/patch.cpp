// SPDX-License-Identifier: Apache-2.0
// Patches of 25 x 16 x 16 of a 150 x 192 x 192 volume to tokens: gathered rows and a product, all or a quarter of them, against
// the convolution that it equals; global attention of the same network. Float, one thread.
#include "insula/kernels/cpu/patch.hpp"

#include <benchmark/benchmark.h>

#include <numeric>

#include "insula/kernels/cpu/attention.hpp"
#include "insula/kernels/cpu/conv.hpp"
#include "insula/kernels/cpu/gemm.hpp"
#include "insula/testing/compare.hpp"

using namespace insula;
using testing::random_vector;

namespace {

constexpr op::patch_geometry geometry{1, {150, 192, 192}, {25, 16, 16}, 1};

void count(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

struct patches {
  index_t out, rows;
  std::vector<float> x, w, b, y, gathered;
  std::vector<std::int32_t> ids;
  context<cpu> cx;
  patches(benchmark::State const& state)
      : out(state.range(0)),
        rows(state.range(1)),
        x(random_vector<float>(geometry.in.size(), 1)),
        w(random_vector<float>(geometry.row() * out, 2)),
        b(random_vector<float>(out, 3)),
        y(std::size_t(geometry.patches() * out)),
        gathered(std::size_t(rows * geometry.row())),
        ids(std::size_t(geometry.patches())) {
    std::iota(ids.rbegin(), ids.rend(), 0);
  }
  double flops() const { return 2.0 * double(rows * geometry.row() * out); }
};

/// Arguments: width, tokens.
void patch_embedding(benchmark::State& state) {
  patches p(state);
  for (auto _ : state) {
    run<op::patchify, cpu, float>(p.cx,
                                  {geometry, p.rows, p.ids.data(), p.x.data(), false, p.gathered.data()});
    run<op::linear, cpu, float>(
        p.cx, {p.rows, geometry.row(), p.out, p.gathered.data(), p.w.data(), p.b.data(), p.y.data()});
  }
  count(state, p.flops());
}
void patch_convolution(benchmark::State& state) {
  patches p(state);
  op::conv3d_geometry const g{1, geometry.in, 1, p.out, geometry.patch, geometry.patch};
  for (auto _ : state) run<op::conv3d, cpu, float>(p.cx, {g, p.x.data(), p.w.data(), p.b.data(), p.y.data()});
  count(state, p.flops());
}

/// Arguments: tokens, width of a head, heads.
void attention(benchmark::State& state) {
  index_t const tokens = state.range(0), channels = state.range(1) * state.range(2), heads = state.range(2);
  auto const qkv = random_vector<float>(3 * tokens * channels, 1),
             go = random_vector<float>(tokens * channels, 2);
  std::vector<float> o(go.size()), lse(std::size_t(tokens * heads)), gqkv(qkv.size());
  context<cpu> cx;
  for (auto _ : state) {
    run<op::attention, cpu, float>(cx, {1, tokens, channels, heads, qkv.data(), o.data(), lse.data()});
    run<op::attention_grad, cpu, float>(
        cx, {1, tokens, channels, heads, qkv.data(), o.data(), lse.data(), go.data(), false, gqkv.data()});
  }
  count(state, 14.0 * double(tokens * tokens * channels));
}

}  // namespace

BENCHMARK(patch_embedding)->Args({192, 216})->Args({192, 864})->Args({768, 216});
BENCHMARK(patch_convolution)->Args({192, 864});
BENCHMARK(attention)->Args({217, 64, 3})->Args({865, 32, 16})->Args({865, 64, 3});

BENCHMARK_MAIN();
