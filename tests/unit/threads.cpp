// SPDX-License-Identifier: Apache-2.0
// The pool of workers: every task once, errors, denormal numbers, and scratch memory.
#include "insula/device/threads.hpp"

#include <limits>
#include <set>

#include "insula/device/cpu.hpp"
#include "support/catch.hpp"

using namespace insula;

namespace {
/// Half of the smallest normal number; 0 where denormals are flushed.
float half_of_smallest() {
  float volatile x = std::numeric_limits<float>::min();
  return x * 0.5f;
}
}  // namespace

TEST_CASE("every task runs once, for any number of tasks and workers, again and again") {
  for (int threads : {1, 2, 5}) {
    thread_pool pool(threads);
    CHECK(pool.size() == threads);
    for (int round = 0; round < 200; ++round)
      for (index_t tasks : {0, 1, 2, 7, 100}) {
        std::vector<std::atomic<int>> ran(std::size_t(tasks) + 1);
        std::atomic<bool> worker_exists{true};
        pool.run(tasks, [&](index_t t, int worker) {
          ++ran[std::size_t(t)];
          if (worker < 0 || worker >= threads) worker_exists = false;
        });
        bool once = ran[std::size_t(tasks)] == 0;
        for (std::size_t t = 0; t < std::size_t(tasks); ++t) once = once && ran[t] == 1;
        REQUIRE((once && worker_exists));
      }
  }
}

TEST_CASE("the exception of a task reaches the caller, and the pool goes on") {
  for (int threads : {1, 3}) {
    thread_pool pool(threads);
    CHECK_THROWS_WITH(pool.run(50, [](index_t t, int) { check(t != 20, "task ", t, " failed"); }),
                      "task 20 failed");
    std::atomic<int> ran{0};
    pool.run(50, [&](index_t, int) { ++ran; });
    CHECK(ran == 50);
  }
}

#if defined(__SSE2__)
TEST_CASE("workers flush denormal numbers, and the caller's mode comes back") {
  REQUIRE(half_of_smallest() > 0);
  for (int threads : {1, 3}) {
    thread_pool pool(threads);
    std::atomic<int> kept{0};
    pool.run(64, [&](index_t, int) { kept += half_of_smallest() != 0; });
    CHECK(kept == 0);
    CHECK(half_of_smallest() > 0);
  }
}
#endif

TEST_CASE("a pool has 1 to 1024 threads") {
  CHECK_THROWS_WITH(thread_pool(0), Catch::Contains("threads is 0, it must be 1 to 1024"));
  CHECK_THROWS_WITH(thread_pool(1025), Catch::Contains("threads is 1025"));
  CHECK(usable_threads() >= 1);
}

TEST_CASE("scratch memory is aligned, disjoint, and taken from the system only once") {
  scratch_stack s;
  auto const use = [&] {
    auto const start = s.here();
    auto* a = s.take<double>(1000);
    auto const inner = s.here();
    auto* b = s.take<std::byte>(3 << 20);
    CHECK(reinterpret_cast<std::uintptr_t>(a) % cache_line == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(b) % cache_line == 0);
    CHECK((b >= reinterpret_cast<std::byte*>(a + 1000) || b + (3 << 20) <= reinterpret_cast<std::byte*>(a)));
    s.release(inner);
    CHECK(s.take<std::byte>(1) != nullptr);
    s.release(start);
  };
  use(), use();
  auto const calls = host_memory().calls.load();
  auto const bytes = s.bytes();
  for (int i = 0; i < 5; ++i) use();
  CHECK(host_memory().calls.load() == calls);
  CHECK(s.bytes() == bytes);
}

TEST_CASE("scratch memory has room behind a large block for what little follows") {
  scratch_stack s;
  auto const start = s.here();
  auto const calls = host_memory().calls.load();
  auto* const large = s.take<std::byte>(64 << 20);
  auto* const little = s.take<std::byte>(1 << 20);
  CHECK(host_memory().calls.load() == calls + 1);
  CHECK(little == large + (64 << 20));
  s.release(start);
  CHECK(s.take<std::byte>(64 << 20) == large);  // nothing was merged
}

TEST_CASE("workers wake beside the caller, and may run anywhere afterwards") {
  int const processors = usable_threads();
  if (processors < 2) return;
  thread_pool pool(2);
  cpu_set_t allowed;
  REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  int together = 0;
  for (int round = 0; round < 100; ++round) {
    if (round % 2 == 0) {  // long enough for the worker to fall asleep
      timespec const pause{0, 2'000'000};
      nanosleep(&pause, nullptr);
    }
    std::atomic<int> begun{0};
    std::atomic<bool> free{true};
    int processor[2] = {-1, -1};
    pool.run(2, [&](index_t, int worker) {
      cpu_set_t mine;
      free = free && sched_getaffinity(0, sizeof mine, &mine) == 0 && CPU_EQUAL(&mine, &allowed);
      processor[worker] = sched_getcpu();
      ++begun;
      detail::poll([&] { return begun == 2; });
    });
    CHECK(free);
    together += processor[0] >= 0 && processor[0] == processor[1];
  }
  CHECK(together < 40);  // where others are busy it is for the system to decide, one by one
}
