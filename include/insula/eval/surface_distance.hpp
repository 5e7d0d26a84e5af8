// SPDX-License-Identifier: Apache-2.0
// Distances between the surfaces of binary segmentations: Hausdorff distance, its quantiles, and the mean.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/dims.hpp"

namespace insula {

/// Edge of a voxel per axis, in mm; distances come in the same unit.
struct voxel_edges {
  double d = 1, h = 1, w = 1;
  constexpr double operator[](int axis) const { return axis == 0 ? d : axis == 1 ? h : w; }
};

namespace detail {

/// f[q] = min over p of f[p] + edge^2 (q - p)^2 along one line: the lower envelope of parabolas (Felzenszwalb and
/// Huttenlocher 2012, doi 10.4086/toc.2012.v008a019). `f` has the given stride; infinite values have no parabola.
class distance_line {
 public:
  explicit distance_line(index_t longest)
      : at_(std::size_t(longest)), from_(std::size_t(longest)), value_(std::size_t(longest)) {}

  void run(double* f, index_t n, index_t stride, double edge) {
    double const e = edge * edge;
    std::size_t k = 0;
    for (index_t q = 0; q < n; ++q) {
      value_[std::size_t(q)] = f[q * stride];
      if (std::isinf(f[q * stride])) continue;
      double from = -std::numeric_limits<double>::infinity();
      for (; k > 0; --k) {
        index_t const p = at_[k - 1];
        from = ((f[q * stride] + e * double(q * q)) - (value_[std::size_t(p)] + e * double(p * p))) /
               (2 * e * double(q - p));
        if (from > from_[k - 1]) break;
      }
      at_[k] = q, from_[k] = k > 0 ? from : -std::numeric_limits<double>::infinity(), ++k;
    }
    if (k == 0) return;
    std::size_t j = 0;
    for (index_t q = 0; q < n; ++q) {
      while (j + 1 < k && from_[j + 1] <= double(q)) ++j;
      double const away = double(q - at_[j]);
      f[q * stride] = value_[std::size_t(at_[j])] + e * away * away;
    }
  }

 private:
  std::vector<index_t> at_;
  std::vector<double> from_, value_;
};

/// Voxels of the mask with a face neighbour outside it; what lies outside the volume is outside the mask.
inline std::vector<index_t> surface_of(extent n, std::span<std::uint8_t const> mask) {
  std::vector<index_t> surface;
  index_t i = 0;
  for (index_t d = 0; d < n.d; ++d)
    for (index_t h = 0; h < n.h; ++h)
      for (index_t w = 0; w < n.w; ++w, ++i) {
        auto const in = [&](bool inside, index_t j) { return inside && mask[std::size_t(j)] != 0; };
        if (mask[std::size_t(i)] == 0) continue;
        bool const interior = in(d > 0, i - n.h * n.w) && in(d + 1 < n.d, i + n.h * n.w) &&
                              in(h > 0, i - n.w) && in(h + 1 < n.h, i + n.w) && in(w > 0, i - 1) &&
                              in(w + 1 < n.w, i + 1);
        if (!interior) surface.push_back(i);
      }
  return surface;
}

}  // namespace detail

/// The exact Euclidean distance of every surface voxel of `from` to the nearest surface voxel of `to`; infinite where `to` is
/// empty, no number where `from` is. The surface of a mask are its voxels with a face neighbour outside it. Throws error if a
/// mask does not fill the extent.
inline std::vector<double> surface_distances(extent n, std::span<std::uint8_t const> from,
                                             std::span<std::uint8_t const> to, voxel_edges edges = {}) {
  check(index_t(from.size()) == n.size() && index_t(to.size()) == n.size(), "surface_distances: masks of ",
        from.size(), " and ", to.size(), " voxels do not fill ", n, "; bring both to one grid");
  std::vector<double> square(std::size_t(n.size()), std::numeric_limits<double>::infinity());
  for (index_t i : detail::surface_of(n, to)) square[std::size_t(i)] = 0;
  detail::distance_line line(std::max({n.d, n.h, n.w}));
  index_t const stride[3] = {n.h * n.w, n.w, 1};
  for (int a = 2; a >= 0; --a) {
    int const b = a == 0 ? 1 : 0, c = a == 2 ? 1 : 2;
    for (index_t i = 0; i < n[b]; ++i)
      for (index_t j = 0; j < n[c]; ++j)
        line.run(square.data() + i * stride[b] + j * stride[c], n[a], stride[a], edges[a]);
  }
  std::vector<double> out;
  for (index_t i : detail::surface_of(n, from)) out.push_back(std::sqrt(square[std::size_t(i)]));
  return out;
}

/// The larger of the two directed distances' q-quantiles (linear between order statistics). q = 1: the Hausdorff distance;
/// 0.95: HD95. MONAI's percentile argument is in percent, so UMBRA's percentile = 0.95 is q = 0.0095. Both masks empty: NaN;
/// one: infinite.
inline double hausdorff_distance(extent n, std::span<std::uint8_t const> prediction,
                                 std::span<std::uint8_t const> label, double q = 1, voxel_edges edges = {}) {
  check(q >= 0 && q <= 1, "hausdorff_distance: the quantile is ", q, ", it must be 0 to 1 (0.95 for HD95)");
  auto const directed = [&](auto const& a, auto const& b) {
    auto d = surface_distances(n, a, b, edges);
    if (d.empty()) return std::numeric_limits<double>::quiet_NaN();
    std::sort(d.begin(), d.end());
    double const at = q * double(d.size() - 1);
    std::size_t const i = std::size_t(at), j = std::min(i + 1, d.size() - 1);
    return d[i] == d[j] ? d[i] : d[i] + (at - double(i)) * (d[j] - d[i]);
  };
  double const there = directed(prediction, label), back = directed(label, prediction);
  return std::isnan(there) ? back : std::isnan(back) ? there : std::max(there, back);
}

/// Mean distance of the prediction's surface to the label's, one direction (MONAI compute_average_surface_distance). Both masks
/// empty: NaN; one: infinite.
inline double mean_surface_distance(extent n, std::span<std::uint8_t const> prediction,
                                    std::span<std::uint8_t const> label, voxel_edges edges = {}) {
  auto const d = surface_distances(n, prediction, label, edges);
  if (d.empty()) {
    bool const label_too = std::all_of(label.begin(), label.end(), [](std::uint8_t v) { return v == 0; });
    return label_too ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  }
  double sum = 0;
  for (double v : d) sum += v;
  return sum / double(d.size());
}

}  // namespace insula
