// SPDX-License-Identifier: Apache-2.0
// From a table or a folder to images with brain masks on one grid: what pretraining and fine-tuning of volumes share.
#pragma once

#include <filesystem>

#include "insula/data/manifest.hpp"
#include "insula/data/masked_scans.hpp"
#include "insula/io/fixed_settings.hpp"

namespace program {

/// Which scans, and how they come to the network's grid.
struct scan_settings {
  std::string data, root, sequence = "t1", image = "image_path", mask = "mask_path", patient = "patient_id",
                          grid = "resampled", keep = "auto";
  double spacing = 1;
};

/// Declares them.
inline void declare(insula::config& c, scan_settings& s) {
  c.add("root", s.root, "folder that relative paths of tables start at; empty: the table's own",
        {.may_change = true});
  c.add("sequence", s.sequence, "of a folder: the contrast that is used");
  c.add("column.image", s.image, "of tables: the column of image files");
  c.add("column.mask", s.mask, "of tables: the column of brain masks; without it the mask is what is not 0");
  c.add("column.patient", s.patient, "of tables: whose scan it is; without it every row is a patient");
  c.add("grid", s.grid,
        "template: volumes lie on the 193 x 229 x 193 grid of MNI 2009c and are cropped as published; "
        "resampled: to "
        "`spacing`, about the middle of the brain's box",
        {.choices = {"template", "resampled"}});
  c.add("spacing", s.spacing, "of resampled volumes: voxel edge in mm", {.above = 0, .at_most = 20});
  c.add("keep_volumes", s.keep,
        "preprocessed volumes stay in memory, are read from disk each time, or (auto) stay if they take less "
        "than 4 GB",
        {.choices = {"auto", "memory", "disk"}, .may_change = true});
}

/// Steps from a file to the network's grid (z, y, x).
inline insula::pipeline preprocessing(scan_settings const& s, insula::extent grid) {
  namespace p = insula::preprocess;
  if (s.grid == "template") return insula::simclr_preprocessing();
  insula::pipeline all{{p::reorient{}, p::resample{s.spacing, s.spacing, s.spacing}, p::crop_brain{}}};
  all.steps.push_back(p::pad{grid.w, grid.h, grid.d});  // still (x, y, z)
  all.steps.push_back(p::centre_crop{grid.w, grid.h, grid.d});
  all.steps.push_back(p::reverse_axes{});
  return all;
}

/// The rows of a .csv or .tsv table, or the scans of one contrast in a folder in any layout that read_manifest() knows.
/// `label` is the column of targets, "" if none is wanted. Throws error.
inline insula::scan_list scans_of(std::string const& path, scan_settings const& s,
                                  std::string const& label = "") {
  if (!std::filesystem::is_directory(path))
    return insula::read_scan_list(path, {.image = s.image,
                                         .mask = s.mask,
                                         .label = label,
                                         .patient = s.patient,
                                         .root = s.root,
                                         .needs_label = !label.empty()});
  insula::check(label.empty(), path, ": a folder has no labels; give a table with the columns ", s.image,
                ", ", s.patient, " and ", label);
  insula::scan_list list{path, {}, true, false, true};
  for (auto const& scan : insula::read_manifest(path).scans) {
    if (scan.sequence != s.sequence) continue;
    list.has_masks = list.has_masks && !scan.mask.empty();
    list.rows.push_back({scan.path, scan.mask, 0, insula::subject_key(scan), list.rows.size() + 1});
  }
  insula::check(!list.rows.empty(), path, ": no scan of the contrast \"", s.sequence,
                "\" is in this folder; set sequence to another");
  return list;
}

/// Reads them; throws error unless they have the network's grid after preprocessing.
inline insula::masked_scans open_scans(insula::scan_list list, scan_settings const& s, insula::extent grid,
                                       insula::thread_pool* pool) {
  double const bytes =
      2.0 * sizeof(float) * double(grid.size()) * double(list.rows.size());  // image and mask
  bool const stay = s.keep == "memory" || (s.keep == "auto" && bytes < 4e9);
  insula::masked_scans scans(std::move(list), preprocessing(s, grid),
                             stay ? insula::keep_scans::in_memory : insula::keep_scans::on_disk, pool);
  insula::check(scans.grid() == grid, scans.list().path, ": volumes have ", scans.grid(),
                " voxels (z, y, x) after preprocessing, the network takes ", grid,
                ": use --config paper with grid=template, or grid=resampled");
  return scans;
}

}  // namespace program
