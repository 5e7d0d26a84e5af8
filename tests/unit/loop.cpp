// SPDX-License-Identifier: Apache-2.0
// The training loop: resuming bit by bit after stops and kills, exit codes, faults, full disks, allocations.
#include "insula/train/loop.hpp"

#include <cstdlib>
#include <new>

#include "insula/train/run.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/processes.hpp"
#include "support/toy_system.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::end_of;
using support::start_child;
using support::toy_system;

namespace {
std::atomic<index_t> allocations{0};
void* counted(std::size_t size) {
  ++allocations;
  if (void* const p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
}  // namespace

// Not inlined: else GCC may see free() of what operator new gave, and warn.
[[gnu::noinline]] void* operator new(std::size_t size) { return counted(size); }
[[gnu::noinline]] void* operator new[](std::size_t size) { return counted(size); }
[[gnu::noinline]] void* operator new(std::size_t size, std::nothrow_t const&) noexcept {
  ++allocations;
  return std::malloc(size ? size : 1);
}
[[gnu::noinline]] void* operator new[](std::size_t size, std::nothrow_t const&) noexcept {
  ++allocations;
  return std::malloc(size ? size : 1);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::nothrow_t const&) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::nothrow_t const&) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

namespace {

/// What a run says, in a file.
struct hearing {
  support::folder dir;
  descriptor file{::open((dir / "err").c_str(), O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600)};
  std::string said() const { return read_file(dir / "err"); }
};

run_options options(std::string out, hearing const& h, index_t steps = 20, index_t every = 4) {
  run_options o;
  o.out = std::move(out);
  o.loop = {.steps = steps, .checkpoint_every = every, .log_every = 3, .log_times = false};
  o.checkpoints.keep = 2;
  o.console.file = h.file.get();
  return o;
}
/// Bytes of a run that must not depend on how often it was interrupted.
std::string essence(std::string const& out) {
  return read_file(out + "/checkpoints/last.safetensors") + read_file(out + "/metrics.csv") +
         read_file(out + "/metrics.jsonl");
}
index_t last_step(std::string const& out) {
  auto const last = find_last_checkpoint(out + "/checkpoints");
  return last ? last->step : -1;
}

}  // namespace

TEST_CASE("a run trains, records every few steps and the last, and saves the end") {
  support::folder const dir;
  hearing const h;
  toy_system s;
  CHECK(run_training(s, options(dir / "run", h)) == 0);
  CHECK(s.step_count() == 20);
  CHECK(last_step(dir / "run") == 20);
  auto const t = read_csv(dir / "run/metrics.csv");
  CHECK(t.columns() == std::vector<std::string>{"step", "train/loss", "train/gradient_norm"});
  REQUIRE(t.rows() == 7);
  CHECK(t.cell(0, "step") == "3");
  CHECK(t.cell(6, "step") == "20");
  CHECK(*t.number(6, "train/loss") < *t.number(0, "train/loss"));
  CHECK(checkpoint_steps(dir / "run/checkpoints") == std::vector<index_t>{16, 20});
  for (char const* const f : {"env.json", "report.html", "metrics.jsonl"})
    CHECK(std::filesystem::exists(dir / "run/" + f));
  CHECK_THAT(h.said(), Contains("steps 0 to 20") && Contains("step 20/20") && Contains("done: 20 steps"));
}

TEST_CASE("rows tell rates and memory, too, unless switched off") {
  support::folder const dir;
  hearing const h;
  toy_system s;
  auto o = options(dir / "run", h, 3);
  o.loop.log_times = true;
  CHECK(run_training(s, o) == 0);
  auto const t = read_csv(dir / "run/metrics.csv");
  CHECK(*t.number(0, "time/samples_per_second") > 0);
  CHECK(*t.number(0, "time/data_share") == 0);
  CHECK(*t.number(0, "time/seconds_per_step") > 0);
  CHECK(*t.number(0, "time/peak_memory_gib") > 0);
}

TEST_CASE("a resumed run equals an uninterrupted one bit by bit") {
  support::folder const dir;
  hearing const h;
  toy_system whole;
  REQUIRE(run_training(whole, options(dir / "whole", h, 23)) == 0);
  for (index_t const stop : {1, 4, 7, 18}) {
    auto const out = dir / text("part", stop);
    toy_system first(1), second(99);  // weights of another start are replaced when resuming
    REQUIRE(run_training(first, options(out, h, stop)) == 0);
    toy_system third(99);
    {
      checkpoint_store const store(out + "/checkpoints");
      REQUIRE(resume(second, store) == stop);
      CHECK(second.weights() == first.weights());
      CHECK(second.sum() == first.sum());
    }
    REQUIRE(run_training(third, options(out, h, 23)) == 0);
    CHECK(third.weights() == whole.weights());
    CHECK(read_file(out + "/checkpoints/last.safetensors") ==
          read_file(dir / "whole/checkpoints/last.safetensors"));
  }
}

TEST_CASE("after every signal the run is saved at the step's end and goes on to the same end") {
  support::folder const dir;
  hearing const h;
  toy_system whole;
  REQUIRE(run_training(whole, options(dir / "whole", h)) == 0);
  struct row {
    int signal, code;
  };
  for (auto const [signal, code] : {row{SIGTERM, 75}, row{SIGUSR1, 75}, row{SIGINT, 130}}) {
    auto const out = dir / text("run", signal);
    static int raised;
    raised = signal;
    CHECK(end_of(start_child([&] {
            toy_system s;
            s.at_step = [](index_t t) {
              if (t == 9) std::raise(raised);
            };
            return run_training(s, options(out, h));
          })) == code);
    CHECK(last_step(out) == 10);
    CHECK_THAT(h.said(), Contains("saved after step 10 of 20"));
    toy_system s;
    CHECK(run_training(s, options(out, h)) == 0);
    CHECK(essence(out) == essence(dir / "whole"));
  }
}

TEST_CASE("a signal from another process does the same") {
  support::folder const dir;
  hearing const h;
  auto const child = start_child([&] {
    toy_system s;
    s.pause_microseconds = 2000;
    return run_training(s, options(dir / "run", h, 1'000'000, 5));
  });
  for (int i = 0; i < 20'000 && last_step(dir / "run") < 5; ++i) ::usleep(1000);
  ::kill(child, SIGTERM);
  CHECK(end_of(child) == 75);
  CHECK(last_step(dir / "run") >= 5);
}

TEST_CASE("a second SIGINT ends the process at once") {
  support::folder const dir;
  hearing const h;
  CHECK(end_of(start_child([&] {
          toy_system s;
          s.at_step = [](index_t t) {
            if (t == 9) std::raise(SIGINT), std::raise(SIGINT);
          };
          return run_training(s, options(dir / "run", h));
        })) == 130);
  CHECK(last_step(dir / "run") == 8);  // the checkpoint before
}

TEST_CASE("a signal during the last step does not make a finished run unfinished") {
  support::folder const dir;
  hearing const h;
  CHECK(end_of(start_child([&] {
          toy_system s;
          s.at_step = [](index_t t) {
            if (t == 19) std::raise(SIGTERM);
          };
          return run_training(s, options(dir / "run", h));
        })) == 0);
  CHECK(last_step(dir / "run") == 20);
}

TEST_CASE("killed at fifteen random moments, a run ends like one that was left alone") {
  support::folder const dir;
  hearing const h;
  index_t const steps = 600;
  auto o = options(dir / "whole", h, steps, 5);
  o.events = false;
  toy_system whole;
  REQUIRE(run_training(whole, o) == 0);

  o.out = dir / "killed";
  static int pulse[2];  // the child writes a byte at every step
  REQUIRE(::pipe2(pulse, O_NONBLOCK | O_CLOEXEC) == 0);
  random_stream r({20, 1});
  index_t furthest = -1;
  for (int i = 0; i < 15; ++i) {
    auto const child = start_child([&] {
      toy_system s;
      s.pause_microseconds = 1000;
      s.at_step = [](index_t) { (void)!::write(pulse[1], "x", 1); };
      return run_training(s, o);
    });
    char byte = 0;
    if (i % 2)  // some steps after the start, however long that takes; else at any time, the start included
      for (auto wait = 7 + r.below(16); wait > 0; wait -= ::read(pulse[0], &byte, 1) == 1) ::usleep(50);
    ::usleep(useconds_t(r.uniform(0, i % 2 ? 3'000 : 40'000)));
    ::kill(child, SIGKILL);
    CHECK(end_of(child) == -SIGKILL);
    auto const last = last_step(o.out);
    CHECK(last >= furthest);  // nothing that was saved is ever lost
    furthest = last;
    while (::read(pulse[0], &byte, 1) == 1) {
    }
  }
  ::close(pulse[0]), ::close(pulse[1]);
  CHECK(furthest > 0);
  CHECK(furthest < steps);
  toy_system s;
  REQUIRE(run_training(s, o) == 0);
  CHECK(s.weights() == whole.weights());
  CHECK(essence(o.out) == essence(dir / "whole"));
  for (auto const& e : std::filesystem::directory_iterator(o.out + "/checkpoints"))
    CHECK_FALSE(e.path().filename().string().starts_with('.'));
}

TEST_CASE("a loss that is not finite ends the run, names metric and tensor, and saves nothing") {
  support::folder const dir;
  hearing const h;
  toy_system s;
  s.bad_step = 9;
  CHECK(run_training(s, options(dir / "run", h)) == 1);
  CHECK(last_step(dir / "run") == 8);
  CHECK_THAT(h.said(), Contains("error step 10: train/loss is nan") && Contains("layer.weight[3] = nan") &&
                           Contains("step-00000008.safetensors"));
  CHECK(read_file(dir / "run/metrics.csv").find("nan") == std::string::npos);
}

TEST_CASE("skipped steps are borne as often as allowed, never silently") {
  support::folder const dir;
  hearing const h;
  auto o = options(dir / "run", h);
  toy_system strict;
  strict.bad_step = 9, strict.skips = true;
  CHECK(run_training(strict, o) == 1);
  CHECK_THAT(h.said(), Contains("1 steps in a row were skipped, allowed are 0"));
  o.loop.most_skipped = 1, o.out = dir / "lenient";
  toy_system lenient;
  lenient.bad_step = 9, lenient.skips = true;
  CHECK(run_training(lenient, o) == 0);
  CHECK_THAT(h.said(),
             Contains("warning step 10: train/loss is nan") && Contains("step skipped, 1 in a row"));
}

TEST_CASE("an exception of a step ends the run with the message and the checkpoint that is good") {
  support::folder const dir;
  hearing const h;
  toy_system s;
  s.at_step = [](index_t t) {
    if (t == 13) fail("the scan 'x.nii' is broken");
  };
  CHECK(run_training(s, options(dir / "run", h)) == 1);
  CHECK_THAT(h.said(), Contains("error the scan 'x.nii' is broken; the last complete checkpoint is") &&
                           Contains("(step 12)"));
}

TEST_CASE("a full disk ends the run, and the checkpoint before is intact") {
  support::folder const dir;
  hearing const h;
  toy_system s;
  s.ballast_from = 12;
  {
    support::small_disk const full(200'000);
    CHECK(run_training(s, options(dir / "run", h)) == 1);
  }
  CHECK(s.step_count() == 12);
  CHECK(last_step(dir / "run") == 8);
  auto const said = h.said();
  CHECK_THAT(said, Contains("error checkpoint of step 12") && Contains("step-00000008.safetensors") &&
                       Contains("ulimit -f"));
  CHECK(said.find("complete checkpoint") == said.rfind("complete checkpoint"));  // said once
  toy_system again;
  CHECK(run_training(again, options(dir / "run", h)) == 0);  // there is space again
  toy_system whole;
  REQUIRE(run_training(whole, options(dir / "whole", h)) == 0);
  CHECK(again.weights() == whole.weights());
}

TEST_CASE(
    "on request a run goes on when a checkpoint cannot be written, and ends with 1 if the last cannot") {
  support::folder const dir;
  hearing const h;
  auto o = options(dir / "run", h);
  o.loop.stop_if_unsaved = false;
  toy_system s;
  s.ballast_from = 12;
  {
    support::small_disk const full(200'000);
    CHECK(run_training(s, o) == 1);
  }
  CHECK(s.step_count() == 20);
  CHECK(last_step(dir / "run") == 8);
  CHECK_THAT(h.said(),
             Contains("warning checkpoint of step 12") && Contains("warning checkpoint of step 20"));
}

TEST_CASE("evaluations are rows, and an improvement is saved at once and stays") {
  support::folder const dir;
  hearing const h;
  auto o = options(dir / "run", h, 40, 10);
  o.loop.evaluate_every = 2, o.loop.score = "val/loss";
  o.checkpoints.keep = 1;
  toy_system s;
  s.evaluation = [](index_t t) {
    return t == 14 ? std::nan("") : std::abs(double(t) - 12);
  };  // best after step 12
  CHECK(run_training(s, o) == 0);
  CHECK(checkpoint_steps(dir / "run/checkpoints") == std::vector<index_t>{12, 40});
  CHECK(std::filesystem::read_symlink(dir / "run/checkpoints/best.safetensors") == checkpoint_name(12));
  auto const t = read_csv(dir / "run/metrics.csv");
  CHECK(t.has("val/loss"));
  CHECK_THAT(h.said(), Contains("step 14: evaluation: val/loss is nan"));
}

TEST_CASE("a run whose score stays as it is ends when its patience does, stopped in between or not") {
  support::folder const dir;
  hearing const h;
  auto o = options(dir / "run", h, 40, 10);
  o.loop.evaluate_every = 2, o.loop.score = "val/loss", o.loop.patience = 5;
  auto const evaluation = [](index_t t) { return std::abs(double(t) - 12); };  // best after step 12
  toy_system s;
  s.evaluation = evaluation;
  CHECK(run_training(s, o) == 0);
  CHECK(s.step_count() == 22);
  CHECK(last_step(dir / "run") == 22);

  auto part = o;
  part.out = dir / "parts";
  for (index_t const steps : {index_t(16), index_t(40), index_t(40)}) {
    toy_system again;
    again.evaluation = evaluation;
    part.loop.steps = steps;
    CHECK(run_training(again, part) == 0);
    CHECK(again.step_count() == std::min<index_t>(steps, 22));
  }
  CHECK(read_file(dir / "run/checkpoints/last.safetensors") ==
        read_file(dir / "parts/checkpoints/last.safetensors"));

  o.loop.score = "", o.out = dir / "other";
  toy_system other;
  CHECK(run_training(other, o) == 1);
  CHECK_THAT(h.said(), Contains("patience is 5"));
}

TEST_CASE("snapshots are taken every few steps and at the end") {
  support::folder const dir;
  hearing const h;
  auto o = options(dir / "run", h);
  o.loop.snapshot_every = 8;
  toy_system s;
  CHECK(run_training(s, o) == 0);
  for (char const* const step : {"00000008", "00000016", "00000020"})
    CHECK(std::filesystem::exists(dir / text("run/images/toy_weights-", std::string_view(step), ".png")));
  CHECK_THAT(read_file(dir / "run/report.html"), Contains("toy_weights after step 16"));
}

TEST_CASE("a run is not overwritten by one that starts afresh") {
  support::folder const dir;
  hearing const h;
  toy_system first, second, third;
  auto o = options(dir / "run", h);
  REQUIRE(run_training(first, o) == 0);
  auto const before = essence(dir / "run");
  o.resume = false;
  CHECK(run_training(second, o) == 1);
  CHECK_THAT(h.said(), Contains("holds a run of 20 steps"));
  CHECK(essence(dir / "run") == before);
  checkpoint_store store(dir / "run/checkpoints");
  run_log log(dir / "other", {.console = {.file = h.file.get()}});
  CHECK(run_loop(third, o.loop, log, store) == 1);
  CHECK_THAT(h.said(), Contains("would overwrite it"));
}

TEST_CASE("a run that is complete ends at once, and options that cannot work are refused") {
  support::folder const dir;
  hearing const h;
  auto o = options(dir / "run", h);
  toy_system first, second;
  REQUIRE(run_training(first, o) == 0);
  auto const before = essence(dir / "run");
  CHECK(run_training(second, o) == 0);
  CHECK(essence(dir / "run") == before);
  o.loop.log_every = 0;
  toy_system third;
  CHECK(run_training(third, o) == 1);
  CHECK_THAT(h.said(), Contains("log_every 0"));
  o.loop.log_every = 1, o.loop.score = "val/loss";
  toy_system fourth;
  CHECK(run_training(fourth, o) == 1);
  CHECK_THAT(h.said(), Contains("evaluate_every is 0"));
}

TEST_CASE("between rows the loop allocates nothing") {
  support::folder const dir;
  hearing const h;
  static std::array<index_t, 64> at{};
  toy_system s;
  s.at_step = [](index_t t) { at[std::size_t(t)] = allocations.load(); };
  auto o = options(dir / "run", h, 64, 32);
  o.loop.log_every = 16;
  CHECK(run_training(s, o) == 0);
  for (std::size_t t = 2; t + 1 < 64; ++t)  // the first step shows a line
    if ((t + 1) % 16 != 0) CHECK(at[t + 1] - at[t] == 0);
  CHECK(at[16] > at[15]);  // the count counts
}
