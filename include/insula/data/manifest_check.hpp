// SPDX-License-Identifier: Apache-2.0
// Which image files can be read as one volume, told from their headers.
#pragma once

#include "insula/data/nifti_read.hpp"
#include "insula/data/npy.hpp"
#include "insula/data/scan.hpp"
#include "insula/data/scan_name.hpp"
#include "insula/data/voxels.hpp"

namespace insula {

/// Extents and place of a volume on disk.
struct image_header {
  extent size{0, 0, 0};
  affine to_world = identity_affine;
};

/// The header of a .nii, .nii.gz (or .hdr/.img) or .npy file that holds one volume. Throws error for anything else.
inline image_header read_image_header(std::string const& path) {
  if (detail::ends_with_word(path, ".npy")) return {npy_extent(path), identity_affine};
  auto const info = nifti_info(path);
  check(info.volumes == 1, "read ", quote(path, 4096), ": the file is 4-D, it holds ", info.volumes,
        " volumes of ", info.size, "; extract one of them");
  return {info.size, info.to_world};
}

/// The volume in such a file. Throws error.
inline volume read_image(std::string const& path) {
  return detail::ends_with_word(path, ".npy") ? read_npy(path) : read_nifti(path).image;
}

namespace detail {

/// f()'s message if it throws error, else "".
template <class F>
std::string refusal(F&& f) {
  try {
    f();
    return {};
  } catch (error const& e) {
    return *e.what() ? e.what() : "unknown";
  }
}

/// Moves the scans that have a reason out of m.scans into m.problems, keeping the order.
inline void drop_scans(manifest& m, std::vector<std::string> const& reasons) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < m.scans.size(); ++i) {
    if (!reasons[i].empty()) {
      m.problems.push_back({m.scans[i].path, reasons[i]});
      continue;
    }
    if (kept != i) m.scans[kept] = std::move(m.scans[i]);
    ++kept;
  }
  m.scans.resize(kept);
}

/// Reads every header, on the pool if there is one; unreadable, 4-D and flat files become problems.
inline void check_headers(manifest& m, thread_pool* pool) {
  std::vector<std::string> reasons(m.scans.size());
  for_tasks(pool, index_t(m.scans.size()), [&](index_t i) {
    auto const k = std::size_t(i);
    reasons[k] = refusal([&] {
      extent const n = read_image_header(m.scans[k].path).size;
      check(n.d > 1 && n.h > 1 && n.w > 1, "the image is flat: ", n, " voxels; a volume is needed");
    });
  });
  drop_scans(m, reasons);
}

}  // namespace detail

}  // namespace insula
