// SPDX-License-Identifier: Apache-2.0
// What participants.tsv says of subjects and sessions, as labels of their scans.
#pragma once

#include "insula/data/manifest_table.hpp"

namespace insula {

namespace detail {

/// Labels by (data set, subject, session); "" for what the table has no column for.
using participant_labels =
    std::map<std::tuple<std::string, std::string, std::string>, std::map<std::string, std::string>>;

inline participant_labels read_participants(std::string const& path) {
  table const t = read_csv(path);
  participant_labels rows;
  for (std::size_t r = 0; r < t.rows(); ++r) {
    std::string dataset, subject, session;
    std::map<std::string, std::string> labels;
    for (auto const& c : t.columns()) {
      if (t.missing(r, c)) continue;
      auto const field = field_of(c);
      std::string const& value = t.cell(r, c);
      if (field == "dataset")
        dataset = value;
      else if (field == "subject")
        subject = without_key(value, "sub");
      else if (field == "session")
        session = without_key(value, "ses");
      else if (field.empty())
        labels[c] = value;
    }
    check(!subject.empty(), path, ":", t.line(r),
          ": the row names no subject; a column participant_id is needed");
    auto& at = rows[{dataset, subject, session}];
    for (auto const& [name, value] : labels) {
      auto const [old, fresh] = at.emplace(name, value);
      check(fresh || old->second == value, path, ":", t.line(r), ": subject ", quote(subject), " has the ",
            name, " ", quote(value), " here and ", quote(old->second), " in a row before");
    }
  }
  return rows;
}

}  // namespace detail

/// Gives the scans of a folder the columns of its participants.tsv (age, sex, group, ...) as labels, joined on
/// participant_id and, where these columns exist, dataset and session_id; "sub-" and "ses-" may be left out. The table lies in
/// the folder or in the folders of the data sets. Scans without a row stay as they are. A table that cannot be read gives a note.
inline void join_participants(manifest& m, std::string const& folder) {
  std::set<std::string> datasets;
  for (auto const& s : m.scans) datasets.insert(s.dataset);
  bool const several = datasets.size() > 1;
  datasets.insert("");
  for (auto const& dataset : datasets) {
    std::string const path = (dataset.empty() ? folder : folder + "/" + dataset) + "/participants.tsv";
    std::error_code e;
    if (!std::filesystem::is_regular_file(path, e)) continue;
    try {
      auto const rows = detail::read_participants(path);
      for (auto& s : m.scans) {
        if (!dataset.empty() && s.dataset != dataset) continue;
        for (std::string const& d : {std::string(), s.dataset}) {
          if (d.empty() && several && dataset.empty()) continue;  // whose subject 1 is it?
          for (std::string const& session : {std::string(), s.session})
            if (auto const at = rows.find({d, s.subject, session}); at != rows.end())
              for (auto const& [name, value] : at->second) s.labels[name] = value;
        }
      }
    } catch (error const& problem) {
      m.notes.push_back(text("participants are left out: ", problem.what()));
    }
  }
}

}  // namespace insula
