// SPDX-License-Identifier: Apache-2.0
// What a run is judged by: masked reconstruction error against predicting the mean, and the paper's alignment numbers.
#pragma once

#include <cmath>
#include <limits>

#include "data.hpp"
#include "insula/data/recipe_umbra.hpp"
#include "insula/eval/alignment.hpp"

/// Numbers of one set of scans. NaN: not measured (no such pair, or no masked objective).
struct judgement {
  double cross_modality = std::numeric_limits<double>::quiet_NaN(), cross_modality_spread = cross_modality;
  double cross_subject = cross_modality, cross_subject_spread = cross_modality;
  double reconstruction = cross_modality;  // masked squared error over that of the scan's mean
  insula::index_t scans = 0, subjects = 0;
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
  if (masked && reference > 0) j.reconstruction = error / reference;
  auto const measure = [&](auto f, double& mean, double& spread) {
    try {
      auto const r = f();
      mean = r.mean, spread = r.deviation;
    } catch (insula::error const&) {  // no pair of that kind in this set: stays NaN and prints as a dash
    }
  };
  measure([&] { return insula::cross_modality_distance(table); }, j.cross_modality, j.cross_modality_spread);
  measure([&] { return insula::cross_subject_distance(table, "t1"); }, j.cross_subject,
          j.cross_subject_spread);
  return j;
}

inline std::string number(double v, int digits = 4) {
  if (!std::isfinite(v)) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, v);
  return text;
}
inline std::string with_spread(double mean, double spread) {
  return std::isfinite(mean) ? number(mean) + " +- " + number(spread) : "-";
}
