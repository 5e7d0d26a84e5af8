// SPDX-License-Identifier: Apache-2.0
// What the machine can do at most: multiply-adds from registers, exponentials and GELUs of a cached row, bytes from every level of
// memory.
//   compare_ceilings [THREADS]
// Prints one line of JSON. Every number is the best of many short repetitions: ceilings, not expectations. One thread: processor
// time; more: time on the wall.
#include <algorithm>
#include <cstdlib>
#include <limits>

#include "insula/device/buffer.hpp"
#include "insula/device/cpu.hpp"
#include "insula/kernels/cpu/erf.hpp"
#include "measure.hpp"

namespace {

using namespace insula;
using compare::json;
using pack = simd::pack<float>;
constexpr int lanes = simd::width<float>;

thread_local float volatile sink = 0;  // what it gets is computed

/// The fewest seconds of one call of f(thread) on all threads, over `repetitions` calls.
template <class F>
double fewest_seconds(thread_pool& pool, int repetitions, F const& f) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repetitions; ++i) {
    compare::stopwatch const start;
    pool.run(pool.size(), [&](index_t thread, int) { f(thread); });
    auto const t = compare::since(start);
    best = std::min(best, pool.size() == 1 ? t.cpu : t.wall);
  }
  return best;
}

/// `rounds` multiply-adds of each of so many independent registers. (A function of its own: where it was inlined compilers kept
/// the registers in memory.)
template <int Chains>
[[gnu::noinline]] void multiply_and_add(int rounds) {
  pack const m = simd::broadcast(float(sink) + 0.999f), a = simd::broadcast(float(sink) + 1e-3f);
  pack chain[Chains];
#pragma GCC unroll 24
  for (int i = 0; i < Chains; ++i) chain[i] = simd::broadcast(float(i));
  for (int r = 0; r < rounds; ++r) {
#pragma GCC unroll 24
    for (int i = 0; i < Chains; ++i) chain[i] = simd::fma(chain[i], m, a);
  }
  pack total = simd::zero<float>();
#pragma GCC unroll 24
  for (int i = 0; i < Chains; ++i) total += chain[i];
  sink = simd::sum<float>(total);
}

/// Multiply-adds of independent registers, as many as there are beside two operands: two operations per lane each.
double multiply_adds(thread_pool& pool) {
  constexpr int chains = simd::register_count == 32 ? 24 : 12, rounds = 200000;
  double const seconds = fewest_seconds(pool, 40, [](index_t) { multiply_and_add<chains>(rounds); });
  return 2.0 * lanes * chains * rounds * pool.size() / seconds;
}

/// Exponentials of a cached row, as a softmax takes them.
double exponentials(thread_pool& pool) {
  constexpr int row = 2048, rounds = 400;
  double const seconds = fewest_seconds(pool, 40, [](index_t) {
    alignas(64) float x[row];
    for (int i = 0; i < row; ++i) x[i] = float(i) * -0.01f;
    pack total[4] = {};
    for (int r = 0; r < rounds; ++r)
      for (int i = 0; i < row; i += 4 * lanes)
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) total[k] += simd::exp2<float>(simd::load(x + i + k * lanes));
    sink = simd::sum<float>(total[0] + total[1] + total[2] + total[3]);
  });
  return double(row) * rounds * pool.size() / seconds;
}

/// The same of exact GELUs, N registers at once, so that they hide each other's latency.
template <int N>
double gelus(thread_pool& pool) {
  constexpr int row = 2048, rounds = 400;
  double const seconds = fewest_seconds(pool, 40, [](index_t) {
    alignas(64) float x[row];
    for (int i = 0; i < row; ++i) x[i] = float(i - row / 2) * (4.0f / row);
    pack total[N] = {};
    for (int r = 0; r < rounds; ++r)
      for (int i = 0; i < row; i += N * lanes) {
        pack u[N];
#pragma GCC unroll 8
        for (int k = 0; k < N; ++k) u[k] = simd::load(x + i + k * lanes);
        simd::gelu_all<float>(u);
#pragma GCC unroll 8
        for (int k = 0; k < N; ++k) total[k] += u[k];
      }
    for (int k = 1; k < N; ++k) total[0] += total[k];
    sink = simd::sum<float>(total[0]);
  });
  return double(row) * rounds * pool.size() / seconds;
}

