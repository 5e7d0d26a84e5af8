// SPDX-License-Identifier: Apache-2.0
// Orientation letters ("RAS"), and turning a volume to any of the 48 orientations without interpolation.
#pragma once

#include <string_view>

#include "insula/data/affine.hpp"

namespace insula {

/// For each voxel axis, the world axis it runs along (0 x, 1 y, 2 z) and whether against it.
struct orientation {
  std::array<int, 3> axis{0, 1, 2};
  std::array<bool, 3> against{false, false, false};
  friend constexpr bool operator==(orientation const&, orientation const&) = default;
};

/// The closest orientation of an affine: polar factor of its unit columns, then for axis d, h, w in turn the world axis of
/// the largest |entry| not yet taken (the rule of nibabel's io_orientation). Throws error if the affine is singular.
inline orientation orientation_of(affine const& a) {
  affine const r = rotation(a);
  orientation o;
  bool taken[3] = {false, false, false};
  for (std::size_t j = 0; j < 3; ++j) {
    std::size_t best = 3;
    for (std::size_t i = 0; i < 3; ++i)
      if (!taken[i] && (best == 3 || std::abs(r[i * 4 + j]) > std::abs(r[best * 4 + j]))) best = i;
    taken[best] = true;
    o.axis[j] = int(best), o.against[j] = r[best * 4 + j] < 0;
  }
  return o;
}

/// Letters as in nibabel and MONAI: each names the direction in which the index grows, "RAS" = right, anterior, superior.
inline std::string orientation_letters(orientation const& o) {
  std::string s;
  for (std::size_t j = 0; j < 3; ++j) s += (o.against[j] ? "LPI" : "RAS")[o.axis[j]];
  return s;
}
inline std::string orientation_letters(affine const& a) { return orientation_letters(orientation_of(a)); }

/// The orientation of letters such as "RAS" or "LPI". Throws error unless there is one letter of each pair LR, AP, IS.
inline orientation parse_orientation(std::string_view letters) {
  constexpr char const* advice =
      " is no orientation: one letter each of L or R, A or P, I or S is needed, such as RAS";
  check(letters.size() == 3, "orientation: '", letters, "'", advice);
  orientation o;
  int seen = 0;
  for (std::size_t j = 0; j < 3; ++j) {
    auto const at = std::string_view("RASLPI").find(letters[j]);
    check(at != std::string_view::npos, "orientation: '", letters, "'", advice);
    o.axis[j] = int(at % 3), o.against[j] = at >= 3;
    seen |= 1 << at % 3;
  }
  check(seen == 7, "orientation: '", letters, "'", advice);
  return o;
}

/// The volume with its axes permuted and reversed so that orientation_letters() gives `letters`: out voxel = in voxel, bit for
/// bit, and every voxel keeps its place in the world exactly. reorient(reorient(v, x), letters of v) is v again.
inline volume reorient(volume const& v, std::string_view letters) {
  orientation const from = orientation_of(v.to_world), to = parse_orientation(letters);
  std::array<int, 3> source{};  // out axis -> in axis
  std::array<bool, 3> reversed{};
  for (std::size_t j = 0; j < 3; ++j)
    for (std::size_t i = 0; i < 3; ++i)
      if (from.axis[i] == to.axis[j]) source[j] = int(i), reversed[j] = from.against[i] != to.against[j];

  index_t const in_stride[3] = {v.size.h * v.size.w, v.size.w, 1};
  volume out = v.size.size() ? volume{} : v;
  index_t stride[3], origin = 0;
  affine steps{};  // out index -> in index
  steps[15] = 1;
  for (int j = 0; j < 3; ++j) {
    int const i = source[std::size_t(j)];
    bool const r = reversed[std::size_t(j)];
    out.size[j] = v.size[i];
    stride[j] = r ? -in_stride[i] : in_stride[i];
    if (r) origin += in_stride[i] * (v.size[i] - 1);
    steps[std::size_t(i * 4 + j)] = r ? -1 : 1;
    steps[std::size_t(i * 4 + 3)] = r ? double(v.size[i] - 1) : 0;
  }
  out.to_world = multiply(v.to_world, steps);
  out.voxels.resize(std::size_t(out.count()));
  float const* in = v.voxels.data() + origin;
  float* to_voxel = out.voxels.data();
  for (index_t d = 0; d < out.size.d; ++d)
    for (index_t h = 0; h < out.size.h; ++h) {
      float const* row = in + d * stride[0] + h * stride[1];
      for (index_t w = 0; w < out.size.w; ++w) *to_voxel++ = row[w * stride[2]];
    }
  return out;
}

/// The volume with its axes in reverse order, y(w, h, d) = v(d, h, w): from (x, y, z) to (z, y, x). Places in the world stay.
inline volume reverse_axes(volume const& v) {
  volume out{{v.size.w, v.size.h, v.size.d}, v.to_world, std::vector<float>(v.voxels.size())};
  for (std::size_t i = 0; i < 3; ++i) std::swap(out.to_world[4 * i], out.to_world[4 * i + 2]);
  for (index_t h = 0; h < v.size.h; ++h)  // plane by plane: both sides stay near one another in memory
    for (index_t d = 0; d < v.size.d; ++d) {
      float const* const from = v.voxels.data() + (d * v.size.h + h) * v.size.w;
      for (index_t w = 0; w < v.size.w; ++w) out.at(w, h, d) = from[w];
    }
  return out;
}

}  // namespace insula
