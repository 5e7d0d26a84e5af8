// SPDX-License-Identifier: Apache-2.0
// A whole training run in one folder: resume, environment, records, checkpoints, report.
#pragma once

#include "insula/train/environment.hpp"
#include "insula/train/loop.hpp"
#include "insula/train/run_report.hpp"

namespace insula {

struct run_options {
  std::string out{};   ///< folder of the run, created if missing
  bool resume = true;  ///< go on from the last checkpoint in it; false: refuse a folder that has one
  loop_options loop{};
  checkpoint_options checkpoints{};
  environment_options environment{};
  bool events = true;  ///< TensorBoard event files
  console_options console{};
  std::string title{"Training run"};  ///< of the report
};

/// Trains the system in options.out and gives the exit status of run_loop(). The folder then holds checkpoints/, metrics.csv,
/// metrics.jsonl, event files, env.json, images/ and report.html; put config.resolved.toml there by config::save(). A run that
/// was stopped or killed goes on by calling this again with the same options; it ends equal to one that was not. Errors are
/// told on standard error, not thrown.
template <trainable System>
int run_training(System& system, run_options const& options) {
  console terminal(options.console);
  try {
    stop_request const stop;  // signals count from here on, also while a checkpoint loads
    checkpoint_store store(options.out + "/checkpoints", options.checkpoints);
    auto const last = options.resume ? std::nullopt : store.find_last();
    if (last && last->step > 0)
      fail("run_training: ", quote(options.out, 4096), " holds a run of ", last->step,
           " steps; resume it or choose an empty folder");
    auto const step = options.resume ? resume(system, store) : index_t(-1);
    if (step >= 0) terminal.info("resuming after step ", step);
    write_environment(options.out, options.environment);
    int code = 1;
    {
      run_log log(options.out, {.resumes_at = step, .events = options.events, .console = options.console});
      code = run_loop(system, options.loop, log, store);
    }
    try {
      write_run_report(options.out, options.title);
    } catch (std::exception const& e) {
      terminal.warning("the report could not be written: ", std::string_view(e.what()));
    }
    return code;
  } catch (std::exception const& e) {
    terminal.error(std::string_view(e.what()));
    return 1;
  }
}

}  // namespace insula
