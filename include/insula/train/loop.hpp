// SPDX-License-Identifier: Apache-2.0
// The training loop: steps, records, checkpoints, evaluation, and an orderly end for whatever reason.
#pragma once

#include "insula/train/checkpoint.hpp"
#include "insula/train/log.hpp"
#include "insula/train/rates.hpp"
#include "insula/train/signals.hpp"
#include "insula/train/state.hpp"

namespace insula {

/// What the loop needs of a system: networks, optimiser, data and their state, all its own. Accumulation of gradients and
/// clipping happen inside train_step.
///   train_step(t)    optimiser step number t, from 0: a function of t and of the saved state alone
///   save / load      all of the state, to and from one checkpoint; a resumed run is then equal bit by bit
///   step_count()     optimiser steps done; grows by one with every train_step, skipped ones included
/// Optional:
///   step_result evaluate(t)                  after t steps; must not change the state
///   void snapshot(t, run_log&)               pictures of the state, likewise
///   std::string first_not_finite()           the first bad tensor, asked for when a metric is not finite; "" if none
template <class System>
concept trainable = requires(System& s, index_t t, safetensors_writer& w, state_map& out,
                             safetensors_file const& file, state_map const& in) {
  { s.train_step(t) } -> std::same_as<step_result>;
  s.save(w, out);
  s.load(file, in);
  { s.step_count() } -> std::convertible_to<index_t>;
};

struct loop_options {
  index_t steps = 0;                ///< optimiser steps of the whole run, resumed ones included
  index_t checkpoint_every = 1000;  ///< steps; the end and every stop are saved anyway; 0: only these
  index_t log_every = 10;           ///< steps between rows of metrics.csv
  index_t evaluate_every = 0;       ///< steps between evaluations, the last step included; 0: never
  index_t snapshot_every = 0;       ///< steps between snapshots, the last step included; 0: never
  std::string score{};   ///< metric of evaluate() that ranks checkpoints; an improvement is saved at once
  index_t patience = 0;  ///< evaluations without a better score after which the run ends; 0: never
  bool log_times =
      true;  ///< rows also tell samples/s, data wait and memory; without, equal runs give equal files
  bool stop_if_unsaved = true;  ///< a checkpoint that cannot be written ends the run; false: warn and go on
  int most_skipped = 0;  ///< skipped steps in a row that are borne with a warning; one more ends the run
};

/// Loads the last checkpoint of the store, if there is one. Gives its step, or -1 for none. Throws error.
template <trainable System>
index_t resume(System& system, checkpoint_store const& store) {
  auto const last = store.find_last();
  if (!last) return -1;
  safetensors_file const file(last->path);
  system.load(file, unpack_state(file));
  check(index_t(system.step_count()) == last->step, last->path, ": it was saved after ", last->step,
        " steps, but the system counts ", index_t(system.step_count()),
        " after loading it; load() must restore the count");
  return last->step;
}

namespace detail {

template <class S>
concept evaluable = requires(S& s, index_t t) {
  { s.evaluate(t) } -> std::same_as<step_result>;
};
template <class S>
concept depictable = requires(S& s, index_t t, run_log& log) {
  s.snapshot(t, log);
};
template <class S>
concept diagnosable = requires(S& s) {
  { s.first_not_finite() } -> std::convertible_to<std::string>;
};

template <trainable System>
class training_loop {
 public:
  training_loop(System& system, loop_options const& options, run_log& log, checkpoint_store& store)
      : system_(system), options_(options), log_(log), store_(store) {}

  int run() {
    int code = 1;
    try {
      start();
      code = work();
      log_.flush();
    } catch (std::exception const& e) {
      log_.terminal().end_progress();
      auto const what = std::string_view(e.what());
      log_.terminal().error(what, told_ ? std::string() : "; " + store_.still_good());
      code = 1;
    }
    log_.terminal().end_progress();
    return code;
  }

 private:
  index_t done() const { return index_t(system_.step_count()); }
  /// The score has not become better for as long as the options bear.
  bool settled() const {
    auto const best = store_.best_step();
    return options_.patience > 0 && best && done() - *best >= options_.patience * options_.evaluate_every;
  }
  bool due(index_t every) const { return every > 0 && (done() % every == 0 || done() == options_.steps); }

  void start() {
    check(options_.steps >= 0 && options_.checkpoint_every >= 0 && options_.log_every >= 1,
          "run_loop: steps is ", options_.steps, ", checkpoint_every ", options_.checkpoint_every,
          ", log_every ", options_.log_every,
          "; steps and checkpoint_every must be at least 0, log_every at least 1");
    check(evaluable<System> || options_.evaluate_every == 0, "run_loop: evaluate_every is ",
          options_.evaluate_every, ", but the system has no evaluate()");
    check(options_.score.empty() || options_.evaluate_every > 0, "run_loop: checkpoints are to be ranked by ",
          quote(options_.score), ", but evaluate_every is 0");
    check(options_.patience >= 0 && (options_.patience == 0 || !options_.score.empty()),
          "run_loop: patience is ", options_.patience, "; it must be at least 0, and needs a score");
    check(depictable<System> || options_.snapshot_every == 0, "run_loop: snapshot_every is ",
          options_.snapshot_every, ", but the system has no snapshot()");
    auto const last = store_.find_last();
    check(!last || last->step == 0 || done() > 0, "run_loop: ", quote(store_.folder(), 4096),
          " has a checkpoint of step ", last ? last->step : 0,
          ", but the system starts at step 0 and would overwrite it; resume or choose an empty folder");
    if (last && last->step == done()) saved_ = done();
    row_.reserve(step_result::most + 8);
    log_.terminal().info("steps ", done(), " to ", options_.steps, ", records in ", log_.folder());
  }

