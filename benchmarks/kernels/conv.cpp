// SPDX-License-Identifier: Apache-2.0
// Convolution kernels in float on one thread, in GFLOP/s of the direct algorithm (two per multiply-add).
#include "insula/kernels/cpu/conv.hpp"

#include <benchmark/benchmark.h>

#include "insula/device/buffer.hpp"
#include "insula/testing/compare.hpp"

namespace {

using namespace insula;

struct problem {
  char const* name;
  op::conv3d_geometry g;
};

constexpr op::conv3d_geometry cubic(index_t channels, index_t side) {
  return {1, cube(side), channels, channels, cube(3), cube(1), cube(1)};
}

constexpr problem problems[] = {
    {"48 -> 48, 48^3", cubic(48, 48)},
    {"96 -> 96, 24^3", cubic(96, 24)},
    {"192 -> 192, 12^3", cubic(192, 12)},
    {"384 -> 384, 6^3", cubic(384, 6)},
    {"32 -> 32, 48^3", cubic(32, 48)},
    {"64 -> 64, 38x48x48", {1, {38, 48, 48}, 64, 64, cube(3), cube(1), cube(1)}},
    {"128 -> 128, 19x24x24", {1, {19, 24, 24}, 128, 128, cube(3), cube(1), cube(1)}},
    {"256 -> 256, 10x12x12", {1, {10, 12, 12}, 256, 256, cube(3), cube(1), cube(1)}},
    {"64 -> 128, stride 2, 38x48x48", {1, {38, 48, 48}, 64, 128, cube(3), cube(2), cube(1)}},
    {"256 -> 512, stride 2, 10x12x12", {1, {10, 12, 12}, 256, 512, cube(3), cube(2), cube(1)}},
    {"depth-wise 5^3, 64, 48^3", {1, cube(48), 64, 64, cube(5), cube(1), cube(2), 64}},
    {"depth-wise 3^3, 64, 48^3", {1, cube(48), 64, 64, cube(3), cube(1), cube(1), 64}},
    {"depth-wise 5^3, 128, 24^3", {1, cube(24), 128, 128, cube(5), cube(1), cube(2), 128}},
    {"depth-wise 3^3, 320, 12^3", {1, cube(12), 320, 320, cube(3), cube(1), cube(1), 320}},
    {"patch embedding 2^3, 1 -> 48, 96^3", {1, cube(96), 1, 48, cube(2), cube(2)}},
    {"stem 7^3, 1 -> 64, 48x64x64", {1, {48, 64, 64}, 1, 64, cube(7), cube(1), cube(3)}},
    {"stem 7^3 stride 2, 1 -> 64, 96x128x128", {1, {96, 128, 128}, 1, 64, cube(7), cube(2), cube(3)}},
    {"patches 2^3, 64 -> 128, 24^3", {1, cube(24), 64, 128, cube(2), cube(2)}},
    {"1^3 stride 2, 64 -> 128, 38x48x48", {1, {38, 48, 48}, 64, 128, cube(1), cube(2)}},
    {"1^3, 48 -> 32, 48^3", {1, cube(48), 48, 32, cube(1)}},
    {"1^3, 64 -> 256, 24^3", {1, cube(24), 64, 256, cube(1)}},
};

enum class pass { forward, data, weights };

void fill(buffer<float, cpu>& b, std::uint64_t seed) {
  for (index_t i = 0; i < b.size(); ++i) b[i] = float(2 * uniform_at({seed, 1}, std::uint32_t(i)) - 1);
}

void convolution(benchmark::State& state, problem const& p, pass which, conv_policy policy) {
  context<cpu> cx(1);
  op::conv3d_geometry const& g = p.g;
  index_t const outputs = g.batch * g.out().size();
  buffer<float, cpu> x(g.batch * g.in.size() * g.in_channels), y(outputs * g.out_channels), gx(x.size());
  buffer<float, cpu> w(g.weights()), gw(g.weights());
  fill(x, 1), fill(w, 2), fill(y, 3);
  for (auto _ : state) {
    if (which == pass::forward)
      kernel<op::conv3d, cpu, float>::run(cx, {g, x.data(), w.data(), nullptr, y.data()}, policy);
    else if (which == pass::data)
      kernel<op::conv3d_grad, cpu, float>::run(
          cx, {g, x.data(), w.data(), y.data(), false, gx.data(), nullptr, nullptr}, policy);
    else
      kernel<op::conv3d_grad, cpu, float>::run(
          cx, {g, x.data(), w.data(), y.data(), false, nullptr, gw.data(), nullptr}, policy);
    benchmark::ClobberMemory();
  }
  double const operations = 2.0 * double(outputs) * double(g.weights());
  state.counters["GFLOP/s"] =
      benchmark::Counter(operations * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace

int main(int argc, char** argv) {
  constexpr char const* passes[] = {"forward", "input gradient", "weight gradient"};
  constexpr char const* policies[] = {"exact", "winograd2", "winograd4"};
  for (auto const& p : problems)
    for (pass which : {pass::forward, pass::data, pass::weights})
      for (conv_policy policy : {conv_policy::exact, conv_policy::winograd2, conv_policy::winograd4}) {
        bool const choice = p.g.kernel == cube(3) && p.g.stride == cube(1) && p.g.groups == 1;
        if (!choice && policy != conv_policy::exact) continue;
        benchmark::RegisterBenchmark(
            text(p.name, "/", passes[int(which)], "/", policies[int(policy)]).c_str(), convolution, p, which,
            policy)
            ->Unit(benchmark::kMillisecond);
      }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
