// SPDX-License-Identifier: Apache-2.0
// Training a masked autoencoder: the loss falls, runs do not depend on threads or interruptions, steps allocate nothing.
#include "insula/train/run.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/tiny_mae.hpp"

using namespace insula;
using support::tiny_mae;

namespace {

std::vector<float> weights_after(int threads, index_t steps) {
  tiny_mae s(threads, 4);
  for (index_t t = 0; t < steps; ++t) s.train_step(t);
  return {s.core().w(), s.core().w() + support::tiny_mae_core<>::size};
}
run_options options_of(std::string const& out, index_t steps) {
  run_options o;
  o.out = out;
  o.loop.steps = steps, o.loop.checkpoint_every = 2, o.loop.log_every = 1, o.loop.log_times = false;
  o.events = false, o.console.quiet = true;
  return o;
}
int train(std::string const& out, int threads, index_t steps) {
  tiny_mae s(threads, 3);
  return run_training(s, options_of(out, steps));
}

}  // namespace

TEST_CASE("a masked autoencoder learns its volumes, raw and normalised", "[system]") {
  for (auto target : {patch_target::raw, patch_target::normalised}) {
    tiny_mae s(2, 30, {.target = target});
    double first = 0, last = 0;
    for (index_t t = 0; t < 120; ++t) {
      double const loss = s.train_step(t).find("train/loss")->value;
      if (t < 4) first += loss / 4;
      if (t >= 116) last += loss / 4;
    }
    INFO("loss " << first << " to " << last);
    CHECK(last < 0.35 * first);
  }
}

TEST_CASE("1, 2 and 3 threads give the same masked autoencoder, bit for bit", "[system]") {
  auto const one = weights_after(1, 3);
  CHECK(one == weights_after(2, 3));
  CHECK(one == weights_after(3, 3));
}

TEST_CASE("the first step has rate 0, tables of positions never change", "[system]") {
  tiny_mae s(1, 4);
  auto const places = support::tiny_mae_core<>::places();
  std::vector<float> const before(s.core().w(), s.core().w() + support::tiny_mae_core<>::size);
  CHECK(s.train_step(0).find("train/lr")->value == 0);
  CHECK(std::equal(before.begin(), before.end(), s.core().w()));
  auto const second = s.train_step(1);
  CHECK(second.find("train/lr")->value == 1e-3);
  CHECK(second.find("train/epoch")->value == 0.25);
  CHECK(second.samples == 6);
  for (auto const& t : places) {
    INFO(t.name);
    CHECK(std::equal(before.begin() + t.offset, before.begin() + t.offset + t.size(),
                     s.core().w() + t.offset) == t.name.ends_with("pos_embed"));
  }
}

TEST_CASE("a step of a masked autoencoder takes no memory once warm", "[system]") {
  tiny_mae s(1, 4);  // one worker sees every task, so its scratch is complete after a step
  for (index_t t = 0; t < 3; ++t) s.train_step(t);
  auto const blocks = host_memory().calls.load();
  for (index_t t = 3; t < 6; ++t) s.train_step(t);
  CHECK(host_memory().calls.load() == blocks);
}

TEST_CASE("a resumed masked autoencoder is bit-identical: weights, moments, counters, records", "[system]") {
  support::folder const dir;
  REQUIRE(train(dir / "whole", 1, 7) == 0);
  REQUIRE(train(dir / "parts", 2, 3) == 0);
  REQUIRE(train(dir / "parts", 1, 7) == 0);
  for (char const* file : {"/checkpoints/last.safetensors", "/metrics.csv"})
    CHECK(read_file(dir.path() + "/whole" + file) == read_file(dir.path() + "/parts" + file));
  safetensors_file const saved(dir.path() + "/whole/checkpoints/last.safetensors");
  CHECK(saved.find("model.decoder_pos_embed") != nullptr);
  CHECK(saved.find("optimizer.first_moment.cls_token") != nullptr);
  CHECK(saved.find("optimizer.first_moment.pos_embed") == nullptr);
}

TEST_CASE("a volume that is not a number ends the step and leaves the weights", "[system]") {
  context<cpu> cx(1);
  support::tiny_mae_core<> core(cx, 3);
  core.initialise(1);
  pretraining_batch b;
  support::make_volumes(0, b);
  b.volume[5] = NAN;
  auto const next = [&](double&) -> pretraining_batch const& { return b; };
  masked_autoencoder_trainer<support::tiny_mae_core<>> trainer(core, tiny_mae::training(2), next);
  std::vector<float> const before(core.w(), core.w() + core.size);
  CHECK_THROWS_WITH(trainer.train_step(1), Catch::Contains("training step 1") && Catch::Contains("nan"));
  CHECK(std::equal(before.begin(), before.end(), core.w()));
}