  int work() {
    while (done() < options_.steps && !settled()) {
      if (stop_.reason() != stop_reason::none) return leave();
      score_.reset(), row_.clear();
      step();
      bool better = false;
      if (due(options_.evaluate_every)) better = evaluate();
      if (!row_.empty()) log_.append(done(), row_);
      if (due(options_.snapshot_every)) snapshot();
      if (better || (options_.checkpoint_every > 0 && done() % options_.checkpoint_every == 0)) save();
    }
    save();
    if (saved_ != done()) return 1;
    log_.terminal().end_progress();
    log_.terminal().info("done: ", done(), " steps");
    return 0;
  }

  /// Saves and gives the exit status of a run that is asked to stop.
  int leave() {
    save();
    if (saved_ != done()) return 1;
    log_.terminal().end_progress();
    log_.terminal().info(std::string_view(stop_.name()), ": saved after step ", done(), " of ",
                         options_.steps, "; start again to go on");
    return exit_code(stop_.reason());
  }

  void step() {
    index_t const t = done();
    clock_.start();
    step_result const r = system_.train_step(t);
    clock_.stop(r);
    check(done() == t + 1, "run_loop: train_step(", t, ") left the step count at ", done(), "; it must be ",
          t + 1);
    if (r.skipped || r.first_not_finite())
      judge(r);
    else
      skipped_ = 0;
    auto const& l = clock_.lately;
    log_.terminal().progress({.step = done(),
                              .steps = options_.steps,
                              .values = r.values(),
                              .samples_per_second = l.samples_per_second(),
                              .data_share = l.data_share(),
                              .seconds_left = double(options_.steps - done()) * l.seconds_per_step()});
    if (done() % options_.log_every == 0 || done() == options_.steps) record(r);
  }

  /// Ends the run at values that are not finite, or bears a step that the system skipped.
  void judge(step_result const& r) {
    auto const* const bad = r.first_not_finite();
    auto what = text("step ", done(), ": ");
    what +=
        bad ? text(std::string_view(bad->name), " is ", bad->value) : std::string("the system skipped it");
    if constexpr (diagnosable<System>)
      if (std::string const tensor = system_.first_not_finite(); !tensor.empty())
        what += "; the first bad tensor is " + tensor;
    if (!r.skipped)
      fail(what,
           "; the run ends and nothing of this step is saved: lower the learning rate or check the input");
    if (++skipped_ > options_.most_skipped)
      fail(what, "; ", skipped_, " steps in a row were skipped, allowed are ", options_.most_skipped);
    log_.terminal().warning(what, "; step skipped, ", skipped_, " in a row, allowed are ",
                            options_.most_skipped);
  }

  void record(step_result const& r) {
    for (auto const& v : r.values()) row_.push_back({v.name, v.value});
    if (options_.log_times) {
      auto const& s = clock_.since_row;
      row_.push_back({"time/samples_per_second", s.samples_per_second()});
      row_.push_back({"time/data_share", s.data_share()});
      row_.push_back({"time/seconds_per_step", s.seconds_per_step()});
      row_.push_back({"time/peak_memory_gib", peak_memory() / 0x1p30});
    }
    clock_.since_row = {};
  }

  /// Adds the evaluation to the row; true if its score is the best so far.
  bool evaluate() {
    if constexpr (evaluable<System>) {
      step_result const r = system_.evaluate(done());
      for (auto const& v : r.values()) row_.push_back({v.name, v.value});
      if (auto const* const bad = r.first_not_finite())
        log_.terminal().warning("step ", done(), ": evaluation: ", std::string_view(bad->name), " is ",
                                bad->value);
      if (options_.score.empty()) return false;
      auto const* const score = r.find(options_.score);
      check(score != nullptr, "run_loop: checkpoints are to be ranked by ", quote(options_.score),
            ", but evaluate() gives no such metric");
      if (!std::isfinite(score->value)) return false;
      score_ = score->value;
      return !store_.best_score() || store_.better(*score_, *store_.best_score());
    }
    return false;
  }

  void snapshot() {
    if constexpr (depictable<System>) system_.snapshot(done(), log_);
  }

  /// One checkpoint of this step, unless there is one.
  void save() {
    if (saved_ == done()) return;
    safetensors_writer w;
    state_map state;
    system_.save(w, state);
    w.metadata[state_entry] = pack_state(state);
    try {
      (void)store_.write(done(), w, score_);
      saved_ = done();
      log_.flush();
    } catch (error const& e) {
      if (options_.stop_if_unsaved) {
        told_ = true;  // the message says which checkpoint is good
        throw;
      }
      log_.terminal().warning(std::string_view(e.what()));
    }
  }

  System& system_;
  loop_options options_;
  run_log& log_;
  checkpoint_store& store_;
  stop_request stop_;
  work_clock clock_;
  std::vector<metric> row_;
  std::optional<double> score_;
  index_t saved_ = -1;  // step of the newest checkpoint that holds this run's state
  int skipped_ = 0;     // in a row
  bool told_ = false;
};

}  // namespace detail

/// Trains until options.steps steps are done, from system.step_count() on. Gives the exit status of the program:
///   0    all steps done and saved
///   1    an error, told on standard error together with the checkpoint that is still good
///   75   SIGTERM or SIGUSR1: saved at the step's end, to be started again
///   130  SIGINT: saved at the step's end; a second SIGINT ends the process at once
/// A metric of a step that is not finite ends the run (see step_result::skipped for the exception). Between rows of the
/// records the loop allocates nothing.
template <trainable System>
int run_loop(System& system, loop_options const& options, run_log& log, checkpoint_store& store) {
  return detail::training_loop<System>(system, options, log, store).run();
}

}  // namespace insula
