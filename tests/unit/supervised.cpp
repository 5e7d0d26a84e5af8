// SPDX-License-Identifier: Apache-2.0
// Learning a number per volume: what each use of the encoder changes, features in place of volumes, and resuming.
#include "insula/train/supervised.hpp"

#include <cmath>

#include "insula/cpu.hpp"
#include "insula/layer/batch_norm.hpp"
#include "insula/layer/conv.hpp"
#include "insula/layer/linear.hpp"
#include "insula/optim/adam.hpp"
#include "insula/train/run.hpp"
#include "insula/train/supervised_trainer.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;

namespace {

using volume_shape = shape<1, 4, 5, 6>;
using encoder = named<"encoder", seq<named<"conv", conv3d<8, cube(3), conv_opts{.pad = cube(1)}>>,
                                     named<"bn", batch_norm<activation::relu>>, global_average>>;
using system_type = supervised<encoder, named<"head", linear<1>>, volume_shape>;
constexpr index_t batch = 4, voxels = volume_shape::size;

/// Batch i: noise, brighter for the class 1. A function of i.
supervised_batch made(index_t i) {
  supervised_batch b;
  b.count = batch;
  random_stream r({5, std::uint64_t(i), 0});
  for (index_t k = 0; k < batch; ++k) {
    b.target.push_back(float(k % 2));
    for (index_t v = 0; v < voxels; ++v) b.input.push_back(float(r.normal() + double(k % 2)));
  }
  return b;
}

/// A system as run_training() takes it.
struct learner {
  explicit learner(encoder_use use, target_kind kind = target_kind::binary, int threads = 1)
      : cx(threads),
        core(cx, kind, use),
        trainer(core,
                adam<float>(system_type::size,
                            {{core.trained_from(), system_type::size - core.trained_from(), 0}}),
                {.rate = 0.02}, [this](double&) -> supervised_batch const& {
                  now = made(next++);
                  return now;
                }) {
    core.initialise(3);
  }
  step_result train_step(index_t t) {
    next = t;
    return trainer.train_step(t);
  }
  index_t step_count() const { return trainer.step_count(); }
  void save(safetensors_writer& w, state_map& state) { trainer.save(w, state); }
  void load(safetensors_file const& file, state_map const& state) { trainer.load(file, state); }
  std::vector<float> part(bool head) {
    auto const* const w = core.w();
    index_t const border = system_type::encoder_size;
    return head ? std::vector<float>(w + border, w + system_type::size) : std::vector<float>(w, w + border);
  }
  std::vector<float> statistics() {
    return {core.state().values, core.state().values + system_type::encoder::states};
  }

  context<cpu> cx;
  system_type core;
  supervised_batch now;
  index_t next = 0;
  supervised_trainer<system_type, adam<float>> trainer;
};

int run_to(learner& l, std::string const& out, index_t steps) {
  run_options o;
  o.out = out, o.events = false, o.console.quiet = true;
  o.loop = {.steps = steps, .checkpoint_every = 2, .log_every = 1, .log_times = false};
  return run_training(l, o);
}

}  // namespace

TEST_CASE("each use of the encoder changes what it says, and nothing else") {
  struct expectation {
    encoder_use use;
    bool weights, statistics;
  };
  for (auto const& e : {expectation{encoder_use::trained, true, true},
                        {encoder_use::frozen, false, false},
                        {encoder_use::frozen_moving, false, true}}) {
    learner l(e.use);
    auto const weights = l.part(false), head = l.part(true), statistics = l.statistics();
    for (index_t t = 0; t < 3; ++t) (void)l.train_step(t);
    CHECK((l.part(false) != weights) == e.weights);
    CHECK((l.statistics() != statistics) == e.statistics);
    CHECK(l.part(true) != head);
    auto const after = l.statistics();
    std::vector<float> y(batch);
    l.core.predict(made(9).input.data(), batch, y.data());
    CHECK(l.statistics() == after);
  }
}

TEST_CASE("a head learns the same from features as from volumes behind a frozen encoder") {
  learner volumes(encoder_use::frozen), features(encoder_use::frozen);
  auto const b = made(0);
  std::vector<float> h(std::size_t(batch * system_type::width));
  features.core.embed(b.input.data(), batch, h.data());
  volumes.core.clear_gradients(), features.core.clear_gradients();
  double const a = volumes.core.learn(b.input.data(), b.target.data(), batch);
  CHECK(a == features.core.learn_from_features(h.data(), b.target.data(), batch));
  for (index_t i = system_type::encoder_size; i < system_type::size; ++i)
    REQUIRE(volumes.core.g()[i] == features.core.g()[i]);
  std::vector<float> y(batch), z(batch);
  volumes.core.predict(b.input.data(), batch, y.data());
  features.core.predict_from_features(h.data(), batch, z.data());
  CHECK(y == z);
  learner moving(encoder_use::frozen_moving);
  CHECK_THROWS_WITH(moving.core.learn_from_features(h.data(), b.target.data(), batch), Contains("frozen"));
}

TEST_CASE("losses are binary cross-entropy of the logit, or the squared error") {
  auto const b = made(1);
  for (auto const kind : {target_kind::binary, target_kind::real}) {
    learner l(encoder_use::frozen, kind);
    std::vector<float> y(batch);
    l.core.predict(b.input.data(), batch, y.data());
    double expected = 0;
    for (index_t k = 0; k < batch; ++k) {
      double const o = y[std::size_t(k)], t = b.target[std::size_t(k)];
      expected +=
          (kind == target_kind::real ? (o - t) * (o - t) : std::log1p(std::exp(o)) - o * t) / double(batch);
    }
    CHECK(l.core.learn(b.input.data(), b.target.data(), batch) == Approx(expected).epsilon(1e-5));
  }
}

TEST_CASE("a resumed training is bit-identical, whatever the use and the number of threads") {
  for (auto const use : {encoder_use::trained, encoder_use::frozen_moving}) {
    support::folder const dir;
    learner whole(use), first(use), second(use, target_kind::binary, 2);
    REQUIRE(run_to(whole, dir / "whole", 5) == 0);
    REQUIRE(run_to(first, dir / "halves", 3) == 0);
    REQUIRE(run_to(second, dir / "halves", 5) == 0);
    CHECK(read_file(dir / "whole/checkpoints/last.safetensors") ==
          read_file(dir / "halves/checkpoints/last.safetensors"));
    safetensors_file const file(dir / "whole/checkpoints/last.safetensors");
    CHECK((file.find("optimizer.first_moment.encoder.conv.weight") != nullptr) ==
          (use == encoder_use::trained));
    CHECK(file.find("optimizer.first_moment.head.weight") != nullptr);
  }
}

TEST_CASE("a loss that is not finite names the first bad tensor") {
  learner l(encoder_use::frozen);
  l.core.w()[system_type::encoder_size] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(l.train_step(0), Contains("step 0") && Contains("head.weight"));
}
