// SPDX-License-Identifier: Apache-2.0
// Crops about the voxels of a label, for segmentation: as often about a lesion as about anything else.
#pragma once

#include "insula/data/crop.hpp"

namespace insula {

/// First index of a crop of `size` voxels about index c of an axis of n >= size: c is moved as little as needed for the crop to
/// lie inside, to min(max(c, floor(size / 2)), hi - 1) with hi = max(int(n + 1 - size / 2), floor(size / 2) + 1)
/// (MONAI 1.5 monai/transforms/utils.py correct_crop_centers).
constexpr index_t corner_about(index_t c, index_t n, index_t size) {
  index_t const half = size / 2, end = index_t(double(n) + 1 - double(size) / 2);
  index_t const hi = std::max(end, half + 1);
  return std::min(std::max(c, half), hi - 1) - half;
}

/// Corner of a crop of `size` about one voxel of a label map: with probability `positive` a voxel that is not 0, else one that
/// is, each of its kind alike; if there is none of a kind, one of the other. UMBRA's fine-tuning takes two such crops of 96^3 with
/// probability 1/2 (MONAI RandCropByPosNegLabel(pos=1, neg=1)). Throws error if the label is smaller than the crop.
inline extent draw_label_corner(volume const& label, extent size, double positive, random_stream& random) {
  extent const n = label.size;
  for (int a = 0; a < 3; ++a)
    check(size[a] >= 1 && size[a] <= n[a], "draw_label_corner: a crop of ", size, " does not fit into ", n,
          " along axis ", a, ": pad the volume first");
  check(positive >= 0 && positive <= 1, "draw_label_corner: the share of positive crops is ", positive,
        ", it must be 0 to 1");
  auto const is_labelled = [](float v) { return v != 0; };
  auto const labelled = index_t(std::count_if(label.voxels.begin(), label.voxels.end(), is_labelled));
  bool const inside = random.coin(positive) ? labelled > 0 : labelled == label.count();
  index_t left = random.below(inside ? labelled : label.count() - labelled), i = 0;
  for (;; ++i)
    if (is_labelled(label.voxels[std::size_t(i)]) == inside && left-- == 0) break;
  return {corner_about(i / (n.h * n.w), n.d, size.d), corner_about(i / n.w % n.h, n.h, size.h),
          corner_about(i % n.w, n.w, size.w)};
}

}  // namespace insula
