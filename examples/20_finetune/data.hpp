// SPDX-License-Identifier: Apache-2.0
// Labelled volumes, their parts, and the batches of a training.
#pragma once

#include "insula/data/recipe_simclr.hpp"
#include "insula/data/split_strata.hpp"
#include "insula/train/supervised_trainer.hpp"
#include "settings.hpp"

/// Places of items in labelled_data.
using items = std::vector<insula::index_t>;
struct data_parts {
  items train, validation, test;
};

class labelled_data {
 public:
  labelled_data(settings const& s, insula::extent grid, insula::thread_pool& pool);

  insula::index_t size() const { return insula::index_t(place_.size()); }
  double label(insula::index_t i) const { return row(i).label; }
  std::string const& image(insula::index_t i) const { return row(i).image; }
  std::string const& patient(insula::index_t i) const { return patient_[std::size_t(i)]; }
  insula::index_t rounds() const { return s_.folds > 0 ? s_.folds : 1; }
  /// The parts of a round of cross-validation, or of the one split, with a share of its training patients. Throws error if a
  /// part has no scan, or a part of a classification one class only.
  data_parts parts(insula::index_t round, double fraction) const;
  /// One volume as the network takes it, augmented if a key is given; writes (=) grid.size() voxels.
  void volume(insula::index_t i, insula::random_key const* key, float* y) const;
  std::string described() const;

 private:
  enum class part { split, train, validation, test };  // of the table that a scan is listed in
  struct place {
    std::size_t set;
    insula::index_t row;
    part in;
  };
  insula::listed_scan const& row(insula::index_t i) const {
    auto const& p = place_[std::size_t(i)];
    return sets_[p.set].list().rows[std::size_t(p.row)];
  }
  items of(std::vector<std::string> const& patients) const;
  void check_part(char const* name, items const& part, bool may_be_empty) const;

  settings s_;
  insula::simclr_recipe plain_, augmented_;
  std::vector<insula::masked_scans> sets_;
  std::vector<place> place_;
  std::vector<std::string> patient_;
  std::vector<insula::classed_subject> subjects_;
};
