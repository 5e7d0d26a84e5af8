// SPDX-License-Identifier: Apache-2.0
// One training step of the masked autoencoder at the published size: time, and the memory it needs beside what the program
// predicted.
//   step_mae --benchmark_out=step.json --benchmark_out_format=json
// ViT-Tiny, one and four volumes of 150 x 192 x 192. Counters in MB: base (resident before), peak (largest resident size of the
// process), needed = peak - base, predicted = weights + gradients + moments + pass + inputs + kernel scratch, off = needed /
// predicted - 1.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstdio>

#include "insula/cpu.hpp"
#include "insula/optim/adamw.hpp"
#include "insula/ssl/masked_autoencoder.hpp"
#include "insula/testing/compare.hpp"
#include "insula/zoo/mae.hpp"

using namespace insula;

namespace {

using options = mae::tiny;
using volume = vit::input<options>;
using system_type =
    masked_autoencoder<mae::autoencoder<options>, vit::encoder<options>, options::patch, volume>;
static_assert(system_type::bytes(16) < 3'000'000'000);

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

/// Arguments: threads, volumes.
void training_step(benchmark::State& state) {
  double const base = resident();
  context<cpu> cx(int(state.range(0)));
  index_t const batch = state.range(1);
  auto const x = testing::random_vector<float>(batch * volume::size, 1);
  system_type system(cx, batch);
  system.initialise(1);
  adamw<float> optimizer(system_type::size, decay_matrices(system_type::places(), 0.05), {.beta2 = 0.95});
  std::uint64_t step = 0;
  for (auto _ : state) {
    system.clear_gradients();
    benchmark::DoNotOptimize(system.micro_batch(x.data(), batch, {1, step++}));
    optimizer.step(cx, system.g(), system.w(), 7.5e-5);
  }
  double const predicted = double(system_type::bytes(batch) + 2 * 4 * system_type::size +
                                  4 * batch * volume::size + index_t(cx.scratch_bytes())) /
                           1e6;
  double const needed = peak_resident() - base;
  state.counters["base_MB"] = base, state.counters["peak_MB"] = peak_resident();
  state.counters["needed_MB"] = needed, state.counters["predicted_MB"] = predicted;
  state.counters["off"] = needed / predicted - 1;
}

}  // namespace

// the peak of a process only grows: the smaller batch runs first
BENCHMARK(training_step)
    ->ArgsProduct({{2}, {1, 4}})
    ->Unit(benchmark::kSecond)
    ->MeasureProcessCPUTime()
    ->UseRealTime();

BENCHMARK_MAIN();
