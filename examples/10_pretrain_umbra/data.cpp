// SPDX-License-Identifier: Apache-2.0
// From a data folder to batches.
#include "data.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>

#include "insula/data/cache.hpp"
#include "insula/data/epoch_order.hpp"
#include "insula/data/fingerprint.hpp"
#include "insula/data/manifest.hpp"
#include "insula/data/pipeline_json.hpp"
#include "insula/data/split_file.hpp"

scan_set::scan_set(settings const& s, std::string const& folder, insula::thread_pool* pool) {
  auto const bad = s.bad_files == "skip" ? insula::bad_files::skip : insula::bad_files::refuse;
  auto const found = insula::read_manifest(folder, {.bad = bad}, pool);
  insula::cache_options o;
  o.bad = bad;
  if (s.cache == "memory") {
    auto const cache = std::make_shared<insula::memory_cache>(found, preprocessing(s), o, pool);
    scans = cache->contents();
    read_ = [cache](insula::index_t i) { return cache->read(i); };
  } else {
    o.folder = s.cache;
    if (!s.quiet)
      std::fprintf(stderr, "%s\n",
                   insula::describe(insula::plan_cache(found, preprocessing(s), o, pool)).c_str());
    auto const cache = std::make_shared<insula::volume_cache>(found, preprocessing(s), o, pool);
    scans = cache->contents();
    read_ = [cache](insula::index_t i) { return cache->read(i); };
  }
  for (std::size_t i = 0; i < scans.scans.size(); ++i) place_[scans.scans[i].path] = insula::index_t(i);
}

std::string preprocessing_json(settings const& s) { return insula::to_json(preprocessing(s)); }
void require_preprocessing(std::string const& json, settings const& s) {
  insula::require_same(insula::pipeline_from_json(json), preprocessing(s));
}

umbra_data::umbra_data(settings const& s, insula::index_t crop, insula::thread_pool& pool)
    : s_(s), crop_(crop), set_(s, s.data, &pool) {
  s_.recipe.crop = crop;
  split();
  if (s.contrastive())
    pairs_ = insula::contrastive_pairs(
        train_, s.pairs_of_contrasts() ? insula::pair_mode::modality_pairs : insula::pair_mode::regular);
  if (s.masked())
    singles_ = insula::reconstruction_items(
        train_, s.contrastive() ? insula::reconstruction_scans::exclude_contrastive_pairs
                                : insula::reconstruction_scans::all);
}

void umbra_data::split() {
  auto const subjects = insula::subjects_of(all());
  if (!s_.split.empty())
    parts_ = insula::read_split(s_.split);
  else if (s_.held_out > 0)
    parts_ = insula::patient_split(subjects, s_.held_out);
  else
    parts_.train = subjects;
  insula::check_no_overlap(parts_);
  std::set<std::string> const out(parts_.validation.begin(), parts_.validation.end());
  for (auto const& scan : all().scans)
    (out.count(insula::subject_key(scan)) ? held_out_ : train_).scans.push_back(scan);
  insula::check(!train_.scans.empty(), s_.data, ": no subject is left for training: ", subjects.size(),
                " subjects, held_out ", s_.held_out, "; lower held_out or add subjects");
}

void umbra_data::make(insula::index_t i, insula::pretraining_batch& b) const {
  std::size_t const voxels = std::size_t(crop_ * crop_ * crop_);
  b.pairs = pairs_.empty() ? 0 : s_.batch;
  b.singles = singles_.empty() ? 0 : s_.contrastive() && s_.mae_batch > 0 ? s_.mae_batch : s_.batch;
  for (auto* v : {&b.view1, &b.view2, &b.recon1, &b.recon2}) v->resize(std::size_t(b.pairs) * voxels);
  for (auto* v : {&b.volume, &b.recon}) v->resize(std::size_t(b.singles) * voxels);
  b.patient.resize(std::size_t(b.pairs)), b.session.resize(std::size_t(b.pairs));
  auto const copy = [&](insula::volume const& x, std::vector<float>& to, insula::index_t at) {
    std::copy(x.voxels.begin(), x.voxels.end(), to.begin() + at * insula::index_t(voxels));
  };
  if (b.pairs > 0) {
    insula::epoch_order order(insula::index_t(pairs_.size()), {s_.seed, 0xc0});
    for (insula::index_t j = 0; j < b.pairs; ++j) {
      insula::index_t const n = i * b.pairs + j;
      auto const& p = pairs_[std::size_t(order.at(n).item)];
      auto const x = insula::umbra_contrastive(read(train_.scans[std::size_t(p.first)]),
                                               read(train_.scans[std::size_t(p.second)]), s_.recipe,
                                               {s_.seed, insula::mix(0xc1, std::uint64_t(n))});
      copy(x.view1, b.view1, j), copy(x.view2, b.view2, j), copy(x.recon1, b.recon1, j),
          copy(x.recon2, b.recon2, j);
      b.patient[std::size_t(j)] = p.subject, b.session[std::size_t(j)] = p.session;
    }
  }
  if (b.singles > 0) {
    insula::epoch_order order(insula::index_t(singles_.size()), {s_.seed, 0xd0});
    for (insula::index_t j = 0; j < b.singles; ++j) {
      insula::index_t const n = i * b.singles + j;
      auto const& scan = train_.scans[std::size_t(singles_[std::size_t(order.at(n).item)])];
      auto const x = insula::umbra_mae(read(scan), s_.recipe, {s_.seed, insula::mix(0xd1, std::uint64_t(n))});
      copy(x.view, b.volume, j), copy(x.recon, b.recon, j);
    }
  }
}

std::string umbra_data::identity() const {
  std::string names;
  for (auto const& s : train_.scans)
    names += insula::text(insula::subject_key(s), '\t', s.session, '\t', s.sequence, '\t',
                          std::filesystem::path(s.path).filename().string(), '\n');
  return insula::text(train_.scans.size(), " scans, ", pairs_.size(), " pairs, ", singles_.size(),
                      " single volumes, fingerprint ", insula::hexadecimal(insula::fingerprint(names)));
}

std::string umbra_data::described() const {
  return insula::describe(all()) +
         insula::text("training: ", train_.scans.size(), " scans, ", pairs_.size(), " pairs, ",
                      singles_.size(), " single volumes; held out: ", held_out_.scans.size(), " scans");
}

void umbra_data::write_records() const {
  insula::write_manifest(s_.out + "/manifest.tsv", all());
  insula::write_split(s_.out + "/split.tsv", parts_);
}
