// SPDX-License-Identifier: Apache-2.0
// What can be set of a pretraining run.
#pragma once

#include <functional>
#include <string>

#include "insula/data/pipeline.hpp"
#include "insula/data/recipe_umbra.hpp"

struct settings {
  std::string data, out, cache = "memory", compare, also, model = "small", mode = "mcl+mim",
                         bad_files = "skip", split, init, best_by;
  insula::index_t steps = 0, batch = 4, mae_batch = 0, checkpoint_every = 200, keep = 3, log_every = 10,
                  evaluate_every = 0, snapshot_every = 0, rank_every = 0;
  int accumulate = 1, threads = 0, loaders = 1;
  std::uint64_t seed = 42;
  double rate = 1e-4, rate_minimum = 1e-5, warm_up = 0.02, decay = 0.01, clip = 10, held_out = 0.02,
         spacing = 1, mask_low = 0.5, mask_high = 0.75, momentum_start = 0.996, momentum_end = 0.999,
         alpha_start = 0.1, alpha_end = 1;
  bool resume = false, quiet = false, init_partial = false;
  std::function<void()> save_resolved;  // writes the resolved configuration into `out`
  std::string fixed;                    // insula::fixed_settings(), for the checkpoint
  std::function<void(std::string const& saved, std::string const& file)> require_fixed;
  insula::umbra_recipe recipe{};  // augmentation; its crop is the model's

  bool contrastive() const { return mode != "mim"; }
  bool masked() const { return mode.find("mim") != std::string::npos; }
  bool pairs_of_contrasts() const { return mode.rfind("mcl", 0) == 0; }
};

/// Reorient to RAS, resample, crop to the brain, clip to the 0.5 and 99.5 percentiles, z-score over the brain.
inline insula::pipeline preprocessing(settings const& s) {
  namespace p = insula::preprocess;
  insula::pipeline all{{p::reorient{}}};
  if (s.spacing > 0) all.steps.push_back(p::resample{s.spacing, s.spacing, s.spacing});
  all.steps.push_back(p::crop_brain{});
  all.steps.push_back(p::clip{});
  all.steps.push_back(p::z_score{});
  return all;
}

/// One run. Gives the exit status.
int pretrain(settings const&);
