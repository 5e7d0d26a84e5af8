// SPDX-License-Identifier: Apache-2.0
// From scans to batches of augmented views: one scan of every patient per epoch.
#pragma once

#include "insula/data/split_file.hpp"
#include "insula/train/pretraining_batch.hpp"
#include "settings.hpp"

class pretraining_data {
 public:
  pretraining_data(settings const& s, insula::extent grid, insula::thread_pool& pool);

  insula::index_t steps_per_epoch() const { return patients_ / (s_.batch * s_.accumulate); }
  /// Rows of the held-out patients.
  std::vector<insula::index_t> const& held_out() const { return held_out_; }
  std::string const& name(insula::index_t row) const { return scans_->list().rows[std::size_t(row)].image; }

  /// Fills batch number i, a function of (seed, i) alone: two views of s.batch patients, or one for the masked autoencoder.
  void make(insula::index_t i, insula::pretraining_batch& b) const;
  /// One augmented view, a function of (seed, epoch, row, number); writes (=) grid.size() voxels.
  void view(insula::index_t row, insula::index_t epoch, std::uint32_t number, float* y) const;
  /// A volume as it is, normalised; writes (=) grid.size() voxels.
  void plain(insula::index_t row, float* y) const;

  std::string described() const;
  /// Changes with any scan and patient, wherever the files lie.
  std::string identity() const;
  void write_records() const;

 private:
  settings s_;
  insula::simclr_recipe recipe_, plain_;
  std::unique_ptr<insula::masked_scans> scans_;
  insula::subject_split parts_;
  std::vector<std::vector<insula::index_t>> rows_;  // of each training patient
  std::vector<insula::index_t> held_out_;
  insula::index_t patients_ = 0;
};
