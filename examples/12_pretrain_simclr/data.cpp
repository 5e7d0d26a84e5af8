// SPDX-License-Identifier: Apache-2.0
// From scans to batches of augmented views.
#include "data.hpp"

#include <set>

pretraining_data::pretraining_data(settings const& s, insula::extent grid, insula::thread_pool& pool)
    : s_(s), recipe_(s.chain(grid)), plain_(insula::for_grid(insula::plain_chain(), grid)) {
  insula::check_recipe(recipe_);
  scans_ = std::make_unique<insula::masked_scans>(
      program::open_scans(program::scans_of(s.scans.data, s.scans), s.scans, grid, &pool));
  auto const patients = insula::patients_of(scans_->list());
  if (s.held_out > 0)
    parts_ = insula::patient_split(patients, s.held_out);
  else
    parts_.train = insula::unique_subjects(patients);
  std::set<std::string> const out(parts_.validation.begin(), parts_.validation.end());
  for (auto& rows : insula::rows_by_patient(scans_->list())) {
    if (out.count(patients[std::size_t(rows[0])]))
      held_out_.insert(held_out_.end(), rows.begin(), rows.end());
    else
      rows_.push_back(std::move(rows));
  }
  patients_ = insula::index_t(rows_.size());
  insula::check(patients_ >= s.batch * s.accumulate, s.scans.data, ": ", patients_,
                " patients are left for training, but a step takes ", s.batch * s.accumulate,
                ": lower batch, or add patients");
}

void pretraining_data::view(insula::index_t row, insula::index_t epoch, std::uint32_t number,
                            float* y) const {
  static thread_local insula::simclr_scratch scratch;
  auto const v = scans_->open(row);
  insula::simclr_view(v->image, v->mask, recipe_, insula::view_key(s_.seed, epoch, row, number), scratch, y);
}

void pretraining_data::make(insula::index_t i, insula::pretraining_batch& b) const {
  insula::index_t const voxels = recipe_.size().size(), per_epoch = steps_per_epoch() * s_.accumulate,
                        epoch = i / per_epoch;
  insula::patient_order order(rows_, {s_.seed, 0xc0, 0});
  b.pairs = s_.mae() ? 0 : s_.batch, b.singles = s_.mae() ? s_.batch : 0;
  for (auto* v : {&b.view1, &b.view2}) v->resize(std::size_t(b.pairs * voxels));
  b.volume.resize(std::size_t(b.singles * voxels));
  for (insula::index_t k = 0; k < s_.batch; ++k) {
    auto const row = order.at(epoch * patients_ + i % per_epoch * s_.batch + k).row;
    if (s_.mae()) {
      view(row, epoch, 0, b.volume.data() + k * voxels);
    } else {
      view(row, epoch, 0, b.view1.data() + k * voxels);
      view(row, epoch, 1, b.view2.data() + k * voxels);
    }
  }
}

void pretraining_data::plain(insula::index_t row, float* y) const {
  static thread_local insula::simclr_scratch scratch;
  auto const v = scans_->open(row);
  insula::simclr_view(v->image, v->mask, plain_, {}, scratch, y);
}

std::string pretraining_data::described() const {
  return insula::text(scans_->list().path, ": ", insula::describe(scans_->list()), "; training: ", patients_,
                      " patients, ", steps_per_epoch(), " steps per epoch; held out: ", held_out_.size(),
                      " scans");
}

std::string pretraining_data::identity() const {
  std::string all;
  for (auto const& r : scans_->list().rows)
    all += insula::text(r.patient, '\t', std::filesystem::path(r.image).filename().string(), '\n');
  return insula::hexadecimal(insula::fingerprint(all)) + " " + insula::split_fingerprint(parts_);
}

void pretraining_data::write_records() const { insula::write_split(s_.out + "/split.tsv", parts_); }
