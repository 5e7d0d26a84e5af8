// SPDX-License-Identifier: Apache-2.0
// Flips, pads and crops: voxels move to other indices, no value changes, and to_world follows.
#pragma once

#include <algorithm>

#include "insula/base/random.hpp"
#include "insula/data/affine_augment.hpp"

namespace insula {

/// x with the order of voxels along `axis` (0, 1 or 2) reversed.
inline volume flip(volume const& x, int axis, thread_pool* pool = nullptr) {
  check(axis >= 0 && axis < 3, "flip: the axis is ", axis, ", it must be 0, 1 or 2");
  extent const n = x.size;
  index_map map{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
  map[std::size_t(5 * axis)] = -1, map[std::size_t(4 * axis + 3)] = double(n[axis] - 1);
  volume y = make_volume(n, 0, placed(x.to_world, map));
  for_tasks(pool, n.d, [&](index_t d) {
    for (index_t h = 0; h < n.h; ++h) {
      float const* const from =
          x.voxels.data() + ((axis == 0 ? n.d - 1 - d : d) * n.h + (axis == 1 ? n.h - 1 - h : h)) * n.w;
      float* const to = y.voxels.data() + (d * n.h + h) * n.w;
      if (axis == 2)
        std::reverse_copy(from, from + n.w, to);
      else
        std::copy(from, from + n.w, to);
    }
  });
  return y;
}

/// What pad() puts around a volume: copies of the nearest edge voxel, or zeros (masks).
enum class padding { edge, zero };

/// Voxels that pad() puts before and after an axis of n voxels to reach t: w = max(t - n, 0), floor(w / 2) before.
constexpr index_t pad_before(index_t n, index_t t) { return t > n ? (t - n) / 2 : 0; }

namespace detail {
inline volume window(volume const& x, extent size, extent start, padding how, thread_pool* pool) {
  volume y = make_volume(
      size, 0,
      placed(x.to_world, {1, 0, 0, double(start.d), 0, 1, 0, double(start.h), 0, 0, 1, double(start.w)}));
  extent const n = x.size;
  index_t const first = std::clamp<index_t>(-start.w, 0, size.w),
                last = std::clamp<index_t>(n.w - start.w, first, size.w);
  for_tasks(pool, size.d, [&](index_t d) {
    for (index_t h = 0; h < size.h; ++h) {
      index_t const sd = d + start.d, sh = h + start.h;
      bool const inside = sd >= 0 && sd < n.d && sh >= 0 && sh < n.h;
      if (!inside && how == padding::zero) continue;
      float const* const from =
          x.voxels.data() +
          (std::clamp<index_t>(sd, 0, n.d - 1) * n.h + std::clamp<index_t>(sh, 0, n.h - 1)) * n.w;
      float* const to = y.voxels.data() + (d * size.h + h) * size.w;
      std::copy(from + first + start.w, from + last + start.w, to + first);
      if (how == padding::zero) continue;
      std::fill(to, to + first, from[0]);
      std::fill(to + last, to + size.w, from[n.w - 1]);
    }
  });
  return y;
}
}  // namespace detail

/// x centred in a volume of at least `size`: axes that are larger already keep their size.
inline volume pad(volume const& x, extent size, padding how = padding::edge, thread_pool* pool = nullptr) {
  check(x.count() > 0, "pad: the volume has no voxels");
  extent out, start;
  for (int a = 0; a < 3; ++a)
    out[a] = std::max(size[a], x.size[a]), start[a] = -pad_before(x.size[a], size[a]);
  return detail::window(x, out, start, how, pool);
}

/// The part of x of size `size` whose first voxel is x's voxel `corner`. Throws if it does not lie inside x.
inline volume crop(volume const& x, extent corner, extent size, thread_pool* pool = nullptr) {
  for (int a = 0; a < 3; ++a)
    check(size[a] >= 1 && corner[a] >= 0 && corner[a] + size[a] <= x.size[a], "crop: ", size, " voxels from ",
          corner, " do not fit into ", x.size, " along axis ", a, ": pad the volume first");
  return detail::window(x, size, corner, padding::edge, pool);
}

/// A block of voxels: first index and size per axis.
struct box {
  extent from{0, 0, 0}, size{0, 0, 0};
  friend constexpr bool operator==(box const&, box const&) = default;
};

/// The voxels inside `b`. Throws error if `b` is empty or reaches outside.
inline volume crop(volume const& v, box const& b) { return crop(v, b.from, b.size); }

/// A corner for a crop of `size`, uniform on {0 .. n - size} per axis. Throws if n < size.
inline extent draw_corner(extent n, extent size, random_stream& random) {
  extent corner;
  for (int a = 0; a < 3; ++a) {
    check(size[a] >= 1 && size[a] <= n[a], "draw_corner: a crop of ", size, " does not fit into ", n,
          " along axis ", a, ": pad the volume first");
    corner[a] = random.below(n[a] - size[a] + 1);
  }
  return corner;
}

/// A box of random size inside n: sizes uniform on {least .. n} for axes 0, 1, 2, then corners uniform on {0 .. n - size}, an
/// axis of full size without a draw. Project-MONAI/MONAI 1.3.0, monai/transforms/croppad/array.py: RandSpatialCrop with
/// random_center and random_size. Throws error unless 1 <= least <= n.
inline box draw_box(extent n, extent least, random_stream& random) {
  box b;
  for (int a = 0; a < 3; ++a) {
    check(least[a] >= 1 && least[a] <= n[a], "draw_box: a crop of at least ", least, " does not fit into ", n,
          " along axis ", a, ": lower the smallest crop");
    b.size[a] = least[a] + random.below(n[a] - least[a] + 1);
  }
  for (int a = 0; a < 3; ++a)
    if (b.size[a] < n[a]) b.from[a] = random.below(n[a] - b.size[a] + 1);
  return b;
}

/// Corner of a centre crop: max(floor(n / 2) - floor(size / 2), 0) per axis.
constexpr extent centre_corner(extent n, extent size) {
  extent corner;
  for (int a = 0; a < 3; ++a) corner[a] = n[a] / 2 > size[a] / 2 ? n[a] / 2 - size[a] / 2 : 0;
  return corner;
}

/// The middle of x. Throws if x is smaller than `size`.
inline volume centre_crop(volume const& x, extent size, thread_pool* pool = nullptr) {
  return crop(x, centre_corner(x.size, size), size, pool);
}

}  // namespace insula
