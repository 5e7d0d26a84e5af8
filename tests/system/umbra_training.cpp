// SPDX-License-Identifier: Apache-2.0
// Training UMBRA: the loss falls, runs do not depend on threads, interruptions or kills, and steps allocate nothing.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <thread>

#include "insula/train/run.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/processes.hpp"
#include "support/sanitizers.hpp"
#include "support/tiny_umbra.hpp"

using namespace insula;
using support::tiny_umbra;

namespace {
std::atomic<long> allocations{0};
}

#ifndef SANITIZED  // the sanitizers count on their own operator new
[[gnu::noinline]] void* operator new(std::size_t n) {
  ++allocations;
  if (void* p = std::malloc(n ? n : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t n, std::nothrow_t const&) noexcept {
  ++allocations;
  return std::malloc(n ? n : 1);
}
[[gnu::noinline]] void operator delete(void* p, std::nothrow_t const&) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

namespace {

constexpr objectives both{true, true};

std::vector<float> weights_after(int threads, objectives on, index_t steps) {
  tiny_umbra s(threads, on, steps);
  for (index_t t = 0; t < steps; ++t) s.train_step(t);
  std::vector<float> all(s.core().w(), s.core().w() + support::tiny_core::size);
  all.insert(all.end(), s.core().keys().keys(),
             s.core().keys().keys() + s.core().keys().length * s.core().keys().width);
  if (on.contrastive)
    all.insert(all.end(), s.core().momentum().data(),
               s.core().momentum().data() + s.core().momentum().size());
  return all;
}

/// Steps of the runs below, and how often one is killed: sanitizers are slow, most of all the one of threads.
#if defined(THREAD_SANITIZED)
constexpr index_t learning = 8, few = 2, killed_run = 4, kills = 3;
constexpr double falls_to = 0.75;  // 0.55 is reached
#elif defined(SANITIZED)
constexpr index_t learning = 40, few = 3, killed_run = 12, kills = 5;
constexpr double falls_to = 0.5;
#else
constexpr index_t learning = 40, few = 3, killed_run = 60, kills = 50;
constexpr double falls_to = 0.5;
#endif

run_options options_of(std::string const& out, index_t steps) {
  run_options o;
  o.out = out;
  o.loop.steps = steps, o.loop.checkpoint_every = 2, o.loop.log_every = 1, o.loop.log_times = false;
  o.events = false, o.console.quiet = true;
  return o;
}
int train(std::string const& out, index_t steps) {
  tiny_umbra s(1, both, steps);
  return run_training(s, options_of(out, steps));
}
std::string final_bytes(std::string const& out) { return read_file(out + "/checkpoints/last.safetensors"); }

}  // namespace

TEST_CASE("masked reconstruction learns the volumes", "[system]") {
  tiny_umbra s(2, {false, true}, learning);
  index_t const ends = std::min(index_t(4), learning / 4);
  double first = 0, last = 0;
  for (index_t t = 0; t < learning; ++t) {
    double const loss = s.train_step(t).find("train/loss")->value;
    if (t < ends) first += loss / double(ends);
    if (t >= learning - ends) last += loss / double(ends);
  }
  CHECK(last < falls_to * first);
}

TEST_CASE("1, 2 and 3 threads give the same run, bit for bit", "[system]") {
  auto const one = weights_after(1, both, few);
  CHECK(one == weights_after(2, both, few));
  CHECK(one == weights_after(3, both, few));
}

TEST_CASE("contrast alone leaves decoder and mask token untouched", "[system]") {
  tiny_umbra s(1, {true, false}, few);
  std::vector<float> const before(s.core().w(), s.core().w() + support::tiny_core::size);
  for (index_t t = 0; t < few; ++t) s.train_step(t);
  for (auto const& p : support::tiny_core::autoencoder_places()) {
    bool const reached = p.name.rfind("encoder.", 0) == 0 && !p.name.ends_with("mask_token");
    INFO(p.name);
    bool same = true;
    for (index_t i = 0; i < p.size(); ++i)
      same = same && before[std::size_t(p.offset + i)] == s.core().w()[p.offset + i];
    CHECK(same == !reached);
  }
}

TEST_CASE("a step allocates nothing once warm", "[system]") {
  tiny_umbra s(2, both, 20);
  for (index_t t = 0; t < few; ++t) s.train_step(t);
  long const heap = allocations;
  auto const blocks = host_memory().calls.load();
  for (index_t t = few; t < 2 * few; ++t) s.train_step(t);
  CHECK(allocations == heap);
  CHECK(host_memory().calls.load() == blocks);
}

TEST_CASE("a resumed run is bit-identical: weights, moments, momentum encoder, queue", "[system]") {
  support::folder const dir;
  REQUIRE(train(dir.path() + "/whole", 2 * few) == 0);
  {
    tiny_umbra s(2, both, 2 * few);
    auto o = options_of(dir.path() + "/halves", 2 * few);
    checkpoint_store store(o.out + "/checkpoints", o.checkpoints);
    for (index_t t = 0; t < few; ++t) s.train_step(t);
    safetensors_writer w;
    state_map state;
    s.save(w, state);
    w.metadata[state_entry] = pack_state(state);
    (void)store.write(few, w);
  }
  REQUIRE(train(dir.path() + "/halves", 2 * few) == 0);
  CHECK(final_bytes(dir.path() + "/whole") == final_bytes(dir.path() + "/halves"));
}

TEST_CASE("a run that is killed again and again ends equal to one that was not", "[system]") {
  support::folder const dir;
  index_t const steps = killed_run;
  auto const start = std::chrono::steady_clock::now();
  REQUIRE(train(dir.path() + "/whole", steps) == 0);
  // A run is killed within the time of four steps, in which it writes two checkpoints.
  auto const took = std::chrono::steady_clock::now() - start;
  auto const within = std::chrono::duration_cast<std::chrono::microseconds>(took * 4 / steps).count();
  auto const whole = final_bytes(dir.path() + "/whole");
  random_stream random({11, 12});
  index_t killed = 0, finished = 0;
  std::string out = dir.path() + "/killed_0";
  auto const finish = [&] {  // by going on from where the last kill left it
    REQUIRE(train(out, steps) == 0);
    CHECK(whole == final_bytes(out));
    out = text(dir.path(), "/killed_", ++finished);
  };
  while (killed < kills) {
    auto const child = support::start_child([&] { return train(out, steps); });
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(within)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) {
      ++killed;
    } else {  // it was done before the signal: the next run is killed
      REQUIRE(WEXITSTATUS(status) == 0);
      finish();
    }
  }
  finish();
}
