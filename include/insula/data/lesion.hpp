// SPDX-License-Identifier: Apache-2.0
// Simulated lesions: soft-edged ellipsoids inside a brain, with their label.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "insula/data/affine.hpp"
#include "insula/data/voxels.hpp"

namespace insula {

/// An ellipsoid in voxel coordinates: centre, half-axes along the grid, in voxels.
struct ellipsoid {
  point centre{0, 0, 0}, radius{1, 1, 1};

  /// 0 at the centre, 1 on the surface.
  double distance(point const& p) const {
    return std::hypot((p[0] - centre[0]) / radius[0], (p[1] - centre[1]) / radius[1],
                      (p[2] - centre[2]) / radius[2]);
  }
};

/// How many lesions a subject has, how large, and by what fraction of the intensity window they change an image:
/// shift[name], or other_shift for contrasts not named (a negative shift darkens).
struct lesion_options {
  int least = 0, most = 0;
  double radius_low = 3, radius_high = 8;  // millimetres
  double other_shift = 0.35;
  std::map<std::string, double> shift{};
};

/// Ellipsoid with the centroid and second moments of the voxels that differ from voxel (0, 0, 0) by more than 2 % of
/// the intensity range. All voxels if none do.
inline ellipsoid brain_ellipsoid(volume const& x) {
  auto const s = statistics(x);
  float const background = x.voxels[0], threshold = 0.02f * (s.high - s.low);
  double n = 0, sum[3] = {}, square[3] = {};
  bool const all = !(s.high > s.low);
  for (index_t d = 0; d < x.size.d; ++d)
    for (index_t h = 0; h < x.size.h; ++h) {
      double count = 0, along = 0, along2 = 0;
      float const* const row = x.voxels.data() + (d * x.size.h + h) * x.size.w;
      for (index_t w = 0; w < x.size.w; ++w)
        if (all || std::fabs(row[w] - background) > threshold)
          count += 1, along += double(w), along2 += double(w) * double(w);
      n += count, sum[0] += count * double(d), sum[1] += count * double(h), sum[2] += along;
      square[0] += count * double(d * d), square[1] += count * double(h * h), square[2] += along2;
    }
  ellipsoid e;
  for (std::size_t a = 0; a < 3; ++a) {
    e.centre[a] = sum[a] / n;
    e.radius[a] = std::max(1.0, std::sqrt(5 * std::max(0.0, square[a] / n - e.centre[a] * e.centre[a])));
  }
  return e;
}

/// Lesions centred on voxels of x brighter than `threshold`, between 0.2 and 0.8 of the way from the brain's centre to its
/// surface. A lesion that finds no place in 1000 tries is left out.
inline std::vector<ellipsoid> draw_lesions(volume const& x, ellipsoid const& brain, float threshold,
                                           lesion_options const& o, random_stream& random) {
  check(o.least >= 0 && o.most >= o.least && o.radius_low > 0 && o.radius_high >= o.radius_low,
        "lesion_options: ", o.least, " to ", o.most, " lesions of ", o.radius_low, " to ", o.radius_high,
        " mm: ranges must be ordered and radii positive");
  point const mm = spacing(x.to_world);
  std::vector<ellipsoid> lesions;
  index_t const count = o.least + random.below(o.most - o.least + 1);
  for (index_t i = 0; i < count; ++i)
    for (int attempt = 0; attempt < 1000; ++attempt) {
      extent at;
      for (int a = 0; a < 3; ++a) at[a] = random.below(x.size[a]);
      point const centre{double(at.d), double(at.h), double(at.w)};
      double const depth = brain.distance(centre);
      if (depth < 0.2 || depth > 0.8 || !(x.at(at.d, at.h, at.w) > threshold)) continue;
      double const radius = random.uniform(o.radius_low, o.radius_high);
      ellipsoid e{.centre = centre};
      for (std::size_t a = 0; a < 3; ++a) e.radius[a] = radius * random.uniform(0.7, 1.3) / mm[a];
      lesions.push_back(e);
      break;
    }
  return lesions;
}

/// f(voxel index, distance) for the voxels of a grid in the box around the ellipsoid grown by 1.2.
template <class F>
void for_voxels_near(ellipsoid const& e, extent n, F&& f) {
  index_t low[3], high[3];
  for (std::size_t a = 0; a < 3; ++a) {
    low[a] = std::max<index_t>(0, index_t(std::floor(e.centre[a] - 1.2 * e.radius[a])));
    high[a] = std::min<index_t>(n[int(a)] - 1, index_t(std::ceil(e.centre[a] + 1.2 * e.radius[a])));
  }
  for (index_t d = low[0]; d <= high[0]; ++d)
    for (index_t h = low[1]; h <= high[1]; ++h)
      for (index_t w = low[2]; w <= high[2]; ++w)
        f(std::size_t((d * n.h + h) * n.w + w), e.distance({double(d), double(h), double(w)}));
}

/// Adds `shift` inside, falling linearly to 0 between the distances 0.8 and 1.2. Voxels at or below `background` stay as
/// they are, no other is darkened below `floor`.
inline void paint_lesion(volume& x, ellipsoid const& e, float shift, float background, float floor) {
  for_voxels_near(e, x.size, [&](std::size_t i, double r) {
    float& v = x.voxels[i];
    if (v > background)
      v = std::max(v + shift * float(std::clamp((1.2 - r) / 0.4, 0.0, 1.0)), std::min(v, floor));
  });
}

/// Sets 1 where the distance is at most 1 and `seen`, on the same grid, is above its background.
inline void label_lesion(volume& labels, ellipsoid const& e, volume const& seen, float background) {
  for_voxels_near(e, labels.size, [&](std::size_t i, double r) {
    if (r <= 1 && seen.voxels[i] > background) labels.voxels[i] = 1;
  });
}

}  // namespace insula
