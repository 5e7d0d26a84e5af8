// SPDX-License-Identifier: Apache-2.0
// Inference on whole volumes by overlapping windows, with the results of one row of windows in memory at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/dims.hpp"
#include "insula/base/scalar.hpp"

namespace insula {

/// How overlapping windows are weighed: alike, or by a Gaussian about the window's centre (sigma = roi / 8 per axis).
enum class window_blend { constant, gaussian };

struct sliding_window_options {
  extent roi = cube(96);  ///< voxels of a window
  double overlap = 0.25;  ///< of neighbouring windows, as a share of the roi; 0 to below 1
  window_blend blend = window_blend::constant;
  index_t batch = 1;  ///< windows given to the network at once
};

/// Where windows start on an axis of n >= roi voxels: steps of max(int(roi (1 - overlap)), 1), the last moved back to end at
/// the border (MONAI 1.5 monai/inferers/utils.py).
inline std::vector<index_t> window_starts(index_t n, index_t roi, double overlap) {
  index_t const step = roi == n ? roi : std::max<index_t>(index_t(double(roi) * (1 - overlap)), 1);
  std::vector<index_t> starts;
  for (index_t s = 0;; s += step) {
    starts.push_back(std::min(s, n - roi));
    if (s + roi >= n) return starts;
  }
}

/// Weight of every voxel of a window. Gaussian: g(u) = exp(-u^2 / (2 sigma^2)) per axis about the centre, sigma = 0.125 roi,
/// multiplied over the axes, then at least max(smallest, 1e-3).
template <class T>
std::vector<T> window_weights(extent roi, window_blend blend) {
  std::vector<T> w(std::size_t(roi.size()), T(1));
  if (blend == window_blend::constant) return w;
  std::vector<double> axis[3];
  for (int a = 0; a < 3; ++a)
    for (index_t i = 0; i < roi[a]; ++i) {
      double const u = double(i) - double(roi[a] - 1) / 2, sigma = 0.125 * double(roi[a]);
      axis[a].push_back(std::exp(-u * u / (2 * sigma * sigma)));
    }
  double const smallest = axis[0][0] * axis[1][0] * axis[2][0], floor = std::max(smallest, 1e-3);
  std::size_t i = 0;
  for (double d : axis[0])
    for (double h : axis[1])
      for (double v : axis[2]) w[i++] = T(std::max(d * h * v, floor));
  return w;
}

namespace detail {

/// The sums of one row of windows: roi.d planes of the padded volume, which move on with the windows.
template <class T>
class window_slab {
 public:
  window_slab(extent roi, extent padded, index_t channels, window_blend blend)
      : roi_(roi),
        plane_(padded.h * padded.w),
        width_(padded.w),
        channels_(channels),
        weight_(window_weights<T>(roi, blend)),
        sum_(std::size_t(roi.d * plane_ * channels)),
        total_(std::size_t(roi.d * plane_)) {}

  /// sum += w y, total += w for a window of results y (roi, channels) at row h, column v.
  void add(index_t h, index_t v, T const* y) {
    std::size_t i = 0;
    for (index_t d = 0; d < roi_.d; ++d)
      for (index_t r = 0; r < roi_.h; ++r)
        for (index_t c = 0; c < roi_.w; ++c, ++i) {
          std::size_t const at = std::size_t(d * plane_ + (h + r) * width_ + v + c);
          total_[at] += weight_[i];
          for (std::size_t k = 0; k < std::size_t(channels_); ++k)
            sum_[at * std::size_t(channels_) + k] += weight_[i] * y[i * std::size_t(channels_) + k];
        }
  }
  /// Plane d of the slab, rows from `first` of `n`: sum / total.
  void read(index_t d, extent first, extent n, T* y) const {
    for (index_t r = 0; r < n.h; ++r)
      for (index_t c = 0; c < n.w; ++c) {
        std::size_t const at = std::size_t(d * plane_ + (first.h + r) * width_ + first.w + c);
        for (index_t k = 0; k < channels_; ++k)
          *y++ = sum_[at * std::size_t(channels_) + std::size_t(k)] / total_[at];
      }
  }
  /// Drops the first planes; as many empty ones follow.
  void move_on(index_t planes) { shift(sum_, planes * plane_ * channels_), shift(total_, planes * plane_); }

