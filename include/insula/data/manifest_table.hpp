// SPDX-License-Identifier: Apache-2.0
// Manifests as tables: reading lists of scans from CSV and TSV, writing manifest.tsv.
#pragma once

#include <set>

#include "insula/data/manifest_folder.hpp"
#include "insula/io/atomic_file.hpp"
#include "insula/io/csv.hpp"

namespace insula {

namespace detail {

/// The names under which tables in use know a column.
struct column_names {
  std::string_view field;
  std::array<std::string_view, 7> known;
};
inline constexpr std::array<column_names, 8> manifest_columns{{
    {"path", {"path", "image_path", "image", "file", "filename", "filepath", "img"}},
    {"mask", {"mask", "mask_path", "brain_mask", "", "", "", ""}},
    {"dataset", {"dataset", "site", "cohort", "", "", "", ""}},
    {"subject", {"subject", "subject_id", "participant_id", "patient", "patient_id", "sub", "participant"}},
    {"session", {"session", "session_id", "ses", "visit", "", "", ""}},
    {"sequence", {"sequence", "modality", "contrast", "seq", "", "", ""}},
    {"subject_number", {"subject_number", "", "", "", "", "", ""}},
    {"session_number", {"session_number", "", "", "", "", "", ""}},
}};

/// The field that a column of this name fills; "" for a label.
inline std::string_view field_of(std::string_view column) {
  std::string const l = lower(column);
  for (auto const& c : manifest_columns)
    for (auto const k : c.known)
      if (!k.empty() && k == l) return c.field;
  return {};
}

/// "7" of "sub_7", "sub-7" and "7".
inline std::string without_key(std::string const& s, std::string_view key) {
  std::string const rest = after_key(s, key);
  return rest.empty() ? s : rest;
}

/// A path of a list, relative to the list's folder unless absolute.
inline std::string resolved(std::string const& folder, std::string const& path) {
  namespace fs = std::filesystem;
  if (path.empty() || fs::path(path).is_absolute()) return path;
  return (folder == "." ? fs::path(path) : fs::path(folder) / path).lexically_normal().string();
}
/// The inverse: relative where the file lies below the folder, else absolute.
inline std::string relative_to(std::string const& folder, std::string const& path) {
  namespace fs = std::filesystem;
  if (path.empty()) return path;
  fs::path const whole = fs::absolute(path).lexically_normal();
  fs::path const inside = whole.lexically_relative(fs::absolute(folder).lexically_normal());
  return inside.empty() || *inside.begin() == ".." ? whole.string() : inside.string();
}

/// Fills what a list did not say of a scan from its path: subject, session (unless the list has a place for it), contrast.
/// False if the subject stays unknown.
inline bool complete(scan& s, std::string const& path_in_list, bool lists_sessions) {
  auto const where = place_of(std::filesystem::path(path_in_list));
  std::string const stem = image_stem(std::filesystem::path(path_in_list).filename().string());
  if (s.subject.empty() && where) s.subject = where->subject;
  if (s.session.empty() && where && !lists_sessions) s.session = where->session;
  if (s.sequence.empty()) {
    auto const bids = bids_name(stem), fomo = fomo_name(stem);
    if (bids.role == file_role::scan)
      s.sequence = bids.sequence;
    else
      s.sequence = where && !where->bids && fomo.role == file_role::scan ? fomo.sequence : "scan";
  }
  bool const known = !s.subject.empty();
  if (!known) s.subject = stem.empty() ? std::filesystem::path(path_in_list).filename().string() : stem;
  return known;
}

inline std::int64_t stored_number(table const& t, std::size_t row, std::size_t column) {
  std::int64_t const n = positive_number(t.cell(row, column));
  check(n > 0, t.name(), ":", t.line(row), ": ", t.columns()[column], " is ", quote(t.cell(row, column)),
        ", a whole number above 0 is needed");
  return n;
}

/// Throws error unless numbers and subjects, and within a subject numbers and sessions, belong to each other one to one.
inline void check_numbers(std::string const& where, std::vector<scan> const& scans) {
  std::map<std::string, std::int64_t> number;
  std::map<std::int64_t, std::string> subject;
  auto const bind = [&](std::string const& name, std::int64_t n, std::string const& what) {
    auto const [a, fresh] = number.emplace(name, n);
    check(a->second == n, where, ": ", what, " ", quote(name), " has the numbers ", a->second, " and ", n,
          "; give it one");
    return fresh;
  };
  for (auto const& s : scans) {
    if (bind(subject_key(s), s.subject_number, "subject")) {
      auto const [b, fresh] = subject.emplace(s.subject_number, subject_key(s));
      check(fresh, where, ": subjects ", quote(b->second), " and ", quote(subject_key(s)),
            " both have the number ", s.subject_number,
            "; numbers tell negatives of a contrastive loss apart, give each its own");
    }
  }
}

}  // namespace detail

/// Scans of a table with a header row (.csv with commas, .tsv with tabs). A column of paths is needed: path, image_path,
/// image, file or filename. Known as well: mask(_path), dataset, subject(_id), participant_id, patient(_id), session(_id),
/// sequence, modality, contrast, subject_number, session_number; every other column is a label. Relative paths start at the
/// table's folder. What has no column is taken from the path ("sub_<X>/ses_<Y>/<sequence>"); a path without a subject
/// becomes a subject of its own, which is noted. Throws error naming file and line.
inline manifest read_scan_table(std::string const& path) {
  table const t = read_csv(path);
  std::string const folder = folder_of(path);
  std::map<std::string_view, std::size_t> at;
  for (std::size_t c = 0; c < t.columns().size(); ++c)
    if (auto const field = detail::field_of(t.columns()[c]); !field.empty()) {
      auto const [other, fresh] = at.emplace(field, c);
      check(fresh, path, ": the columns ", quote(t.columns()[other->second]), " and ", quote(t.columns()[c]),
            " both mean ", field, "; remove one");
    }
  std::string columns;
  for (auto const& c : t.columns()) columns += (columns.empty() ? "" : ", ") + quote(c);
  check(at.count("path"), path,
        ": no column holds the images' paths; name one 'path' or 'image_path'. There are: ", columns);
  check(t.rows() > 0, path, ": the table has a header and no rows: there are no scans");
  check(at.count("subject_number") == at.count("session_number"), path,
        ": subject_number and session_number need each other; remove the one or add the other");

  manifest m;
  std::map<std::string, std::size_t> line_of;
  std::size_t unknown = 0;
  for (std::size_t r = 0; r < t.rows(); ++r) {
    auto const value = [&](std::string_view field) {
      auto const c = at.find(field);
      return c == at.end() || t.missing(r, t.columns()[c->second]) ? std::string() : t.cell(r, c->second);
    };
    scan s;
    s.path = detail::resolved(folder, value("path")), s.mask = detail::resolved(folder, value("mask"));
    check(!s.path.empty(), path, ":", t.line(r), ": the path is missing");
    auto const [other, fresh] = line_of.emplace(s.path, t.line(r));
    check(fresh, path, ":", t.line(r), ": ", quote(s.path, 4096), " is also in line ", other->second,
          "; remove one");
    s.dataset = value("dataset"), s.subject = detail::without_key(value("subject"), "sub");
    s.session = detail::without_key(value("session"), "ses"), s.sequence = detail::lower(value("sequence"));
    unknown += !detail::complete(s, value("path"), at.count("session") > 0);
    if (at.count("subject_number")) {
      s.subject_number = detail::stored_number(t, r, at["subject_number"]);
      s.session_number = detail::stored_number(t, r, at["session_number"]);
    }
    for (std::size_t c = 0; c < t.columns().size(); ++c)
      if (detail::field_of(t.columns()[c]).empty() && !t.missing(r, t.columns()[c]))
        s.labels[t.columns()[c]] = t.cell(r, c);
    m.scans.push_back(std::move(s));
  }
  if (unknown > 0)
    m.notes.push_back(
        text(unknown, " of ", t.rows(),
             " rows name no subject (no such column, no sub_<X> in the path): "
             "each is taken for a subject of its own. If a person has several, add a column 'subject'"));
  std::sort(m.scans.begin(), m.scans.end(), detail::scan_before);
  if (at.count("subject_number")) detail::check_numbers(path, m.scans);
  return m;
}

/// The scans as a table that read_manifest() reads back: tabs, one line per scan, subject and session numbers included, so
/// that a run keeps them when scans are added. Paths below the table's folder are relative to it. Written atomically.
inline void write_manifest(std::string const& path, manifest const& m) {
  check(path.ends_with(".tsv"), "write_manifest ", quote(path, 4096), ": the name must end in .tsv");
  std::set<std::string> labels;
  for (auto const& s : m.scans)
    for (auto const& [name, value] : s.labels) labels.insert(name);
  std::string out = "dataset\tsubject\tsession\tsequence\tsubject_number\tsession_number\tpath\tmask";
  for (auto const& name : labels) {
    check(detail::field_of(name).empty(), "write_manifest ", quote(path, 4096), ": a label is called ",
          quote(name), ", which is a column of its own; rename it");
    out += '\t' + csv_cell(name, '\t');
  }
  std::string const folder = folder_of(path);
  auto const cell = [](std::string const& s) { return s.empty() ? "n/a" : csv_cell(s, '\t'); };
  for (auto const& s : m.scans) {
    out += '\n' + cell(s.dataset) + '\t' + cell(s.subject) + '\t' + cell(s.session) + '\t' + cell(s.sequence);
    out += text('\t', s.subject_number, '\t', s.session_number, '\t',
                cell(detail::relative_to(folder, s.path)), '\t', cell(detail::relative_to(folder, s.mask)));
    for (auto const& name : labels) {
      auto const at = s.labels.find(name);
      out += '\t' + cell(at == s.labels.end() ? std::string() : at->second);
    }
  }
  write_file(path, out + '\n');
}

}  // namespace insula
