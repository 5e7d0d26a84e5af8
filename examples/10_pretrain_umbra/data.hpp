// SPDX-License-Identifier: Apache-2.0
// From a data folder to batches: manifest, split, pairs, preprocessed volumes, augmentation.
#pragma once

#include <functional>
#include <map>

#include "insula/data/pairs.hpp"
#include "insula/data/split.hpp"
#include "insula/train/pretraining_batch.hpp"
#include "settings.hpp"

/// The usable scans of a folder, table or datalist, preprocessed once.
class scan_set {
 public:
  scan_set(settings const& s, std::string const& folder, insula::thread_pool* pool = nullptr);
  insula::manifest scans;
  /// A copy of a scan after preprocessing.
  insula::volume read(insula::scan const& s) const { return read_(place_.at(s.path)); }

 private:
  std::function<insula::volume(insula::index_t)> read_;
  std::map<std::string, insula::index_t> place_;
};

std::string preprocessing_json(settings const& s);
/// Throws error naming the first step that differs.
void require_preprocessing(std::string const& json, settings const& s);

/// Scans in two parts by subject, and what one training item is.
class umbra_data {
 public:
  umbra_data(settings const& s, insula::index_t crop, insula::thread_pool& pool);

  insula::manifest const& all() const { return set_.scans; }
  insula::manifest const& held_out() const { return held_out_; }
  insula::manifest const& training() const { return train_; }
  std::size_t pairs() const { return pairs_.size(); }
  std::size_t singles() const { return singles_.size(); }
  insula::volume read(insula::scan const& s) const { return set_.read(s); }

  /// Fills batch number i: a function of (seed, i) alone. In combined modes every batch takes pairs and single volumes.
  void make(insula::index_t i, insula::pretraining_batch& b) const;
  /// What is trained on, in numbers and as a fingerprint of subjects, sessions, contrasts and file names: another folder may
  /// hold the same scans.
  std::string identity() const;
  /// Contrasts by data sets, problems, and what is trained on.
  std::string described() const;
  /// Writes manifest.tsv and split.tsv into the run's folder.
  void write_records() const;

 private:
  void split();

  settings s_;
  insula::index_t crop_;
  scan_set set_;
  insula::manifest train_, held_out_;
  insula::subject_split parts_;
  std::vector<insula::scan_pair> pairs_;
  std::vector<insula::index_t> singles_;
};
