// SPDX-License-Identifier: Apache-2.0
// What can be set of a fine-tuning run.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "program/scans.hpp"

struct settings {
  program::scan_settings scans{};
  std::string train, validation, test, label = "label", task = "classification", method = "finetune",
                                       network = "resnet", model = "small", init, probe_norm = "moving",
                                       augment = "published", out, name, target, optimizer = "adam";
  std::vector<std::string> compare;
  std::vector<double> fractions{1};
  insula::index_t seeds = 5, epochs = 0, batch = 6, folds = 0, patience = 0, log_every = 10,
                  replicates = 2000;
  int threads = 0, loaders = 1;
  std::uint64_t split_seed = 0;
  double part_validation = 0.2, part_test = 0.2, rate = 1e-4, rate_minimum = 0, warm_up = 0, decay = 0,
         layer_decay = 1, clip = 0, drop_path = 0;
  bool resume = false, quiet = false, standardise = false, cosine = false, init_partial = false;
  std::function<void()> save_resolved;
  std::string fixed;  // insula::fixed_settings()
  std::function<void(std::string const& saved, std::string const& file)> require_fixed;

  bool classification() const { return task == "classification"; }
  bool probe() const { return method == "probe"; }
  /// A frozen encoder's features are the same in every epoch.
  bool features() const { return probe() && (probe_norm == "fixed" || network == "vit"); }
  /// The augmentation of the supervised baselines; probes, and SimCLR's fine-tuning, have none (section 4 of the paper).
  bool augments() const {
    return augment == "supervised" ||
           (augment == "published" && (method == "scratch" || (method == "finetune" && network == "vit")));
  }
  std::string metric() const { return classification() ? "AUC" : "MAE"; }
};
