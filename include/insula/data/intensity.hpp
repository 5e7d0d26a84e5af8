// SPDX-License-Identifier: Apache-2.0
// Intensity normalisation: percentiles, clipping, z-score and min-max.
#pragma once

#include <algorithm>
#include <cmath>

#include "insula/data/volume.hpp"

namespace insula {

/// Which voxels an operation measures and changes.
enum class voxels_over { nonzero, all };

/// The q-th percentile, 0 <= q <= 100, interpolated linearly between order statistics: position q/100 (n - 1) in the sorted
/// values (NumPy's default). Reorders `values`. Throws error if there are none, or if one is NaN.
inline double percentile(std::vector<float>& values, double q) {
  check(q >= 0 && q <= 100, "percentile: q is ", q, ", it must be 0 to 100");
  check(!values.empty(), "percentile: there are no values");
  check(std::none_of(values.begin(), values.end(), [](float x) { return x != x; }),
        "percentile: a value is NaN: replace it first (replace_nonfinite)");
  double const at = q / 100 * double(values.size() - 1);
  auto const below = std::size_t(at);
  auto const low = values.begin() + index_t(below);
  std::nth_element(values.begin(), low, values.end());
  double const t = at - double(below), a = double(*low);
  if (t == 0) return a;
  double const b = double(*std::min_element(low + 1, values.end()));
  return a + (b - a) * t;
}

/// The values an operation over `which` sees.
inline std::vector<float> values_of(volume const& v, voxels_over which) {
  if (which == voxels_over::all) return v.voxels;
  std::vector<float> s;
  s.reserve(v.voxels.size());
  for (float const x : v.voxels)
    if (x != 0) s.push_back(x);
  return s;
}

/// Clamps the chosen voxels to their own `low` and `high` percentiles; the others stay. Nothing chosen: nothing changes.
/// (UMBRA: 0.5 and 99.5 over the non-zero voxels.)
inline void clip_percentiles(volume& v, double low = 0.5, double high = 99.5,
                             voxels_over which = voxels_over::nonzero) {
  check(low <= high, "clip_percentiles: low is ", low, ", high is ", high, "; low must not exceed high");
  std::vector<float> s = values_of(v, which);
  if (s.empty()) return;
  auto const a = float(percentile(s, low)), b = float(percentile(s, high));
  for (float& x : v.voxels)
    if (which == voxels_over::all || x != 0) x = std::clamp(x, a, b);
}

namespace detail {

/// Gives the voxels that `chosen(i)` picks mean 0 and biased deviation 1; sums in double and in two passes. Voxel i changes
/// after the last call of chosen(i), which may therefore look at it.
template <class Chosen>
void standardise(volume& v, Chosen chosen) {
  double sum = 0, squares = 0;
  index_t n = 0;
  for (std::size_t i = 0; i < v.voxels.size(); ++i)
    sum += chosen(i) ? double(v.voxels[i]) : 0, n += chosen(i);
  if (n == 0) return;
  double const mean = sum / double(n);
  for (std::size_t i = 0; i < v.voxels.size(); ++i) {
    double const x = chosen(i) ? double(v.voxels[i]) - mean : 0;
    squares += x * x;
  }
  double const deviation = std::sqrt(squares / double(n)), divisor = deviation > 0 ? deviation : 1;
  for (std::size_t i = 0; i < v.voxels.size(); ++i)
    if (chosen(i)) v.voxels[i] = float((double(v.voxels[i]) - mean) / divisor);
}

}  // namespace detail

/// x <- (x - mean) / deviation for the chosen voxels, mean and biased deviation over the same voxels; a deviation of 0
/// divides by 1; the other voxels stay. Throws error if a chosen voxel is not finite.
inline void z_score(volume& v, voxels_over which = voxels_over::nonzero) {
  for (float const x : v.voxels)
    check(std::isfinite(x), "z_score: a voxel is ", x, ": replace it first (replace_nonfinite)");
  if (which == voxels_over::all) return detail::standardise(v, [](std::size_t) { return true; });
  detail::standardise(v, [&](std::size_t i) { return v.voxels[i] != 0; });
}

/// The same over the voxels where `mask` is greater than 0; voxels outside it become 0. Throws error if the sizes differ or a
/// voxel inside is not finite.
inline void z_score(volume& v, volume const& mask) {
  check(v.size == mask.size && v.voxels.size() == mask.voxels.size(), "z_score: the image has ", v.size,
        " voxels, the mask ", mask.size, ": resample the mask onto the image");
  for (std::size_t i = 0; i < v.voxels.size(); ++i) {
    if (!(mask.voxels[i] > 0)) v.voxels[i] = 0;
    check(std::isfinite(v.voxels[i]), "z_score: a voxel inside the mask is ", v.voxels[i],
          ": replace it first (replace_nonfinite)");
  }
  detail::standardise(v, [&](std::size_t i) { return mask.voxels[i] > 0; });
}

/// The normalisation of 3D-Neuro-SimCLR, with the mask m as weights (0 and 1 in practice):
///   v = x m,  n = max(sum m, 1),  mean = sum v / n,  deviation = sqrt(sum v^2 / n - mean^2 + 1e-12),
///   y = (v - mean) / deviation * m.
/// Sums in double. y may be x. Voxels that are not finite spread as in the published code: the caller looks at
/// masked_statistics::usable. emilykaczmarek/3D-Neuro-SimCLR, datasets/t1_datasets.py.
struct masked_statistics {
  double mean = 0, deviation = 0;
  bool usable = false;  ///< y is finite everywhere and not all 0
};
inline masked_statistics masked_z_score(index_t n, float const* x, float const* m, float* y) {
  constexpr int chains = 8;
  double weight[chains] = {}, sum[chains] = {}, squares[chains] = {};
  auto const add = [&](index_t i, int l) {
    double const v = double(x[i] * m[i]);
    weight[l] += double(m[i]), sum[l] += v, squares[l] += v * v;
  };
  index_t i = 0;
  for (; i + chains <= n; i += chains)
    for (int l = 0; l < chains; ++l) add(i + l, l);
  for (; i < n; ++i) add(i, 0);
  for (int l = 1; l < chains; ++l) weight[0] += weight[l], sum[0] += sum[l], squares[0] += squares[l];
  double const count = std::max(weight[0], 1.0), mean = sum[0] / count;
  masked_statistics s{mean, std::sqrt(squares[0] / count - mean * mean + 1e-12), false};
  auto const centre = float(s.mean), gain = float(1 / s.deviation);
  float most[chains] = {}, poison[chains] = {};  // 0 * v is NaN where v is not finite
  auto const write = [&](index_t k, int l) {
    float const v = (x[k] * m[k] - centre) * gain * m[k];
    y[k] = v;
    most[l] = std::max(most[l], std::fabs(v)), poison[l] += v * 0.0f;
  };
  for (i = 0; i + chains <= n; i += chains)
    for (int l = 0; l < chains; ++l) write(i + l, l);
  for (; i < n; ++i) write(i, 0);
  for (int l = 1; l < chains; ++l) most[0] = std::max(most[0], most[l]), poison[0] += poison[l];
  s.usable = poison[0] == 0 && most[0] > 0;
  return s;
}
/// The same, in place. Throws error if the sizes differ.
inline masked_statistics masked_z_score(volume& v, volume const& mask) {
  check(v.size == mask.size && v.voxels.size() == mask.voxels.size(), "masked_z_score: the image has ",
        v.size, " voxels, the mask ", mask.size, ": resample the mask onto the image");
  return masked_z_score(v.count(), v.voxels.data(), mask.voxels.data(), v.voxels.data());
}

/// Maps the chosen voxels linearly so that their least becomes `low` and their greatest `high`; the others stay. If all are
/// equal they become `low`. Throws error if a voxel is not finite.
inline void min_max(volume& v, double low = 0, double high = 1, voxels_over which = voxels_over::all) {
  check(std::isfinite(low) && std::isfinite(high) && low < high, "min_max: the range is ", low, " to ", high,
        "; low must be less than high");
  double least = HUGE_VAL, most = -HUGE_VAL;
  for (float const x : v.voxels) {
    check(std::isfinite(x), "min_max: a voxel is ", x, ": replace it first (replace_nonfinite)");
    if (which == voxels_over::all || x != 0)
      least = std::min(least, double(x)), most = std::max(most, double(x));
  }
  double const scale = most > least ? (high - low) / (most - least) : 0;
  for (float& x : v.voxels)
    if (which == voxels_over::all || x != 0) x = float(low + (double(x) - least) * scale);
}

/// Sets NaN and infinite voxels to `value` and gives their number.
inline index_t replace_nonfinite(volume& v, float value = 0) {
  index_t n = 0;
  for (float& x : v.voxels)
    if (!std::isfinite(x)) x = value, ++n;
  return n;
}

}  // namespace insula
