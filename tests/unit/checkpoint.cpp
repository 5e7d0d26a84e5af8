// SPDX-License-Identifier: Apache-2.0
// The store of checkpoints: names, links, pruning, broken files, stale temporaries, full disks.
#include "insula/train/checkpoint.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/processes.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;
namespace fs = std::filesystem;

namespace {

using names = std::vector<std::string>;

/// Writes a checkpoint with one tensor of `size` numbers.
std::string put(checkpoint_store& store, index_t step, std::optional<double> score = {},
                std::size_t size = 10) {
  std::vector<float> const values(size, float(step));
  safetensors_writer w;
  w.add("w", {index_t(size)}, values.data());
  return store.write(step, w, score);
}
names steps_in(support::folder const& dir) {
  names n;
  for (auto const s : checkpoint_steps(dir.path())) n.push_back(text(s));
  return n;
}
std::string target(std::string const& link) { return fs::read_symlink(link).string(); }
index_t last_step(support::folder const& dir) {
  auto const last = find_last_checkpoint(dir.path());
  return last ? last->step : -1;
}

}  // namespace

TEST_CASE("names of checkpoints have eight digits or more and are read back") {
  CHECK(checkpoint_name(123) == "step-00000123.safetensors");
  CHECK(checkpoint_name(1234567890) == "step-1234567890.safetensors");
  for (index_t const s : {index_t(0), index_t(7), index_t(99999999), index_t(100000000)})
    CHECK(step_in_name(checkpoint_name(s)) == s);
  for (char const* const n : {"step-123.safetensors", "step-00000123.pt", "step-0000012x.safetensors",
                              "last.safetensors", "step--0000123.safetensors", "step-000000123.safetensors",
                              ".step-00000001.safetensors.9.0.insula-tmp"})
    CHECK_FALSE(step_in_name(n));
}

TEST_CASE("a checkpoint is one file, and last names it") {
  support::folder const dir;
  checkpoint_store store(dir / "run/checkpoints");
  CHECK_FALSE(store.find_last());
  auto const path = put(store, 123, 0.5);
  CHECK(path == dir / "run/checkpoints/step-00000123.safetensors");
  CHECK(target(dir / "run/checkpoints/last.safetensors") == "step-00000123.safetensors");
  auto const last = store.find_last();
  REQUIRE(last);
  CHECK(last->path == path);
  CHECK(last->step == 123);
  CHECK(last->score == 0.5);
  safetensors_file const file(dir / "run/checkpoints/last.safetensors");
  CHECK(file.read<float>("w") == std::vector<float>(10, 123.f));
  CHECK(file.metadata().at("insula.step") == "123");
  CHECK(file.metadata().at("insula.version") == version_text);
}

TEST_CASE("all but the newest few and the best are removed") {
  support::folder const dir;
  checkpoint_store store(dir.path(), {.keep = 2});
  double const scores[] = {5, 3, 4, 6, 7};
  for (int i = 0; i < 5; ++i) put(store, 10 * (i + 1), scores[i]);
  CHECK(steps_in(dir) == names{"20", "40", "50"});
  CHECK(target(dir / "best.safetensors") == checkpoint_name(20));
  CHECK(target(dir / "last.safetensors") == checkpoint_name(50));
  CHECK(store.best_score() == 3.0);
  put(store, 60, 1);
  CHECK(steps_in(dir) == names{"50", "60"});
  CHECK(target(dir / "best.safetensors") == checkpoint_name(60));
}

TEST_CASE("keep 0 removes nothing, keep 1 keeps the newest") {
  support::folder const all, one;
  checkpoint_store a(all.path(), {.keep = 0}), b(one.path(), {.keep = 1});
  for (index_t s = 1; s <= 6; ++s) put(a, s), put(b, s);
  CHECK(steps_in(all).size() == 6);
  CHECK(steps_in(one) == names{"6"});
  CHECK_THAT(message_of([&] { checkpoint_store(all / "x", {.keep = -1}); }), Contains("keep is -1"));
}

TEST_CASE("scores may be better when larger; scores that are not finite do not count") {
  support::folder const dir;
  checkpoint_store store(dir.path(), {.keep = 1, .larger_is_better = true});
  put(store, 1, 0.5);
  put(store, 2, 0.7);
  put(store, 3, std::nan(""));
  put(store, 4, 0.6);
  CHECK(store.best_score() == 0.7);
  CHECK(target(dir / "best.safetensors") == checkpoint_name(2));
  CHECK(steps_in(dir) == names{"2", "4"});
}

TEST_CASE("the best checkpoint is known again by a new store") {
  support::folder const dir;
  {
    checkpoint_store store(dir.path(), {.keep = 1});
    put(store, 1, 2.0), put(store, 2, 1.0), put(store, 3, 3.0);
  }
  fs::remove(dir / "best.safetensors");  // as if the run had been killed between file and link
  checkpoint_store store(dir.path(), {.keep = 1});
  CHECK(store.best_score() == 1.0);
  CHECK(target(dir / "best.safetensors") == checkpoint_name(2));
  put(store, 4, 1.5);
  CHECK(steps_in(dir) == names{"2", "4"});
}

