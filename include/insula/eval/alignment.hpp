// SPDX-License-Identifier: Apache-2.0
// How far apart embeddings of one patient's contrasts are, and embeddings of different patients.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "insula/eval/embeddings.hpp"

namespace insula {

/// 1 - a.b / (|a| |b|), in double. A vector of length 0 has no direction: the distance is NaN.
inline double cosine_distance(float const* a, float const* b, index_t width) {
  double dot = 0, aa = 0, bb = 0;
  for (index_t i = 0; i < width; ++i) {
    double const x = double(a[i]), y = double(b[i]);
    dot += x * y, aa += x * x, bb += y * y;
  }
  return 1 - dot / (std::sqrt(aa) * std::sqrt(bb));
}

/// The row numbers to compare: all, or the first of every (patient, session, file). In the published tables a file
/// has one row for every pair it is the first view of.
enum class repeated_files { first_only, all };

inline std::vector<index_t> rows_to_compare(embedding_table const& t, repeated_files repeats) {
  std::vector<index_t> rows;
  std::set<std::vector<std::string>> seen;
  for (index_t i = 0; i < t.rows(); ++i) {
    embedding_source const& s = t.sources[std::size_t(i)];
    if (repeats == repeated_files::all || seen.insert({s.patient, s.session, s.file}).second)
      rows.push_back(i);
  }
  return rows;
}

/// Whose scans are compared with each other: all of a patient, or only those of one visit.
enum class scan_group { patient, session };

struct cross_modality_options {
  scan_group group = scan_group::patient;
  repeated_files repeats = repeated_files::first_only;
};

/// Per group the mean cosine distance of all pairs of rows with different modality; then mean and sample standard
/// deviation (n - 1) over the groups with at least one such pair; count = their number. The defaults reproduce
/// UMBRA's published values (arXiv 2511.11311, section 3.1); one group alone has deviation 0.
/// Throws error if the table is inconsistent, no_pairs if no group has two modalities.
inline mean_and_spread cross_modality_distance(embedding_table const& t, cross_modality_options o = {}) {
  check_table(t, "cross_modality_distance");
  std::map<std::pair<std::string, std::string>, std::vector<index_t>> groups;
  for (index_t i : rows_to_compare(t, o.repeats)) {
    embedding_source const& s = t.sources[std::size_t(i)];
    groups[{s.patient, o.group == scan_group::session ? s.session : std::string()}].push_back(i);
  }
  std::vector<double> means;
  for (auto const& [name, rows] : groups) {
    double sum = 0;
    index_t pairs = 0;
    for (std::size_t i = 0; i < rows.size(); ++i)
      for (std::size_t j = i + 1; j < rows.size(); ++j) {
        auto const &a = t.sources[std::size_t(rows[i])], &b = t.sources[std::size_t(rows[j])];
        if (a.modality == b.modality) continue;
        sum += cosine_distance(t.row(rows[i]), t.row(rows[j]), t.width);
        ++pairs;
      }
    if (pairs > 0) means.push_back(sum / double(pairs));
  }
  if (means.empty())
    throw no_pairs(
        text("cross_modality_distance: none of ", groups.size(),
             " groups has scans of two modalities; group by patient, or check the modality column"));
  mean_and_spread r{0, 0, index_t(means.size())};
  for (double m : means) r.mean += m / double(r.count);
  double square = 0;
  for (double m : means) square += (m - r.mean) * (m - r.mean);
  if (r.count > 1) r.deviation = std::sqrt(square / double(r.count - 1));
  return r;
}

/// Cosine distance over all pairs of rows of one modality that belong to different patients: mean and population
/// standard deviation; count = number of pairs. With all rows and modality "t1" these are the values of UMBRA's
/// notebook before it samples 5000 pairs.
/// Throws error if the table is inconsistent, no_pairs if fewer than two patients have the modality.
inline mean_and_spread cross_subject_distance(embedding_table const& t, std::string const& modality,
                                              repeated_files repeats = repeated_files::all) {
  check_table(t, "cross_subject_distance");
  std::vector<index_t> rows = rows_to_compare(t, repeats);
  std::erase_if(rows, [&](index_t i) { return t.sources[std::size_t(i)].modality != modality; });
  std::vector<double> distances;
  for (std::size_t i = 0; i < rows.size(); ++i)
    for (std::size_t j = i + 1; j < rows.size(); ++j)
      if (t.sources[std::size_t(rows[i])].patient != t.sources[std::size_t(rows[j])].patient)
        distances.push_back(cosine_distance(t.row(rows[i]), t.row(rows[j]), t.width));
  if (distances.empty())
    throw no_pairs(text("cross_subject_distance: ", rows.size(), " rows have modality \"", modality,
                        "\", but not of two patients; check the modality's name"));
  mean_and_spread r{0, 0, index_t(distances.size())};
  double sum = 0, square = 0;
  for (double d : distances) sum += d;
  r.mean = sum / double(r.count);
  for (double d : distances) square += (d - r.mean) * (d - r.mean);
  r.deviation = std::sqrt(square / double(r.count));
  return r;
}

}  // namespace insula