 private:
  static void shift(std::vector<T>& v, index_t n) {
    std::fill(std::copy(v.begin() + n, v.end(), v.begin()), v.end(), T(0));
  }
  extent roi_;
  index_t plane_, width_, channels_;
  std::vector<T> weight_, sum_, total_;
};

/// The roi of x (n, channels) that starts at `at`, which may be outside: zeros there.
template <class T>
void copy_window(extent n, index_t channels, T const* x, extent at, extent roi, T* y) {
  std::fill_n(y, roi.size() * channels, T(0));
  index_t const first = std::max<index_t>(-at.w, 0), last = std::min(n.w - at.w, roi.w);
  for (index_t d = 0; d < roi.d; ++d)
    for (index_t h = 0; h < roi.h; ++h) {
      index_t const z = at.d + d, r = at.h + h;
      if (z < 0 || z >= n.d || r < 0 || r >= n.h || last <= first) continue;
      T const* row = x + ((z * n.h + r) * n.w + at.w) * channels;
      std::copy(row + first * channels, row + last * channels,
                y + ((d * roi.h + h) * roi.w + first) * channels);
    }
}

}  // namespace detail

/// Runs a network over a volume x (n, in_channels, channels last) window by window: axes shorter than the roi are padded with
/// zeros on both sides, windows run in row-major order, results are blended as logits, y = sum w y_w / sum w (MONAI 1.5
/// sliding_window_inference).
///   predict(windows, count, y)   windows (count, roi, in_channels) to y (count, roi, out_channels)
///   plane(d, y)                  called for d = 0 .. n.d - 1 in this order, with y (n.h, n.w, out_channels)
/// Besides x, roi.d planes of results are held, and not the whole volume. Throws error if an option cannot work.
template <scalar T, class Predict, class Plane>
void sliding_window(extent n, index_t in_channels, index_t out_channels, T const* x,
                    sliding_window_options const& o, Predict&& predict, Plane&& plane) {
  check(in_channels >= 1 && out_channels >= 1, "sliding_window: ", in_channels, " channels in and ",
        out_channels, " out; there must be at least one of each");
  check(o.overlap >= 0 && o.overlap < 1, "sliding_window: overlap is ", o.overlap,
        ", it must be 0 to below 1");
  check(o.batch >= 1, "sliding_window: batch is ", o.batch, ", it must be at least 1");
  extent padded, before;
  std::vector<index_t> starts[3];
  for (int a = 0; a < 3; ++a) {
    check(o.roi[a] >= 1 && n[a] >= 1, "sliding_window: the volume is ", n, " and the roi ", o.roi,
          "; both need at least one voxel per axis");
    padded[a] = std::max(n[a], o.roi[a]), before[a] = (padded[a] - n[a]) / 2;
    starts[a] = window_starts(padded[a], o.roi[a], o.overlap);
  }
  detail::window_slab<T> slab(o.roi, padded, out_channels, o.blend);
  std::size_t const in_size = std::size_t(o.roi.size() * in_channels),
                    out_size = std::size_t(o.roi.size() * out_channels);
  std::vector<T> in(in_size * std::size_t(o.batch)), out(out_size * std::size_t(o.batch)),
      finished(std::size_t(n.h * n.w * out_channels));
  std::vector<extent> waiting;
  auto const flush = [&] {
    if (waiting.empty()) return;
    predict(static_cast<T const*>(in.data()), index_t(waiting.size()), out.data());
    for (std::size_t i = 0; i < waiting.size(); ++i)
      slab.add(waiting[i].h, waiting[i].w, out.data() + i * out_size);
    waiting.clear();
  };
  for (std::size_t i = 0; i < starts[0].size(); ++i) {
    index_t const d = starts[0][i], next = i + 1 < starts[0].size() ? starts[0][i + 1] : padded.d;
    for (index_t h : starts[1])
      for (index_t w : starts[2]) {
        detail::copy_window(n, in_channels, x, {d - before.d, h - before.h, w - before.w}, o.roi,
                            in.data() + waiting.size() * in_size);
        waiting.push_back({d, h, w});
        if (index_t(waiting.size()) == o.batch) flush();
      }
    flush();
    for (index_t p = d; p < next; ++p) {  // no later window reaches these planes
      if (p < before.d || p >= before.d + n.d) continue;
      slab.read(p - d, before, n, finished.data());
      plane(p - before.d, static_cast<T const*>(finished.data()));
    }
    slab.move_on(next - d);
  }
}

/// The same with the whole result (n, out_channels) in memory.
template <scalar T, class Predict>
std::vector<T> sliding_window(extent n, index_t in_channels, index_t out_channels, T const* x,
                              sliding_window_options const& o, Predict&& predict) {
  std::size_t const plane = std::size_t(n.h * n.w * out_channels);
  std::vector<T> y(plane * std::size_t(n.d));
  sliding_window(n, in_channels, out_channels, x, o, predict,
                 [&](index_t d, T const* p) { std::copy(p, p + plane, y.begin() + d * index_t(plane)); });
  return y;
}

}  // namespace insula
