// SPDX-License-Identifier: Apache-2.0
// One training step of UMBRA's published network at 96^3: time, and the memory it needs beside what the program predicted.
//   step_umbra --benchmark_out=step.json --benchmark_out_format=json
// Counters in MB: base (resident before), peak (largest resident size of the process), needed = peak - base, predicted =
// weights + gradients + moments + the largest pass + kernel scratch, off = needed / predicted - 1.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstdio>

#include "insula/cpu.hpp"
#include "insula/optim/adamw.hpp"
#include "insula/optim/clip.hpp"
#include "insula/ssl/contrastive_masked.hpp"
#include "insula/testing/compare.hpp"
#include "insula/zoo/umbra.hpp"

using namespace insula;

namespace {

using options = umbra::paper;
using volume96 = umbra::crop<options>;
using umbra_system = contrastive_masked<umbra::autoencoder<options>, umbra::encoder<options>,
                                        umbra::projection<options>, volume96, options::queue_length>;

double resident() {  // MB
  long pages = 0, ignored = 0;
  if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(f, "%ld %ld", &ignored, &pages) != 2) pages = 0;
    std::fclose(f);
  }
  return double(pages) * 4096 / 1e6;
}
double peak_resident() {  // MB
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  return double(u.ru_maxrss) * 1024 / 1e6;
}

/// What a step takes: the masked objective alone (SwinMAE encoder and decoder), or both.
void training_step(benchmark::State& state, objectives on) {
  double const base = resident();
  context<cpu> cx(int(state.range(0)));
  auto const x = testing::random_vector<float>(volume96::size, 1),
             y = testing::random_vector<float>(volume96::size, 2);
  std::int64_t const patient[1] = {1}, session[1] = {1};
  umbra_system system(cx, on, {cube(options::crop)}, 1);
  system.initialise(1);
  adamw<float> optimizer(umbra_system::size, {{0, umbra_system::size, 0.01}});
  pair_batch<float> const pairs{1, x.data(), y.data(), x.data(), y.data(), patient, session};
  single_batch<float> const single{1, x.data(), x.data()};
  std::uint64_t t = 0;
  for (auto _ : state) {
    system.clear_gradients();
    system.micro_batch(on.contrastive ? pairs : pair_batch<float>{},
                       on.contrastive ? single_batch<float>{} : single, 1, 0.996, {1, t++});
    double const norm = l2_norm(cx, system.g(), umbra_system::size);
    optimizer.step(cx, system.g(), system.w(), 1e-4, clip_factor(norm, 10));
  }
  double const predicted = double(umbra_system::bytes(on, 1) + 2 * 4 * umbra_system::size +
                                  2 * 4 * volume96::size + index_t(cx.scratch_bytes())) /
                           1e6;
  double const needed = peak_resident() - base;
  state.counters["base_MB"] = base, state.counters["peak_MB"] = peak_resident();
  state.counters["needed_MB"] = needed, state.counters["predicted_MB"] = predicted;
  state.counters["off"] = needed / predicted - 1;
}

}  // namespace

// the peak of a process only grows: the smaller step runs first
BENCHMARK_CAPTURE(training_step, mim, objectives{false, true})
    ->Arg(1)
    ->Iterations(2)
    ->Unit(benchmark::kSecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(training_step, mcl_mim, objectives{true, true})
    ->Arg(1)
    ->Iterations(2)
    ->Unit(benchmark::kSecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(training_step, mim, objectives{false, true})
    ->Arg(2)
    ->Iterations(2)
    ->Unit(benchmark::kSecond)
    ->UseRealTime();

BENCHMARK_MAIN();