void store_past_caches(float* p, pack v) {
#if defined(INSULA_AVX512)
  _mm512_stream_ps(p, (__m512)v);
#elif defined(INSULA_AVX2)
  _mm256_stream_ps(p, (__m256)v);
#else
  simd::store(p, v);
#endif
}

float read(float const* x, index_t n) {
  constexpr int step = 8;
  pack total[step] = {};
  for (index_t i = 0; i + step * lanes <= n; i += step * lanes)
#pragma GCC unroll 8
    for (int k = 0; k < step; ++k) total[k] += simd::load(x + i + k * lanes);
  for (int k = 1; k < step; ++k) total[0] += total[k];
  return simd::sum<float>(total[0]);
}
void update(float* x, index_t n) {
  pack const m = simd::broadcast(float(sink) * 0 + 1.0f);
  for (index_t i = 0; i < n; i += lanes) simd::store(x + i, simd::load(x + i) * m);
}
void copy(float const* x, float* y, index_t n) {
  for (index_t i = 0; i < n; i += lanes) store_past_caches(y + i, simd::load(x + i));
}
void add(float const* x, float const* z, float* y, index_t n) {
  for (index_t i = 0; i < n; i += lanes) store_past_caches(y + i, simd::load(x + i) + simd::load(z + i));
}
void fill(float* y, index_t n) {
  pack const v = simd::broadcast(float(sink));
  for (index_t i = 0; i < n; i += lanes) store_past_caches(y + i, v);
}

/// Bytes per second of each thread's own block of `bytes`: read, changed in place, added, copied and written past the
/// caches.
json bandwidth(thread_pool& pool, buffer<float, cpu>& memory, index_t bytes) {
  index_t const n = bytes / 4, all = n * pool.size();
  float* const x = memory.data();
  auto const block = [=](index_t thread) { return x + thread * n; };
  int const rounds = int(std::max<index_t>(1, (index_t(4) << 20) / bytes));  // the clock has its own cost
  int const repetitions = bytes < (index_t(8) << 20) ? 30 : 8;
  auto const rate = [&](double bytes_moved, auto const& f) {
    double const seconds = fewest_seconds(pool, repetitions, [&](index_t thread) {
      for (int r = 0; r < rounds; ++r) f(block(thread));
    });
    return bytes_moved * rounds / seconds;
  };
  json line{{"bytes", bytes},
            {"read", rate(4.0 * double(all), [=](float* p) { sink = read(p, n); })},
            {"update", rate(8.0 * double(all), [=](float* p) { update(p, n); })}};
  if (bytes >= (index_t(16) << 20)) {  // below, the caches are faster
    index_t const third = n / 3 / lanes * lanes;
    line["add"] =
        rate(12.0 * double(third * pool.size()), [=](float* p) { add(p, p + third, p + 2 * third, third); });
    line["copy"] = rate(4.0 * double(all), [=](float* p) { copy(p, p + n / 2, n / 2); });
    line["write"] = rate(4.0 * double(all), [=](float* p) { fill(p, n); });
  }
  return line;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    int const threads = argc > 1 ? std::atoi(argv[1]) : 1;
    constexpr index_t sizes[] = {index_t(16) << 10, index_t(256) << 10, index_t(4) << 20,
                                 index_t(16) << 20, index_t(64) << 20,  index_t(256) << 20};
    thread_pool pool(threads);
    buffer<float, cpu> memory(sizes[5] / 4 * threads);
    std::fill(memory.begin(), memory.end(), 1.0f);
    json line{{"program", "compare_ceilings"},
              {"threads", threads},
              {"instructions", simd::instruction_set},
              {"operations_per_s", multiply_adds(pool)},
              {"exponentials_per_s", exponentials(pool)},
              {"gelus_per_s", std::max({gelus<1>(pool), gelus<2>(pool), gelus<4>(pool)})},
              {"memory", json::array()}};
    for (index_t bytes : sizes) line["memory"].push_back(bandwidth(pool, memory, bytes));
    std::printf("%s\n", line.dump().c_str());
    return 0;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}