TEST_CASE("a best checkpoint that is written again with a worse score gives its place to the second best") {
  support::folder const dir;
  checkpoint_store store(dir.path());
  put(store, 1, 2.0), put(store, 2, 1.0);
  put(store, 2, 9.0);
  CHECK(store.best_score() == 2.0);
  CHECK(target(dir / "best.safetensors") == checkpoint_name(1));
}

TEST_CASE("going back to an earlier step drops later checkpoints first, never the new one") {
  support::folder const dir;
  checkpoint_store store(dir.path(), {.keep = 2});
  put(store, 20), put(store, 30);
  put(store, 15);
  CHECK(steps_in(dir) == names{"15", "30"});  // 20 was the oldest of what is not continued
  CHECK(last_step(dir) == 15);
  put(store, 16);
  CHECK(steps_in(dir) == names{"15", "16"});
}

TEST_CASE("a missing, dangling or broken last falls back to the highest complete step") {
  support::folder const dir;
  {
    checkpoint_store store(dir.path());
    put(store, 1), put(store, 2), put(store, 3);
  }
  SECTION("missing") {
    fs::remove(dir / "last.safetensors");
    CHECK(last_step(dir) == 3);
  }
  SECTION("dangling") {
    fs::remove(dir / checkpoint_name(3));
    CHECK(last_step(dir) == 2);
  }
  SECTION("cut off") {
    fs::resize_file(dir / checkpoint_name(3), fs::file_size(dir / checkpoint_name(3)) - 1);
    CHECK(last_step(dir) == 2);
  }
  SECTION("empty, and the next one too") {
    fs::resize_file(dir / checkpoint_name(3), 0);
    fs::resize_file(dir / checkpoint_name(2), 0);
    CHECK(last_step(dir) == 1);
  }
  SECTION("a link to itself") {
    fs::remove(dir / "last.safetensors");
    fs::create_symlink("last.safetensors", dir / "last.safetensors");
    CHECK(last_step(dir) == 3);
  }
  SECTION("a file of another program") {
    fs::remove(dir / "last.safetensors");
    safetensors_writer w;
    w.write(dir / "last.safetensors");
    CHECK(last_step(dir) == 3);
  }
}

TEST_CASE("last wins over a higher step") {
  support::folder const dir;
  checkpoint_store store(dir.path());
  put(store, 30), put(store, 10);
  CHECK(last_step(dir) == 10);
}

TEST_CASE("no folder and an empty folder have no checkpoint; one with broken ones only is an error") {
  support::folder const dir;
  CHECK(last_step(dir) == -1);
  CHECK_FALSE(find_last_checkpoint(dir / "no/such"));
  write_file(dir / checkpoint_name(4), "not a checkpoint");
  CHECK_THAT(message_of([&] { (void)find_last_checkpoint(dir.path()); }),
             Contains("none of the 1 checkpoints") && Contains("move them away"));
}

TEST_CASE("temporaries of dead runs are ignored by find_last and removed by the next run") {
  support::folder const dir;
  CHECK(support::end_of(support::start_child([&] {
          checkpoint_store store(dir.path());
          put(store, 1);
          atomic_file half(dir / checkpoint_name(2));
          half.write(std::string(300'000, 'x'));
          fs::create_symlink(checkpoint_name(2), dir / ".last.safetensors.1.insula-tmp");
          std::raise(SIGKILL);
          return 0;
        })) == -SIGKILL);
  CHECK(dir.list().size() == 4);
  CHECK(last_step(dir) == 1);
  checkpoint_store const store(dir.path());
  CHECK(dir.list() == names{"last.safetensors", checkpoint_name(1)});
}

TEST_CASE("a folder belongs to one run at a time") {
  support::folder const dir;
  {
    checkpoint_store const first(dir.path());
    CHECK_THAT(message_of([&] { checkpoint_store second(dir.path()); }),
               Contains("another run") && Contains("folder of its own"));
  }
  CHECK(message_of([&] { checkpoint_store again(dir.path()); }).empty());
}

TEST_CASE("on a full disk the write fails, says what is still good and leaves all old files") {
  support::folder const dir;
  checkpoint_store store(dir.path(), {.keep = 1});
  CHECK_THAT(message_of([&] {
               support::small_disk const full(100'000);
               put(store, 5, {}, 1'000'000);
             }),
             Contains("no complete checkpoint"));
  put(store, 10, 0.5);
  auto const before = dir.list();
  auto const bytes = read_file(dir / checkpoint_name(10));
  {
    support::small_disk const full(100'000);
    auto const said = message_of([&] { put(store, 20, 0.1, 1'000'000); });
    CHECK_THAT(said, Contains("checkpoint of step 20") && Contains("ulimit -f") &&
                         Contains(checkpoint_name(10)) && Contains("(step 10)"));
    CHECK(dir.list() == before);
    CHECK(read_file(dir / checkpoint_name(10)) == bytes);
    CHECK(last_step(dir) == 10);
    CHECK(store.best_score() == 0.5);
  }
  put(store, 30, 0.1, 1'000'000);  // space again
  CHECK(last_step(dir) == 30);
  CHECK(dir.list() == names{"best.safetensors", "last.safetensors", checkpoint_name(30)});
}

TEST_CASE("a step below zero is refused") {
  support::folder const dir;
  checkpoint_store store(dir.path());
  CHECK_THAT(message_of([&] { put(store, -1); }), Contains("-1"));
}
