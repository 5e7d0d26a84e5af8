// SPDX-License-Identifier: Apache-2.0
// Smooth invertible deformations: velocity fields on a coarse lattice, their flow, and volumes warped by it.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "insula/data/affine.hpp"
#include "insula/data/affine_augment.hpp"
#include "insula/data/intensity_augment.hpp"
#include "insula/data/smooth.hpp"

namespace insula {

/// Three components on nodes that span a grid of `size` voxels: node i of axis a lies at voxel i * step[a], the first
/// and the last node on the first and the last voxel.
struct lattice {
  extent size;
  extent nodes;
  point step{1, 1, 1};
  std::vector<float> value[3];

  std::size_t at(index_t d, index_t h, index_t w) const {
    return std::size_t((d * nodes.h + h) * nodes.w + w);
  }
};

/// A lattice of zeros whose nodes are at most `spacing` voxels apart, per axis.
inline lattice make_lattice(extent size, point const& spacing) {
  lattice l;
  l.size = size;
  for (int a = 0; a < 3; ++a) {
    check(size[a] >= 1 && spacing[std::size_t(a)] > 0, "make_lattice: axis ", a, " has ", size[a],
          " voxels and nodes every ", spacing[std::size_t(a)], ", both must be positive");
    double const span = double(size[a] - 1);
    l.nodes[a] = 1 + index_t(std::ceil(span / spacing[std::size_t(a)]));
    l.step[std::size_t(a)] = l.nodes[a] > 1 ? span / double(l.nodes[a] - 1) : 1;
  }
  for (auto& v : l.value) v.assign(std::size_t(l.nodes.size()), 0.0f);
  return l;
}

/// Trilinear value of the lattice at a voxel position, clamped to the grid.
inline point value_at(lattice const& l, point const& p) {
  index_t low[3], high[3];
  double t[3];
  for (int a = 0; a < 3; ++a) {
    double const q = std::clamp(p[std::size_t(a)] / l.step[std::size_t(a)], 0.0, double(l.nodes[a] - 1));
    low[a] = std::min(index_t(q), std::max<index_t>(l.nodes[a] - 2, 0)),
    high[a] = std::min(low[a] + 1, l.nodes[a] - 1);
    t[a] = q - double(low[a]);
  }
  point r{};
  for (int c = 0; c < 8; ++c) {
    double const w = ((c & 4) ? t[0] : 1 - t[0]) * ((c & 2) ? t[1] : 1 - t[1]) * ((c & 1) ? t[2] : 1 - t[2]);
    std::size_t const i =
        l.at((c & 4) ? high[0] : low[0], (c & 2) ? high[1] : low[1], (c & 1) ? high[2] : low[2]);
    for (std::size_t k = 0; k < 3; ++k) r[k] += w * double(l.value[k][i]);
  }
  return r;
}

/// f(node index, voxel position of the node) for all nodes.
template <class F>
void for_nodes(lattice const& l, F&& f) {
  for (index_t d = 0; d < l.nodes.d; ++d)
    for (index_t h = 0; h < l.nodes.h; ++h)
      for (index_t w = 0; w < l.nodes.w; ++w)
        f(l.at(d, h, w), point{double(d) * l.step[0], double(h) * l.step[1], double(w) * l.step[2]});
}

/// A random velocity field in voxels per unit of time: white noise on the nodes, smoothed with a Gaussian of standard
/// deviation `scale_mm`, its largest speed set to `amplitude_mm`. voxel_mm are the voxel's edges.
inline lattice smooth_velocity(extent size, point const& voxel_mm, double amplitude_mm, double scale_mm,
                               random_key key) {
  check(scale_mm > 0 && amplitude_mm >= 0, "smooth_velocity: scale ", scale_mm, " mm and amplitude ",
        amplitude_mm, " mm; the scale must be positive, the amplitude not negative");
  constexpr double most_mm = 8;  // fine enough for the other maps that share the lattice
  double const node_mm = std::min(scale_mm / 2, most_mm);
  lattice v = make_lattice(size, {node_mm / voxel_mm[0], node_mm / voxel_mm[1], node_mm / voxel_mm[2]});
  for (std::size_t k = 0; k < 3; ++k) {
    volume noise = make_volume(v.nodes);
    gaussian_noise(noise, 1, key.with(key.sub + std::uint32_t(k)));
    std::array<double, 3> sigma{};
    for (std::size_t a = 0; a < 3; ++a) sigma[a] = scale_mm / (v.step[a] * voxel_mm[a]);
    v.value[k] = smooth(noise, sigma).voxels;
  }
  double fastest = 0;
  for (std::size_t i = 0; i < v.value[0].size(); ++i)
    fastest =
        std::max(fastest, std::hypot(double(v.value[0][i]), double(v.value[1][i]), double(v.value[2][i])));
  for (std::size_t k = 0; k < 3; ++k)
    for (auto& x : v.value[k]) x *= float(fastest > 0 ? amplitude_mm / fastest / voxel_mm[k] : 0);
  return v;
}

/// Displacements u (voxels) of the flow of a stationary velocity field for one unit of time, by scaling and squaring:
/// u = v / 2^7, then seven times u = u + u(id + u). No displacement exceeds the largest speed.
/// Arsigny et al., "A log-Euclidean framework for statistics on diffeomorphisms", MICCAI 2006.
inline lattice flow(lattice velocity) {
  constexpr int squarings = 7;
  for (auto& component : velocity.value)
    for (auto& x : component) x *= 1.0f / float(1 << squarings);
  for (int i = 0; i < squarings; ++i) {
    lattice const u = velocity;
    for_nodes(u, [&](std::size_t n, point const& p) {
      point const there = value_at(
          u, {p[0] + double(u.value[0][n]), p[1] + double(u.value[1][n]), p[2] + double(u.value[2][n])});
      for (std::size_t k = 0; k < 3; ++k) velocity.value[k][n] += float(there[k]);
    });
  }
  return velocity;
}

/// Smallest and largest Jacobian determinant of a map whose values are source positions, over the corners and the
/// centre of every lattice cell. Axes of one node count as unchanged.
struct jacobian_range {
  double low = 1, high = 1;
};
inline jacobian_range jacobians(lattice const& map) {
  jacobian_range r{.low = 1e300, .high = -1e300};
  extent const n = map.nodes;
  auto const cells = [](index_t nodes) { return std::max<index_t>(nodes - 1, 1); };
  double edge[3][8]
             [3];  // [axis][corner]: change of the map along the cell's edge that runs through the corner
  auto const judge = [&](point const& a, point const& b, point const& c) {
    double const det = a[0] * (b[1] * c[2] - b[2] * c[1]) - b[0] * (a[1] * c[2] - a[2] * c[1]) +
                       c[0] * (a[1] * b[2] - a[2] * b[1]);
    r.low = std::min(r.low, det), r.high = std::max(r.high, det);
  };
  for (index_t d = 0; d < cells(n.d); ++d)
    for (index_t h = 0; h < cells(n.h); ++h)
      for (index_t w = 0; w < cells(n.w); ++w) {
        std::size_t corner[8];
        for (int c = 0; c < 8; ++c)
          corner[c] = map.at(std::min(d + (c >> 2), n.d - 1), std::min(h + (c >> 1 & 1), n.h - 1),
                             std::min(w + (c & 1), n.w - 1));
        point middle[3]{};
        for (int axis = 0; axis < 3; ++axis)
          for (int c = 0; c < 8; ++c)
            for (std::size_t k = 0; k < 3; ++k) {
              int const bit = 4 >> axis;
              double const change =
                  n[axis] < 2
                      ? (k == std::size_t(axis) ? 1.0 : 0.0)
                      : (double(map.value[k][corner[c | bit]]) - double(map.value[k][corner[c & ~bit]])) /
                            map.step[std::size_t(axis)];
              edge[axis][c][k] = change, middle[axis][k] += change / 8;
            }
        auto const at = [&](int axis, int c) {
          return point{edge[axis][c][0], edge[axis][c][1], edge[axis][c][2]};
        };
        for (int c = 0; c < 8; ++c) judge(at(0, c), at(1, c), at(2, c));
        judge(middle[0], middle[1], middle[2]);
      }
  return r;
}

/// x at the source positions of `map`: a volume of map.size placed by to_world. Images: linear with edge values;
/// labels: {interpolation::nearest, outside::zero}.
inline volume warp(volume const& x, lattice const& map, affine const& to_world, resample_options how = {},
                   thread_pool* pool = nullptr) {
  extent const out = map.size, n = map.nodes;
  sampler const from(x);
  volume y = make_volume(out, 0, to_world);
  index_t const wide = (out.w + lanes - 1) / lanes * lanes;
  std::vector<int> cell(static_cast<std::size_t>(wide), 0);
  std::vector<float> part(std::size_t(wide), 0.0f);  // position of each voxel of a row inside its cell
  for (index_t w = 0; w < out.w; ++w) {
    double const q = double(w) / map.step[2];
    cell[std::size_t(w)] = int(std::min(index_t(q), std::max<index_t>(n.w - 2, 0)));
    part[std::size_t(w)] = float(q - double(cell[std::size_t(w)]));
  }
  for_tasks(pool, out.d, [&](index_t d) {
    auto const split = [&](index_t i, int a) {
      double const q = double(i) / map.step[std::size_t(a)];
      index_t const low = std::min(index_t(q), std::max<index_t>(n[a] - 2, 0));
      return std::pair{low, float(q - double(low))};
    };
    std::vector<float> row(
        std::size_t(3 * (n.w + 1)));  // the lattice along this row of voxels, one more node at its end
    auto const [d0, td] = split(d, 0);
    index_t const d1 = std::min(d0 + 1, n.d - 1);
    for (index_t h = 0; h < out.h; ++h) {
      auto const [h0, th] = split(h, 1);
      index_t const h1 = std::min(h0 + 1, n.h - 1);
      for (std::size_t k = 0; k < 3; ++k) {
        float* const r = row.data() + index_t(k) * (n.w + 1);
        for (index_t w = 0; w < n.w; ++w) {
          float const a = map.value[k][map.at(d0, h0, w)], b = map.value[k][map.at(d0, h1, w)];
          float const c = map.value[k][map.at(d1, h0, w)], e = map.value[k][map.at(d1, h1, w)];
          r[w] = (1 - td) * ((1 - th) * a + th * b) + td * ((1 - th) * c + th * e);
        }
        r[n.w] = r[n.w - 1];
      }
      float* const to = &y.at(d, h, 0);
      for (index_t w = 0; w < out.w; w += lanes) {
        float q[3][lanes], values[lanes];
        for (int k = 0; k < 3; ++k) {
          float const* const r = row.data() + k * (n.w + 1);
          for (int l = 0; l < lanes; ++l) {
            float const* const node = r + cell[std::size_t(w + l)];
            q[k][l] = node[0] + part[std::size_t(w + l)] * (node[1] - node[0]);
          }
        }
        int const count = int(std::min<index_t>(lanes, out.w - w));
        if (how.how == interpolation::nearest) {
          for (int l = 0; l < count; ++l) to[w + l] = from.nearest(how.beyond, q[0][l], q[1][l], q[2][l]);
        } else {
          from.linear(how.beyond, q, values);
          for (int l = 0; l < count; ++l) to[w + l] = values[l];
        }
      }
    }
  });
  return y;
}

}  // namespace insula
