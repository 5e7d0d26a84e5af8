// SPDX-License-Identifier: Apache-2.0
// What a run is judged by: masked reconstruction error against predicting the mean, and the paper's alignment numbers.
#pragma once

#include <cmath>
#include <optional>

#include "data.hpp"
#include "insula/data/recipe_umbra.hpp"
#include "insula/eval/alignment.hpp"

/// Numbers of one set of scans. None: there is nothing to measure (no such pair, or no masked objective).
struct judgement {
  std::optional<insula::mean_and_spread> cross_modality, cross_subject;
  std::optional<double> reconstruction;  // masked squared error over that of the scan's mean
  insula::index_t scans = 0, subjects = 0;
  insula::embedding_table embeddings;
};

/// Embeds every scan of a set (pad, centre crop; read(scan) gives the preprocessed volume) and compares; with `masked`, reconstructs it under one fixed mask as well.
template <class System, class Read>
judgement judge(System& system, Read read, insula::manifest const& set, insula::index_t crop, bool masked,
                settings const& s) {
  judgement j;
  insula::embedding_table table;
  table.width = System::embedding_width;
  insula::umbra_recipe recipe;
  recipe.crop = crop;
  std::vector<float> embedding(std::size_t(table.width)), out(std::size_t(crop * crop * crop));
  double error = 0, reference = 0;
  for (auto const& scan : set.scans) {
    auto const x = insula::umbra_mae_validation(read(scan), recipe);
    system.embed(x.view.voxels.data(), 1, embedding.data());
    table.values.insert(table.values.end(), embedding.begin(), embedding.end());
    table.sources.push_back({insula::subject_key(scan), scan.session, scan.path, scan.sequence});
    if (!masked) continue;
    system.masks().draw({s.mask_low, s.mask_high},
                        {s.seed, insula::mix(0xe0, std::uint64_t(table.rows())), 9});
    system.reconstruct(x.view.voxels.data(), 1, system.masks().tokens(), out.data());
    double mean = 0;
    for (float v : x.recon.voxels) mean += double(v) / double(out.size());
    for (std::size_t i = 0; i < out.size(); ++i)
      if (system.masks().voxels()[i]) {
        double const e = double(out[i]) - double(x.recon.voxels[i]), m = mean - double(x.recon.voxels[i]);
        error += e * e, reference += m * m;
      }
  }
  j.scans = insula::index_t(set.scans.size());
  j.subjects = insula::index_t(insula::subjects_of(set).size());
  if (masked) j.reconstruction = error / reference;
  try {
    j.cross_modality = insula::cross_modality_distance(table);
  } catch (insula::no_pairs const&) {
  }
  try {
    j.cross_subject = insula::cross_subject_distance(table, "t1");
  } catch (insula::no_pairs const&) {
  }
  j.embeddings = std::move(table);
  return j;
}

/// A dash stands for what there was nothing to measure of, and for nothing else: numbers that are none are shown.
inline std::string number(std::optional<double> v, int digits = 4) {
  if (!v) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, *v);
  return text;
}
inline std::string with_spread(std::optional<insula::mean_and_spread> const& v) {
  return v ? number(v->mean) + " +- " + number(v->deviation) : "-";
}
