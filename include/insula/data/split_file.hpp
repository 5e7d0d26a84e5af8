// SPDX-License-Identifier: Apache-2.0
// Splits of subjects in a file, and the scans of a part.
#pragma once

#include "insula/data/fingerprint.hpp"
#include "insula/data/scan.hpp"
#include "insula/data/split.hpp"
#include "insula/io/atomic_file.hpp"
#include "insula/io/csv.hpp"

namespace insula {

/// Writes "subject<tab>part" lines, in the order of the split, atomically. Throws error if a subject is in two parts.
inline void write_split(std::string const& path, subject_split const& s) {
  check_no_overlap(s);
  std::string out = "subject\tpart\n";
  auto const add = [&](std::vector<std::string> const& subjects, char const* part) {
    for (auto const& subject : subjects) out += csv_cell(subject, '\t') + '\t' + part + '\n';
  };
  add(s.train, "train"), add(s.validation, "validation"), add(s.test, "test");
  write_file(path, out);
}

/// Sixteen digits that change with any subject's part, whatever the order: to be recorded with a run.
inline std::string split_fingerprint(subject_split const& s) {
  std::string all;
  for (auto subjects : {s.train, s.validation, s.test}) {
    std::sort(subjects.begin(), subjects.end());
    for (auto const& subject : subjects) all += subject + '\n';
    all += '\f';
  }
  return hexadecimal(fingerprint(all));
}

/// Reads such a file. Throws error for other parts, for a subject in two parts or twice in one, naming the line.
inline subject_split read_split(std::string const& path) {
  table const t = read_csv(path);
  std::size_t const subject = t.column("subject"), part = t.column("part");
  std::map<std::string, std::size_t> row_of;
  subject_split s;
  for (std::size_t r = 0; r < t.rows(); ++r) {
    std::string const &name = t.cell(r, subject), &p = t.cell(r, part);
    auto const [first, fresh] = row_of.emplace(name, r);
    check(fresh, path, ":", t.line(r), ": subject ", quote(name), " is in ", p, " and, in line ",
          t.line(first->second), ", in ", t.cell(first->second, part),
          ": the parts would leak; put every subject into one part, once");
    check(p == "train" || p == "validation" || p == "test", path, ":", t.line(r), ": the part is ", quote(p),
          ", it must be train, validation or test");
    (p == "train" ? s.train : p == "test" ? s.test : s.validation).push_back(name);
  }
  return s;
}

/// The scans whose subject (subject_key) is in a part. Throws error if a subject of the manifest is in two parts or in none.
inline manifest scans_of(manifest const& m, subject_split const& split, split_part part) {
  std::vector<std::string> subjects;
  for (auto const& s : m.scans) subjects.push_back(subject_key(s));
  auto const parts = part_of_items(split, subjects);
  manifest chosen;
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (parts[i] == part) chosen.scans.push_back(m.scans[i]);
  return chosen;
}

}  // namespace insula
