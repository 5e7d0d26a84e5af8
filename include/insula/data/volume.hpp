// SPDX-License-Identifier: Apache-2.0
// A three-dimensional image with its place in the world.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "insula/base/check.hpp"

namespace insula {

/// Row-major 4 x 4 matrix from voxel indices (d, h, w, 1) to world millimetres (x, y, z, 1), axes RAS+.
using affine = std::array<double, 16>;

inline constexpr affine identity_affine{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};

/// One channel of float voxels in C order: voxel (d, h, w) is voxels[(d * size.h + h) * size.w + w], where d, h, w are the
/// NIfTI indices i, j, k (array axes 0, 1, 2 of nibabel). `to_world` says where a voxel's centre lies.
struct volume {
  extent size{0, 0, 0};
  affine to_world = identity_affine;
  std::vector<float> voxels;

  index_t count() const { return size.size(); }
  float& at(index_t d, index_t h, index_t w) { return voxels[std::size_t((d * size.h + h) * size.w + w)]; }
  float at(index_t d, index_t h, index_t w) const {
    return voxels[std::size_t((d * size.h + h) * size.w + w)];
  }
};

/// A volume of the given size filled with `value`, placed by `to_world`.
inline volume make_volume(extent size, float value = 0, affine const& to_world = identity_affine) {
  return {size, to_world, std::vector<float>(std::size_t(size.size()), value)};
}

}  // namespace insula
