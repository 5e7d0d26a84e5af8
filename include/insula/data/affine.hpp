// SPDX-License-Identifier: Apache-2.0
// Arithmetic on the 4 x 4 matrices that place voxels in the world.
#pragma once

#include <cmath>

#include "insula/data/volume.hpp"

namespace insula {

/// A place or direction in the world (x, y, z in millimetres, RAS+) or in voxel indices (d, h, w).
using point = std::array<double, 3>;

/// a b: first b, then a.
constexpr affine multiply(affine const& a, affine const& b) {
  affine c{};
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 4; ++j)
      for (std::size_t k = 0; k < 4; ++k) c[i * 4 + j] += a[i * 4 + k] * b[k * 4 + j];
  return c;
}

/// Image of a point under the affine.
constexpr point map_point(affine const& a, point const& p) {
  point q{};
  for (std::size_t i = 0; i < 3; ++i)
    q[i] = a[i * 4] * p[0] + a[i * 4 + 1] * p[1] + a[i * 4 + 2] * p[2] + a[i * 4 + 3];
  return q;
}

/// Determinant of the upper left 3 x 3 block; its sign tells a right-handed (+) from a left-handed (-) grid.
constexpr double determinant(affine const& a) {
  return a[0] * (a[5] * a[10] - a[6] * a[9]) - a[1] * (a[4] * a[10] - a[6] * a[8]) +
         a[2] * (a[4] * a[9] - a[5] * a[8]);
}

/// Inverse of an affine. Throws error if its 3 x 3 block is singular.
inline affine inverse(affine const& a) {
  double const det = determinant(a);
  check(std::isfinite(1 / det), "inverse: the affine is singular (determinant ", det,
        "), so its voxels have no extent");
  affine r{};
  auto const cofactor = [&](std::size_t i, std::size_t j) {
    auto const at = [&](std::size_t di, std::size_t dj) { return a[(i + di) % 3 * 4 + (j + dj) % 3]; };
    return at(1, 1) * at(2, 2) - at(1, 2) * at(2, 1);
  };
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) r[i * 4 + j] = cofactor(j, i) / det;
  for (std::size_t i = 0; i < 3; ++i)
    r[i * 4 + 3] = -(r[i * 4] * a[3] + r[i * 4 + 1] * a[7] + r[i * 4 + 2] * a[11]);
  r[15] = 1;
  return r;
}

/// Voxel size in millimetres along axes d, h, w: the lengths of the matrix's columns.
inline point spacing(affine const& a) {
  point s{};
  for (std::size_t j = 0; j < 3; ++j) s[j] = std::hypot(a[j], a[4 + j], a[8 + j]);
  return s;
}

/// Largest |cosine| between two voxel axes: 0 for an orthogonal grid, towards 1 for a sheared one.
inline double shear(affine const& a) {
  point const s = spacing(a);
  double most = 0;
  for (std::size_t j = 0; j < 3; ++j) {
    std::size_t const k = (j + 1) % 3;
    most = std::max(most, std::abs(a[j] * a[k] + a[4 + j] * a[4 + k] + a[8 + j] * a[8 + k]) / (s[j] * s[k]));
  }
  return most;
}

/// The nearest matrix with orthonormal columns to the unit columns of `a` (polar factor, Newton's iteration, Higham 1986),
/// in the upper left 3 x 3 block; translation 0. Throws error if `a` is singular.
inline affine rotation(affine const& a) {
  point const s = spacing(a);
  affine r = identity_affine;
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) r[i * 4 + j] = a[i * 4 + j] / s[j];
  for (int step = 0; step < 60; ++step) {
    affine const other = inverse(r);
    double moved = 0;
    affine next = r;
    for (std::size_t i = 0; i < 3; ++i)
      for (std::size_t j = 0; j < 3; ++j) {
        next[i * 4 + j] = (r[i * 4 + j] + other[j * 4 + i]) / 2;
        moved = std::max(moved, std::abs(next[i * 4 + j] - r[i * 4 + j]));
      }
    r = next;
    if (moved < 1e-15) break;
  }
  return r;
}

/// `a` with voxel index (0, 0, 0) moved to what was index `from`: the affine of a crop that starts there.
constexpr affine shifted(affine const& a, point const& from) {
  point const origin = map_point(a, from);
  affine r = a;
  for (std::size_t i = 0; i < 3; ++i) r[i * 4 + 3] = origin[i];
  return r;
}

/// Largest distance in millimetres between where two affines put the eight corner voxels of a grid.
inline double corner_distance(affine const& a, affine const& b, extent size) {
  double most = 0;
  for (int corner = 0; corner < 8; ++corner) {
    point const v{corner & 4 ? double(size.d - 1) : 0, corner & 2 ? double(size.h - 1) : 0,
                  corner & 1 ? double(size.w - 1) : 0};
    point const p = map_point(a, v), q = map_point(b, v);
    most = std::max(most, std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]));
  }
  return most;
}

}  // namespace insula
