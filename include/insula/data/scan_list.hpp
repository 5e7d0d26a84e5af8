// SPDX-License-Identifier: Apache-2.0
// Tables of images with brain masks, labels and patients: what 3D-Neuro-SimCLR trains on and is evaluated on.
#pragma once

#include <limits>
#include <set>

#include "insula/data/manifest_table.hpp"

namespace insula {

/// One row: an image, its brain mask ("" : the voxels that are not 0), its target, whose it is, and where that is written.
struct listed_scan {
  std::string image, mask;
  double label = std::numeric_limits<double>::quiet_NaN();
  std::string patient;  // "" in a list without patients: every row is then a unit of its own
  std::size_t line = 0;
};

struct scan_list {
  std::string path;  // of the table
  std::vector<listed_scan> rows;
  bool has_masks = false, has_labels = false, has_patients = false;
};

/// Names of the columns, and how the table is read.
struct scan_list_options {
  std::string image = "image_path", mask = "mask_path", label = "label", patient = "patient_id";
  std::string root{};        // put before relative paths; "": the table's folder
  bool needs_label = false;  // supervised tasks
  bool needs_mask = false;
  bool needs_files = true;  // every image and mask must be there
};

namespace detail {
inline std::string missing_files(scan_list const& list) {
  std::vector<problem> missing;
  std::error_code e;
  for (auto const& r : list.rows)
    for (auto const* file : {&r.image, &r.mask})
      if (!file->empty() && !std::filesystem::is_regular_file(*file, e))
        missing.push_back({*file, text("line ", r.line, ": there is no such file")});
  return describe(missing);
}
}  // namespace detail

/// Reads a .csv (commas) or .tsv (tabs) table with a header row; columns that are not named in the options are ignored. The
/// column of images is needed. Masks, labels and patients are read where their columns exist, and a row without a value in one
/// of them is then an error, as is a label that is no number, and a missing file; all name the line.
inline scan_list read_scan_list(std::string const& path, scan_list_options const& o = {}) {
  table const t = read_csv(path);
  auto const column = [&](std::string const& name, bool needed, char const* what) {
    bool const has = !name.empty() && t.has(name);
    if (needed && !has) {
      std::string all;
      for (auto const& c : t.columns()) all += (all.empty() ? "" : ", ") + quote(c);
      fail(path, ": there is no column ", quote(name), " for the ", what, "; there are ", all,
           ". Name the column in the settings, or add it");
    }
    return has;
  };
  scan_list list{path,
                 {},
                 column(o.mask, o.needs_mask, "masks"),
                 column(o.label, o.needs_label, "labels"),
                 column(o.patient, false, "patients")};
  column(o.image, true, "images");
  check(t.rows() > 0, path, ": the table has a header and no rows: there are no scans");
  std::string const root = o.root.empty() ? folder_of(path) : o.root;
  for (std::size_t r = 0; r < t.rows(); ++r) {
    auto const cell = [&](bool has, std::string const& name) {
      if (!has) return std::string();
      check(!t.missing(r, name), path, ":", t.line(r), ": the column ", quote(name),
            " has no value; fill it in, or remove the row");
      return t.cell(r, name);
    };
    listed_scan s;
    s.image = detail::resolved(root, cell(true, o.image)),
    s.mask = detail::resolved(root, cell(list.has_masks, o.mask));
    s.patient = cell(list.has_patients, o.patient), s.line = t.line(r);
    if (list.has_labels) {
      bool const known = !t.missing(r, o.label);
      check(known || !o.needs_label, path, ":", t.line(r), ": the column ", quote(o.label),
            " has no value; fill it in, or remove the row");
      if (known) s.label = *t.number(r, o.label);
    }
    list.rows.push_back(std::move(s));
  }
  if (o.needs_files) {
    std::string const missing = detail::missing_files(list);
    check(missing.empty(), path, ": ", missing, "\nrelative paths start at ", quote(root, 4096),
          "; name another root, or correct the table");
  }
  return list;
}

/// The patient of every row; without patients the row itself, as "row 17".
inline std::vector<std::string> patients_of(scan_list const& list) {
  std::vector<std::string> all;
  for (std::size_t i = 0; i < list.rows.size(); ++i)
    all.push_back(list.has_patients ? list.rows[i].patient : text("row ", i + 1));
  return all;
}

/// The rows of each patient, in the order in which patients appear first.
inline std::vector<std::vector<index_t>> rows_by_patient(scan_list const& list) {
  std::map<std::string, std::size_t> place;
  std::vector<std::vector<index_t>> rows;
  auto const patients = patients_of(list);
  for (std::size_t i = 0; i < patients.size(); ++i) {
    auto const [at, fresh] = place.emplace(patients[i], rows.size());
    if (fresh) rows.emplace_back();
    rows[at->second].push_back(index_t(i));
  }
  return rows;
}

/// The labels as two classes. Throws error naming the line of a label that is neither 0 nor 1.
inline std::vector<std::int32_t> binary_labels(scan_list const& list) {
  std::vector<std::int32_t> labels;
  for (auto const& r : list.rows) {
    check(r.label == 0 || r.label == 1, list.path, ":", r.line, ": the label is ", r.label,
          ", a classification needs 0 or 1; use the regression task for real-valued labels");
    labels.push_back(std::int32_t(r.label));
  }
  return labels;
}

/// The rows at these places, in this order.
inline scan_list rows_of(scan_list const& list, std::vector<index_t> const& places) {
  scan_list chosen = list;
  chosen.rows.clear();
  for (auto const i : places) chosen.rows.push_back(list.rows.at(std::size_t(i)));
  return chosen;
}

/// Throws error if a patient, or an image, is in two of the lists: train, validation and test must not share anyone.
inline void check_disjoint(std::vector<scan_list const*> const& lists) {
  std::map<std::string, scan_list const*> patient, image;
  auto const claim = [](auto& owner, std::string const& name, scan_list const& list, listed_scan const& r,
                        char const* what) {
    auto const [at, fresh] = owner.emplace(name, &list);
    check(fresh || at->second == &list, list.path, ":", r.line, ": ", what, " ", quote(name, 4096),
          " is also in ", at->second->path, ": the parts would leak; put every patient into one part");
  };
  for (auto const* list : lists)
    for (auto const& r : list->rows) {
      claim(image, std::filesystem::absolute(r.image).lexically_normal().string(), *list, r, "the image");
      if (list->has_patients) claim(patient, r.patient, *list, r, "patient");
    }
}

/// "12 scans of 8 patients, labels 0 (7) and 1 (5)" or "..., labels 3.5 to 71, mean 40.25".
inline std::string describe(scan_list const& list) {
  auto const n = list.rows.size();
  std::string s = text(n, n == 1 ? " scan" : " scans");
  if (list.has_patients) {
    auto const patients = rows_by_patient(list).size();
    s += text(" of ", patients, patients == 1 ? " patient" : " patients");
  }
  s += list.has_masks ? "" : ", no masks (voxels that are not 0)";
  std::map<double, index_t> count;
  double sum = 0;
  index_t known = 0;
  for (auto const& r : list.rows)
    if (r.label == r.label) ++count[r.label], sum += r.label, ++known;
  if (known == 0) return s;
  if (count.size() <= 2) {
    s += ", labels";
    char const* between = " ";
    for (auto const& [label, times] : count) s += text(between, label, " (", times, ")"), between = " and ";
    return s;
  }
  return s + text(", labels ", count.begin()->first, " to ", count.rbegin()->first, ", mean ",
                  std::round(1e4 * sum / double(known)) / 1e4);
}

}  // namespace insula
