// SPDX-License-Identifier: Apache-2.0
// Random rotations, shears, scalings and translations of a volume, and resampling under an affine index map.
#pragma once

#include <array>
#include <cmath>

#include "insula/base/random.hpp"
#include "insula/data/sample.hpp"
#include "insula/data/voxels.hpp"

namespace insula {

/// Row-major 3 x 4: output voxel index (d, h, w, 1) to input voxel index.
using index_map = std::array<double, 12>;

/// The world affine of an output grid whose voxel o lies at input voxel map(o).
inline affine placed(affine const& to_world, index_map const& map) {
  affine r{};
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) {
      double s = j == 3 ? to_world[std::size_t(4 * i + 3)] : 0;
      for (int k = 0; k < 3; ++k) s += to_world[std::size_t(4 * i + k)] * map[std::size_t(4 * k + j)];
      r[std::size_t(4 * i + j)] = s;
    }
  return r;
}

enum class interpolation { linear, nearest };

/// Options of resample().
struct resample_options {
  interpolation how = interpolation::linear;
  outside beyond = outside::edge;
};

/// y[o] = x at map(o) for every voxel o of `out` (=). Positions are float32, as is the interpolation. Linear with
/// outside::edge is the fast path. Returns the smallest and the largest voxel written.
inline value_range resample_into(sampler const& from, extent out, index_map const& map, resample_options how,
                                 float* y, thread_pool* pool = nullptr) {
  // Bands of rows through several planes: what one plane reads of x is still in the cache for the next.
  constexpr index_t band = 32, slab = 32;
  index_t const bands = (out.h + band - 1) / band, slabs = (out.d + slab - 1) / slab;
  std::vector<value_range> parts(std::size_t(bands * slabs));
  index_t const ahead = from.next_plane(map[0], map[4], map[8], map[5]);
  for_tasks(pool, bands * slabs, [&](index_t task) {
    index_t const first = task / bands * slab, top = task % bands * band;
    detail::running_range range;
    for (index_t d = first; d < std::min(first + slab, out.d); ++d)
      for (index_t h = top; h < std::min(top + band, out.h); ++h) {
        float base[3], step[3];
        for (std::size_t a = 0; a < 3; ++a)
          base[a] = float(map[4 * a] * double(d) + map[4 * a + 1] * double(h) + map[4 * a + 3]),
          step[a] = float(map[4 * a + 2]);
        float* const row = y + (d * out.h + h) * out.w;
        if (how.how == interpolation::nearest)
          from.nearest_line(how.beyond, base, step, out.w, row, range);
        else
          from.linear_line(how.beyond, base, step, out.w, ahead, row, range);
      }
    parts[std::size_t(task)] = range.result();
  });
  value_range all;
  for (auto const& part : parts) all.take(part);
  return all;
}

/// Volume of size `out` whose voxel o holds x at map(o), as resample_into(); where o lies in the world is kept up to date.
inline volume resample(volume const& x, extent out, index_map const& map, resample_options how = {},
                       thread_pool* pool = nullptr) {
  sampler const from(x);
  volume y = make_volume(out, 0, placed(x.to_world, map));
  resample_into(from, out, map, how, y.voxels.data(), pool);
  return y;
}

/// Parameters of one affine augmentation: radians, the six shear coefficients, factors, voxels.
struct affine_parameters {
  std::array<double, 3> rotation{0, 0, 0};
  std::array<double, 6> shear{0, 0, 0, 0, 0, 0};
  std::array<double, 3> scale{1, 1, 1};
  std::array<double, 3> translation{0, 0, 0};
};

/// Ranges: rotation U(-a, a) rad about each axis, shear coefficients 0..2 U(-b, b), scale 1 + U(-c, c) per axis,
/// translation U(-t, t) voxels. The defaults are UMBRA's.
struct affine_ranges {
  double rotation = 0.3, shear = 0.3, scale = 0.1, translation = 0;
};

/// Draws rotation, shear, scale, translation in this order, three numbers each.
inline affine_parameters draw(affine_ranges const& r, random_stream& random) {
  affine_parameters p;
  for (auto& v : p.rotation) v = random.uniform(-r.rotation, r.rotation);
  for (std::size_t i = 0; i < 3; ++i) p.shear[i] = random.uniform(-r.shear, r.shear);
  for (auto& v : p.scale) v = 1 + random.uniform(-r.scale, r.scale);
  for (auto& v : p.translation) v = random.uniform(-r.translation, r.translation);
  return p;
}

namespace detail {
using matrix3 = std::array<double, 9>;
constexpr matrix3 multiply(matrix3 const& a, matrix3 const& b) {
  matrix3 c{};
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j)
      for (std::size_t k = 0; k < 3; ++k) c[3 * i + j] += a[3 * i + k] * b[3 * k + j];
  return c;
}
}  // namespace detail

/// Row-major M = Rx(r0) Ry(r1) Rz(r2) S diag(s), S = [1 h0 h1; h2 1 h3; h4 h5 1].
/// Project-MONAI/MONAI, monai/transforms/utils.py: create_rotate, create_shear, create_scale.
inline std::array<double, 9> affine_matrix(affine_parameters const& p) {
  double const c0 = std::cos(p.rotation[0]), s0 = std::sin(p.rotation[0]);
  double const c1 = std::cos(p.rotation[1]), s1 = std::sin(p.rotation[1]);
  double const c2 = std::cos(p.rotation[2]), s2 = std::sin(p.rotation[2]);
  auto const& h = p.shear;
  detail::matrix3 const rx{1, 0, 0, 0, c0, -s0, 0, s0, c0}, ry{c1, 0, s1, 0, 1, 0, -s1, 0, c1},
      rz{c2, -s2, 0, s2, c2, 0, 0, 0, 1}, shear{1, h[0], h[1], h[2], 1, h[3], h[4], h[5], 1},
      scale{p.scale[0], 0, 0, 0, p.scale[1], 0, 0, 0, p.scale[2]};
  return detail::multiply(detail::multiply(detail::multiply(rx, ry), rz), detail::multiply(shear, scale));
}

/// The index map of an augmentation that acts about the centres of both grids:
/// q = M (o - (out - 1) / 2) + R S t + (in - 1) / 2.
inline index_map centred_map(affine_parameters const& p, extent in, extent out) {
  auto const m = affine_matrix(p);
  affine_parameters unscaled = p;
  unscaled.scale = {1, 1, 1};
  auto const rotated = affine_matrix(unscaled);
  index_map map{};
  for (std::size_t i = 0; i < 3; ++i) {
    double at = double(in[int(i)] - 1) / 2;
    for (std::size_t j = 0; j < 3; ++j) {
      map[4 * i + j] = m[3 * i + j];
      at += rotated[3 * i + j] * p.translation[j] - m[3 * i + j] * double(out[int(j)] - 1) / 2;
    }
    map[4 * i + 3] = at;
  }
  return map;
}

/// x under the augmentation, same size. Images: linear with edge values; masks: {interpolation::nearest,
/// outside::zero}.
inline volume affine_augment(volume const& x, affine_parameters const& p, resample_options how = {},
                             thread_pool* pool = nullptr) {
  return resample(x, x.size, centred_map(p, x.size, x.size), how, pool);
}

}  // namespace insula
