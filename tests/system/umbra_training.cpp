// SPDX-License-Identifier: Apache-2.0
// Training UMBRA: the loss falls, runs do not depend on threads, interruptions or kills, and steps allocate nothing.
#include <cstdlib>
#include <filesystem>
#include <new>
#include <thread>

#include "insula/train/run.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/processes.hpp"
#include "support/tiny_umbra.hpp"

using namespace insula;
using support::tiny_umbra;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif

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

#ifdef SANITIZED
constexpr int kills = 5;  // sanitizers are slow
#else
constexpr int kills = 50;
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
  tiny_umbra s(2, {false, true}, 40);
  double first = 0, last = 0;
  for (index_t t = 0; t < 40; ++t) {
    double const loss = s.train_step(t).find("train/loss")->value;
    if (t < 4) first += loss / 4;
    if (t >= 36) last += loss / 4;
  }
  CHECK(last < 0.5 * first);
}

TEST_CASE("1, 2 and 3 threads give the same run, bit for bit", "[system]") {
  auto const one = weights_after(1, both, 3);
  CHECK(one == weights_after(2, both, 3));
  CHECK(one == weights_after(3, both, 3));
}

TEST_CASE("contrast alone leaves decoder and mask token untouched", "[system]") {
  tiny_umbra s(1, {true, false}, 3);
  std::vector<float> const before(s.core().w(), s.core().w() + support::tiny_core::size);
  for (index_t t = 0; t < 3; ++t) s.train_step(t);
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
  for (index_t t = 0; t < 3; ++t) s.train_step(t);
  long const heap = allocations;
  auto const blocks = host_memory().calls.load();
  for (index_t t = 3; t < 6; ++t) s.train_step(t);
  CHECK(allocations == heap);
  CHECK(host_memory().calls.load() == blocks);
}

TEST_CASE("a resumed run is bit-identical: weights, moments, momentum encoder, queue", "[system]") {
  support::folder const dir;
  REQUIRE(train(dir.path() + "/whole", 6) == 0);
  {
    tiny_umbra s(2, both, 6);
    auto o = options_of(dir.path() + "/halves", 6);
    checkpoint_store store(o.out + "/checkpoints", o.checkpoints);
    for (index_t t = 0; t < 3; ++t) s.train_step(t);
    safetensors_writer w;
    state_map state;
    s.save(w, state);
    w.metadata[state_entry] = pack_state(state);
    (void)store.write(3, w);
  }
  REQUIRE(train(dir.path() + "/halves", 6) == 0);
  CHECK(final_bytes(dir.path() + "/whole") == final_bytes(dir.path() + "/halves"));
}

TEST_CASE("a run that is killed again and again ends equal to one that was not", "[system]") {
  support::folder const dir;
  index_t const steps = kills < 50 ? 12 : 60;  // sanitizers are slow
  REQUIRE(train(dir.path() + "/whole", steps) == 0);
  auto const whole = final_bytes(dir.path() + "/whole");
  random_stream random({11, 12});
  int killed = 0, finished = 0;
  std::string out = dir.path() + "/killed_0";
  auto const finish = [&] {  // by going on from where the last kill left it
    REQUIRE(train(out, steps) == 0);
    CHECK(whole == final_bytes(out));
    out = text(dir.path(), "/killed_", ++finished);
  };
  while (killed < kills) {
    auto const child = support::start_child([&] { return train(out, steps); });
    std::this_thread::sleep_for(std::chrono::milliseconds(random.below(400)));
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
