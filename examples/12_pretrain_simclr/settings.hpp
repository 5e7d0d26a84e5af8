// SPDX-License-Identifier: Apache-2.0
// What can be set of a pretraining run.
#pragma once

#include <functional>
#include <string>

#include "insula/data/recipe_simclr.hpp"
#include "program/scans.hpp"

struct settings {
  program::scan_settings scans{};
  std::string out, method = "simclr", model = "small", rule = "adam";
  insula::index_t steps = 0, epochs = 0, batch = 6, checkpoint_every = 200, keep = 3, log_every = 10,
                  snapshot_every = 0;
  int accumulate = 1, threads = 0, loaders = 1;
  std::uint64_t seed = 42;
  double rate = 0, warm_up = 40.0 / 150, decay = 0.05, clip = 0, held_out = 0.02, temperature = 0.5,
         mask_ratio = 0.75;
  bool resume = false, quiet = false, normalise_patches = false;
  insula::simclr_recipe recipe{};  // a field below 0: as published for the method
  std::function<void()> save_resolved;
  std::string fixed;  // insula::fixed_settings()
  std::function<void(std::string const& saved, std::string const& file)> require_fixed;

  settings() {
    insula::simclr_recipe::fields(recipe, [](char const*, auto& field) { field = -1; });
  }
  bool mae() const { return method == "mae"; }
  bool published() const { return model != "small"; }
  /// The method's chain for the network's grid, with the fields that were set.
  insula::simclr_recipe chain(insula::extent grid) const {
    auto r = insula::for_grid(mae() ? insula::mae_chain() : insula::simclr_chain(), grid);
    std::vector<double> given;
    insula::simclr_recipe::fields(recipe,
                                  [&](char const*, auto const& field) { given.push_back(double(field)); });
    std::size_t at = 0;
    insula::simclr_recipe::fields(r, [&](char const*, auto& field) {
      if (double const v = given[at++]; v >= 0) field = std::remove_cvref_t<decltype(field)>(v);
    });
    return r;
  }
};

/// One run. Gives the exit status.
int pretrain(settings const& s);
