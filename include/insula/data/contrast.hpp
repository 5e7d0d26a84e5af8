// SPDX-License-Identifier: Apache-2.0
// Simulated image contrasts: a curve from tissue intensity to tissue intensity, the same for all subjects.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "insula/data/intensity_augment.hpp"

namespace insula {

/// What is dark, bright and background in an image whose background is its lowest intensity (raw or skull-stripped,
/// not z-scored): low = minimum, high = 99.5th percentile of the voxels above low.
struct intensity_window {
  float low = 0, high = 1;
  float range() const { return high - low; }
};

/// From a histogram of 4096 bins. A constant volume gives low = high.
inline intensity_window window_of(volume const& x) {
  auto const s = statistics(x);
  if (!(s.high > s.low)) return {s.low, s.low};
  constexpr int bins = 4096;
  std::vector<index_t> histogram(bins, 0);
  float const gain = float(bins) / (s.high - s.low);
  index_t above = 0;
  for (float v : x.voxels)
    if (v > s.low) ++histogram[std::size_t(std::clamp(int((v - s.low) * gain), 0, bins - 1))], ++above;
  index_t left = above - index_t(double(above) * 0.995);
  int bin = bins - 1;
  while (bin > 0 && left > histogram[std::size_t(bin)]) left -= histogram[std::size_t(bin)], --bin;
  return {s.low, s.low + float(bin + 1) / gain};
}

/// Values at the intensities 0, 0.2, .. 1 of a window; linear between them. The first is 0: background stays dark.
using transfer_curve = std::array<double, 6>;

/// T2-like from T1: fluid bright, grey above white matter.
inline constexpr transfer_curve t2_like{0, 0.95, 0.8, 0.55, 0.35, 0.3};
/// FLAIR-like from T1: fluid dark, grey slightly above white matter.
inline constexpr transfer_curve flair_like{0, 0.15, 0.55, 0.8, 0.65, 0.6};
/// Proton-density-like from T1: little contrast.
inline constexpr transfer_curve pd_like{0, 0.7, 0.85, 0.85, 0.7, 0.65};

/// A random curve: increasing (order of tissues kept) or with free values at the five upper knots.
inline transfer_curve draw_curve(bool monotone, random_stream& random) {
  transfer_curve c{};
  double sum = 0;
  for (std::size_t i = 1; i < c.size(); ++i) {
    double const u = random.uniform(0.1, 1);
    c[i] = monotone ? (sum += u) : u;
  }
  if (monotone)
    for (auto& v : c) v /= sum;
  return c;
}

/// x = low + range * curve((x - low) / range), the argument clamped to [0, 1].
inline void apply_curve(volume& x, transfer_curve const& curve, intensity_window const& window,
                        thread_pool* pool = nullptr) {
  constexpr int last = int(std::tuple_size_v<transfer_curve>) - 1;
  float const low = window.low, range = window.range(), gain = range > 0 ? float(last) / range : 0;
  std::array<float, std::size_t(last) + 2> y{};
  for (std::size_t i = 0; i < curve.size(); ++i) y[i] = low + range * float(curve[i]);
  y[std::size_t(last) + 1] = y[std::size_t(last)];
  map_voxels(
      x,
      [=](float v) {
        float t = (v - low) * gain;
        t = t > 0 ? t : 0, t = t < float(last) ? t : float(last);
        auto const i = std::size_t(t);
        return y[i] + (t - float(i)) * (y[i + 1] - y[i]);
      },
      pool);
}

/// A modality to simulate from another: each subject's curve has its knots (but the first) moved by U(-jitter, jitter).
struct simulated_contrast {
  std::string name, source;
  transfer_curve curve = t2_like;
  double jitter = 0.03;
};

}  // namespace insula
