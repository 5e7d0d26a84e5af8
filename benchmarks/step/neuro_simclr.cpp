// SPDX-License-Identifier: Apache-2.0
// One training step of 3D-Neuro-SimCLR at the published size: time, and the memory it needs beside what the program predicted.
//   step_neuro_simclr --benchmark_out=step.json --benchmark_out_format=json
// Two subjects, that is four volumes of 150 x 192 x 192: one subject alone has no negatives. Counters in MB: base (resident
// before), peak (largest resident size of the process), needed = peak - base, predicted = weights + gradients + moments + both
// passes + inputs + kernel scratch, off = needed / predicted - 1.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstdio>

#include "insula/cpu.hpp"
#include "insula/optim/adam.hpp"
#include "insula/ssl/simclr.hpp"
#include "insula/testing/compare.hpp"
#include "insula/zoo/neuro_simclr.hpp"

using namespace insula;

namespace {

template <class O>
using system_of = simclr<neuro_simclr::network<O>, neuro_simclr::encoder<O>, neuro_simclr::volume<O>>;

constexpr index_t subjects = 2;
static_assert(system_of<neuro_simclr::paper>::bytes(subjects) < 16'000'000'000);
static_assert(system_of<neuro_simclr::paper_in_16_gb>::bytes(subjects) < 8'000'000'000);

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

template <class O>
void training_step(benchmark::State& state) {
  using system_type = system_of<O>;
  using volume = neuro_simclr::volume<O>;
  double const base = resident();
  context<cpu> cx(int(state.range(0)));
  auto const x = testing::random_vector<float>(subjects * volume::size, 1),
             y = testing::random_vector<float>(subjects * volume::size, 2);
  system_type system(cx);
  system.initialise(1);
  adam<float> optimizer(system_type::size);
  for (auto _ : state) {
    system.clear_gradients();
    benchmark::DoNotOptimize(system.micro_batch({subjects, x.data(), y.data()}));
    optimizer.step(cx, system.g(), system.w(), 3e-4);
  }
  double const predicted = double(system_type::bytes(subjects) + 2 * 4 * system_type::size +
                                  2 * 4 * subjects * volume::size + index_t(cx.scratch_bytes())) /
                           1e6;
  double const needed = peak_resident() - base;
  state.counters["base_MB"] = base, state.counters["peak_MB"] = peak_resident();
  state.counters["needed_MB"] = needed, state.counters["predicted_MB"] = predicted;
  state.counters["off"] = needed / predicted - 1;
}

}  // namespace

// the peak of a process only grows: the smaller step runs first; filter for one of them on a small machine
BENCHMARK_TEMPLATE(training_step, neuro_simclr::paper_in_16_gb)
    ->Arg(2)
    ->Iterations(1)
    ->Unit(benchmark::kSecond)
    ->MeasureProcessCPUTime()
    ->UseRealTime();
BENCHMARK_TEMPLATE(training_step, neuro_simclr::paper)
    ->Arg(2)
    ->Iterations(1)
    ->Unit(benchmark::kSecond)
    ->MeasureProcessCPUTime()
    ->UseRealTime();

BENCHMARK_MAIN();
