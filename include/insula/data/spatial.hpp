// SPDX-License-Identifier: Apache-2.0
// Resampling to a voxel size or onto another grid, and the brain's bounding box; every voxel keeps its place in the world.
#pragma once

#include <algorithm>

#include "insula/data/affine.hpp"
#include "insula/data/crop.hpp"

namespace insula {

namespace detail {

/// Where the outputs of one axis sample: two neighbours and the weight of the second.
struct axis_taps {
  std::vector<index_t> low, high;
  std::vector<float> weight;
};

inline constexpr double half = 0.5 + 1e-9;  // ties of nearest go up, whatever the rounding

/// Output o of m samples the input at clamp((o - (m-1)/2) ratio + (n-1)/2, 0, n-1): the centres of the two grids coincide.
inline axis_taps centred_taps(index_t n, index_t m, double ratio, interpolation how) {
  axis_taps t;
  for (index_t o = 0; o < m; ++o) {
    double at = (double(o) - double(m - 1) / 2) * ratio + double(n - 1) / 2;
    at = std::clamp(at, 0.0, double(n - 1));
    // Rounding must not give the neighbour of an exact sample a weight: zeros would not stay zero.
    if (double const whole = std::round(at); std::abs(at - whole) < 1e-9) at = whole;
    if (how == interpolation::nearest) at = std::floor(at + half);
    auto const low = std::min(index_t(at), n - 1);
    t.low.push_back(low), t.high.push_back(std::min(low + 1, n - 1));
    t.weight.push_back(float(at - double(low)));
  }
  return t;
}

/// Separable sampling: four rows are blended into one, which is then sampled along w.
inline void sample_separable(volume const& in, volume& out, axis_taps const (&t)[3]) {
  std::vector<float> row(std::size_t(in.size.w));
  auto const at = [&](index_t d, index_t h) { return in.voxels.data() + (d * in.size.h + h) * in.size.w; };
  float* to = out.voxels.data();
  for (std::size_t d = 0; d < std::size_t(out.size.d); ++d)
    for (std::size_t h = 0; h < std::size_t(out.size.h); ++h) {
      float const *a = at(t[0].low[d], t[1].low[h]), *b = at(t[0].low[d], t[1].high[h]);
      float const *c = at(t[0].high[d], t[1].low[h]), *e = at(t[0].high[d], t[1].high[h]);
      float const u = t[0].weight[d], v = t[1].weight[h];
      if (u == 0 && v == 0)  // also keeps NaN neighbours out of exact samples
        std::copy_n(a, in.size.w, row.begin());
      else
        for (std::size_t w = 0; w < row.size(); ++w)
          row[w] = (1 - u) * ((1 - v) * a[w] + v * b[w]) + u * ((1 - v) * c[w] + v * e[w]);
      for (std::size_t w = 0; w < std::size_t(out.size.w); ++w) {
        float const s = t[2].weight[w], low = row[std::size_t(t[2].low[w])];
        *to++ = s == 0 ? low : (1 - s) * low + s * row[std::size_t(t[2].high[w])];
      }
    }
}

}  // namespace detail

/// The volume on voxels of `target` millimetres. An axis of n voxels of s mm gets max(1, round(n s / target)) voxels; the
/// centre of the image stays where it is in the world, so voxel centres lie within half a voxel of where a rescaled field of
/// view would put them. Beyond the outermost voxel centres the border value is repeated. Axes, shear included, keep their
/// directions. An axis whose voxel size is `target` to within 1e-6 of it is left as it is.
/// There is no smoothing: shrink by more than about two only what is smooth. Throws error for sizes that are no numbers.
inline volume resample_to_spacing(volume const& v, point const& target,
                                  interpolation how = interpolation::linear) {
  check(v.count() > 0, "resample_to_spacing: the volume has no voxels (", v.size, ")");
  point const have = spacing(v.to_world);
  volume out;
  detail::axis_taps taps[3];
  affine steps = identity_affine;
  double wanted = 1;
  for (int i = 0; i < 3; ++i) {
    auto const k = std::size_t(i);
    check(std::isfinite(target[k]) && target[k] > 0, "resample_to_spacing: the voxel size of axis ", i,
          " is ", target[k], " mm, it must be positive");
    double const exact = target[k] / have[k];
    check(std::isfinite(exact) && exact > 0, "resample_to_spacing: the volume's voxel size of axis ", i,
          " is ", have[k], " mm: its affine is broken");
    double const ratio = std::abs(exact - 1) <= 1e-6 ? 1 : exact;
    double const n = std::max(1.0, std::round(double(v.size[i]) / ratio));
    wanted *= n;
    check(wanted < 1e10, "resample_to_spacing: voxels of ", target[0], " x ", target[1], " x ", target[2],
          " mm would be ", wanted, " along the first ", i + 1, " axes of a volume of ", v.size,
          ": choose larger ones");
    out.size[i] = index_t(n);
    taps[i] = detail::centred_taps(v.size[i], out.size[i], ratio, how);
    steps[k * 4 + k] = ratio;
    steps[k * 4 + 3] = double(v.size[i] - 1) / 2 - double(out.size[i] - 1) / 2 * ratio;
  }
  if (out.size == v.size && steps == identity_affine) return v;
  out.to_world = multiply(v.to_world, steps);
  out.voxels.resize(std::size_t(out.count()));
  detail::sample_separable(v, out, taps);
  return out;
}

/// The volume sampled on another grid, through the world: out(o) = v(inverse(v.to_world) to_world o). Up to half a voxel
/// outside the outermost centres the border is repeated, further out the result is `outside`. This brings a prediction back
/// to the grid of the scan it came from. Throws error for a singular affine.
inline volume resample_onto(volume const& v, extent size, affine const& to_world,
                            interpolation how = interpolation::linear, float outside = 0) {
  check(v.count() > 0 && size.d > 0 && size.h > 0 && size.w > 0, "resample_onto: from ", v.size, " to ", size,
        " voxels; every axis needs at least one");
  affine const m = multiply(inverse(v.to_world), to_world);
  volume out = make_volume(size, outside, to_world);
  constexpr double slack = 0.5 + 1e-6;  // voxels
  float* to = out.voxels.data();
  for (index_t d = 0; d < size.d; ++d)
    for (index_t h = 0; h < size.h; ++h)
      for (index_t w = 0; w < size.w; ++w, ++to) {
        point const p = map_point(m, {double(d), double(h), double(w)});
        index_t low[3], high[3];
        double t[3];
        bool inside = true;
        for (int i = 0; i < 3; ++i) {
          double const last = double(v.size[i] - 1), raw = p[std::size_t(i)];
          inside = inside && raw >= -slack && raw <= last + slack;
          if (!inside) break;
          double x = std::clamp(raw, 0.0, last);
          if (double const whole = std::round(x); how == interpolation::nearest || std::abs(x - whole) < 1e-9)
            x = how == interpolation::nearest ? std::floor(x + detail::half) : whole;
          low[i] = std::min(index_t(x), v.size[i] - 1), high[i] = std::min(low[i] + 1, v.size[i] - 1);
          t[i] = x - double(low[i]);
        }
        if (!inside) continue;
        double sum = 0;
        for (int corner = 0; corner < 8; ++corner) {
          double weight = 1;
          for (int i = 0; i < 3; ++i) weight *= corner >> i & 1 ? t[i] : 1 - t[i];
          if (weight != 0)
            sum += weight * double(v.at(corner & 1 ? high[0] : low[0], corner & 2 ? high[1] : low[1],
                                        corner & 4 ? high[2] : low[2]));
        }
        *to = float(sum);
      }
  return out;
}

/// The smallest box around all voxels that are neither 0 nor NaN, grown by `margin` voxels and clipped to the volume.
/// Throws error if there are none.
inline box brain_box(volume const& v, index_t margin = 0) {
  check(margin >= 0, "brain_box: the margin is ", margin, " voxels, it must not be negative");
  extent low = v.size, high{-1, -1, -1};
  auto const brain = [](float x) { return x != 0 && x == x; };
  for (index_t d = 0; d < v.size.d; ++d)
    for (index_t h = 0; h < v.size.h; ++h) {
      float const* const row = v.voxels.data() + (d * v.size.h + h) * v.size.w;
      index_t first = 0, last = v.size.w - 1;
      while (first <= last && !brain(row[first])) ++first;
      if (first > last) continue;
      while (!brain(row[last])) --last;
      low.d = std::min(low.d, d), high.d = d;  // d runs outermost, so it only grows
      low.h = std::min(low.h, h), high.h = std::max(high.h, h);
      low.w = std::min(low.w, first), high.w = std::max(high.w, last);
    }
  check(high.d >= 0, "brain_box: all ", v.count(), " voxels are zero or NaN: is this a brain image?");
  box b;
  for (int i = 0; i < 3; ++i) {
    b.from[i] = std::max<index_t>(0, low[i] - margin);
    b.size[i] = std::min(v.size[i], high[i] + 1 + std::min(margin, v.size[i])) - b.from[i];
  }
  return b;
}

/// Crops to brain_box(v, margin).
inline volume crop_to_brain(volume const& v, index_t margin = 0) { return crop(v, brain_box(v, margin)); }

/// Crops axes longer than `size` about their middle (centre_crop's corner) and leaves shorter ones.
inline volume crop_to_most(volume const& v, extent size) {
  for (int i = 0; i < 3; ++i) size[i] = std::min(size[i], v.size[i]);
  return size == v.size ? v : centre_crop(v, size);
}

}  // namespace insula
