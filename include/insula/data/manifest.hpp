// SPDX-License-Identifier: Apache-2.0
// The one list of scans that everything else starts from, read from a folder, a table or a datalist.
#pragma once

#include "insula/data/manifest_check.hpp"
#include "insula/data/manifest_datalist.hpp"
#include "insula/data/manifest_folder.hpp"
#include "insula/data/manifest_participants.hpp"
#include "insula/data/manifest_table.hpp"

namespace insula {

struct manifest_options {
  bad_files bad = bad_files::skip;  // unreadable header, 4-D, flat, stored twice
  bool headers = true;              // open every file; false: trust the names
};

/// The scans of a folder (read_tree: FOMO, UMBRA, BIDS), of a .csv or .tsv table (read_scan_table) or of a .json datalist
/// (read_datalist), sorted, with numbers. Subject numbers are those of the names ("sub_7" is 7) if these are distinct whole
/// numbers above 0, else 1, 2, ... in sorted order, which `notes` records; never 0, which marks empty places in UMBRA's queue.
/// A folder's participants.tsv gives labels. Bad files are listed in `problems` or refused. Throws error if no scan is left. Headers are read on `pool` if there is one.
inline manifest read_manifest(std::string const& path, manifest_options options = manifest_options{},
                              thread_pool* pool = nullptr) {
  std::error_code e;
  bool const folder = std::filesystem::is_directory(path, e);
  std::string const extension = detail::lower(std::filesystem::path(path).extension().string());
  manifest m;
  if (folder)
    m = read_tree(path), join_participants(m, path);
  else if (extension == ".csv" || extension == ".tsv")
    m = read_scan_table(path);
  else if (extension == ".json")
    m = read_datalist(path);
  else
    fail("read_manifest ", quote(path, 4096), std::filesystem::exists(path, e) ? ": this is" : ": there is",
         " no folder, .csv, .tsv or .json file; name the folder of the data set or a list of its scans");
  if (options.headers) detail::check_headers(m, pool);
  detail::settle(m, options.bad, path);
  if (m.scans.front().subject_number == 0) detail::number_subjects(m), detail::number_sessions(m);
  return m;
}

/// A table of scan counts, contrasts by data sets, with totals, numbers of subjects and sessions, notes and problems.
inline std::string describe(manifest const& m) {
  std::map<std::string, std::map<std::string, index_t>> count;
  std::map<std::string, std::set<std::string>> subjects;
  std::map<std::string, std::set<std::pair<std::string, std::string>>> sessions;
  for (auto const& s : m.scans) {
    for (std::string const& column : {s.dataset, std::string("\xff")}) {  // \xff sorts last: the totals
      ++count[s.sequence][column], ++count["\xff"][column];
      subjects[column].insert(subject_key(s)), sessions[column].insert({subject_key(s), s.session});
    }
  }
  std::vector<std::vector<std::string>> rows{{"contrast"}};
  for (auto const& [column, set] : subjects)
    rows[0].push_back(column == "\xff" ? "all" : column.empty() ? "(none)" : column);
  for (auto const& [sequence, by] : count) {
    rows.push_back({sequence == "\xff" ? "scans" : sequence});
    for (auto const& [column, set] : subjects)
      rows.back().push_back(text(by.count(column) ? by.at(column) : 0));
  }
  rows.push_back({"sessions"}), rows.push_back({"subjects"});
  for (auto const& [column, set] : subjects) {
    rows.back().push_back(text(set.size()));
    (&rows.back())[-1].push_back(text(sessions[column].size()));
  }
  std::string out;
  for (auto const& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      std::size_t width = 0;
      for (auto const& other : rows) width = std::max(width, other[c].size());
      std::string const fill(width - row[c].size(), ' ');
      out += c == 0 ? row[c] + fill : "  " + fill + row[c];
    }
    while (out.ends_with(' ')) out.pop_back();
    out += '\n';
  }
  for (auto const& note : m.notes) out += "note: " + note + '\n';
  if (!m.problems.empty()) out += describe(m.problems) + '\n';
  return out;
}

}  // namespace insula
