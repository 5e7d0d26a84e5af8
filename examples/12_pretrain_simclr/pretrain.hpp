// SPDX-License-Identifier: Apache-2.0
// One pretraining run, whatever the method: data, checkpoints, records.
#pragma once

#include <cstdio>
#include <filesystem>

#include "data.hpp"
#include "insula/cpu.hpp"
#include "insula/data/loader.hpp"
#include "insula/data/pipeline_json.hpp"
#include "insula/train/run.hpp"

/// System, trainer and data together: what run_training() asks for. A method adds evaluate() and snapshot().
template <class System, class Trainer>
class pretraining_run {
 public:
  using batches = insula::loader<insula::pretraining_batch>;

  /// `more`: further arguments of the trainer.
  template <class Optimisation, class... More>
  pretraining_run(settings const& s, pretraining_data const& data, insula::extent grid, System& system,
                  Optimisation o, More... more)
      : s_(s),
        data_(data),
        grid_(grid),
        system_(system),
        trainer_(
            system, o, [this](double& waited) -> insula::pretraining_batch const& { return next(waited); },
            std::move(more)...) {
    system_.initialise(s.seed);
  }

  insula::step_result train_step(insula::index_t t) { return trainer_.train_step(t); }
  insula::index_t step_count() const { return trainer_.step_count(); }
  void save(insula::safetensors_writer& w, insula::state_map& state) {
    trainer_.save(w, state);
    state["settings"] = s_.fixed, state["data"] = data_.identity();
    state["preprocessing"] = insula::to_json(program::preprocessing(s_.scans, grid_));
  }
  void load(insula::safetensors_file const& file, insula::state_map const& state) {
    s_.require_fixed(insula::state_text(state, "settings"), file.path());
    auto const& then = insula::state_text(state, "data");
    insula::check(then == data_.identity(), file.path(), ": the fingerprint of scans and patients was ", then,
                  ", now it is ", data_.identity(), ": resume with the same scans");
    trainer_.load(file, state);
  }

 protected:
  /// The loader starts with the first batch asked for, so a resumed run goes on where the checkpoint was made.
  insula::pretraining_batch const& next(double& waited) {
    if (!batches_)
      batches_ = std::make_unique<batches>(
          [this](insula::index_t i, insula::pretraining_batch& b) { data_.make(i, b); },
          insula::loader_options{.threads = s_.loaders, .first = trainer_.step_count() * s_.accumulate});
    double const before = batches_->waited();
    auto const& b = batches_->next();
    waited += batches_->waited() - before;
    return b;
  }

  settings const& s_;
  pretraining_data const& data_;
  insula::extent grid_;
  System& system_;
  Trainer trainer_;
  std::unique_ptr<batches> batches_;
};

/// Makes the run with `make(settings, data, context)` and trains it. Exit status. Steps and epochs are settled here.
template <class Make>
int pretrain(settings s, insula::extent grid, Make make) {
  int const threads = s.threads > 0 ? s.threads : insula::usable_threads();
  insula::context<insula::cpu> cx(threads);
  pretraining_data const data(s, grid, cx.pool);
  if (s.steps == 0) s.steps = s.epochs * data.steps_per_epoch();
  std::filesystem::create_directories(s.out);
  if (!s.quiet)
    std::fprintf(stderr, "%s, %s\n%s\n", s.method.c_str(), s.model.c_str(), data.described().c_str());
  s.save_resolved();
  data.write_records();
  return make(s, data, cx, [&](auto& run, bool evaluates) {
    insula::run_options o;
    o.out = s.out, o.resume = s.resume, o.title = "Pretraining: " + s.method + ", " + s.model;
    o.loop.steps = s.steps, o.loop.checkpoint_every = s.checkpoint_every, o.loop.log_every = s.log_every;
    if (evaluates) {
      o.loop.evaluate_every = std::max<insula::index_t>(1, data.steps_per_epoch());
      if (s.mae()) o.loop.snapshot_every = s.snapshot_every > 0 ? s.snapshot_every : s.steps;
    }
    o.checkpoints.keep = int(s.keep);
    o.environment.threads = threads, o.environment.kernels = insula::simd::instruction_set;
    o.console.quiet = s.quiet;
    return insula::run_training(run, o);
  });
}
