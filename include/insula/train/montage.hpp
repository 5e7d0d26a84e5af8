// SPDX-License-Identifier: Apache-2.0
// Pictures of volumes: three orthogonal central planes, side by side for input, masked input, reconstruction and error.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/io/png.hpp"

namespace insula {

/// An 8-bit grey image that owns its pixels.
struct picture {
  index_t width = 0, height = 0;
  std::vector<std::uint8_t> pixels;

  picture() = default;
  picture(index_t w, index_t h, std::uint8_t grey) : width(w), height(h), pixels(std::size_t(w * h), grey) {}
  /// For write_png(), run_log::image() and report::image(); valid while the picture lives.
  raster view() const { return {width, height, 1, pixels}; }
  std::uint8_t& at(index_t x, index_t y) { return pixels[std::size_t(y * width + x)]; }
};

/// Voxel values shown as black and white; what lies outside is cut.
struct grey_window {
  double low = 0, high = 1;

  std::uint8_t operator()(double v) const {
    if (!(high > low)) return 0;
    return std::uint8_t(std::lround(255 * std::clamp((v - low) / (high - low), 0.0, 1.0)));
  }
};

/// The window from one quantile of the finite values to another (nearest rank); {0, 0} if none is finite.
inline grey_window window_of(std::span<float const> values, double low = 0.005, double high = 0.995) {
  check(low >= 0 && low <= high && high <= 1, "window_of: the quantiles are ", low, " and ", high,
        "; they must be 0 <= low <= high <= 1");
  std::vector<float> finite;
  std::copy_if(values.begin(), values.end(), std::back_inserter(finite),
               [](float v) { return std::isfinite(v); });
  if (finite.empty()) return {0, 0};
  auto const quantile = [&](double q) {
    auto const at = finite.begin() + std::ptrdiff_t(std::lround(q * double(finite.size() - 1)));
    std::nth_element(finite.begin(), at, finite.end());
    return double(*at);
  };
  double const first = quantile(low);
  return {first, quantile(high)};
}

/// A column of a montage: a volume (depth, height, width; one channel) and the window it is shown in.
struct montage_column {
  float const* voxels = nullptr;
  grey_window window{};
  std::uint8_t const* hidden = nullptr;  ///< voxels that are 1 here are shown in flat grey; may be null
};

struct montage_options {
  index_t scale = 1;    ///< pixels per voxel
  bool letters = true;  ///< mark left and right (L R), posterior and anterior (P A); needs axes R, A, S
};

namespace detail {

/// The three planes of a volume with axes d = left to right, h = posterior to anterior, w = inferior to superior: the axis
/// that is fixed, the one that runs to the right and the one that runs up the picture, and the letters at its sides.
struct plane {
  int fixed, across, up;
  char left, right;
};
inline constexpr plane planes[3] = {{2, 0, 1, 'L', 'R'}, {1, 0, 2, 'L', 'R'}, {0, 1, 2, 'P', 'A'}};

/// Rows of a letter, 5 x 7 pixels, the highest of five bits on the left.
constexpr std::array<std::uint8_t, 7> glyph(char letter) {
  switch (letter) {
    case 'L':
      return {16, 16, 16, 16, 16, 16, 31};
    case 'R':
      return {30, 17, 17, 30, 20, 18, 17};
    case 'P':
      return {30, 17, 17, 30, 16, 16, 16};
    case 'A':
      return {14, 17, 17, 31, 17, 17, 17};
    default:
      return {};
  }
}
inline void draw_letter(picture& p, char letter, index_t x, index_t y) {
  auto const rows = glyph(letter);
  for (index_t r = -1; r <= 7; ++r)
    for (index_t c = -1; c <= 5; ++c) {
      bool const ink = r >= 0 && r < 7 && c >= 0 && c < 5 && (rows[std::size_t(r)] >> (4 - c) & 1) != 0;
      index_t const px = x + c, py = y + r;
      if (px >= 0 && px < p.width && py >= 0 && py < p.height) p.at(px, py) = ink ? 255 : 0;
    }
}

inline void draw_plane(picture& p, montage_column const& c, extent size, plane const& q, index_t x0,
                       index_t y0, index_t scale) {
  index_t const w = size[q.across] * scale, h = size[q.up] * scale;
  for (index_t y = 0; y < h; ++y)
    for (index_t x = 0; x < w; ++x) {
      extent at;
      at[q.fixed] = size[q.fixed] / 2, at[q.across] = x / scale, at[q.up] = size[q.up] - 1 - y / scale;
      auto const i = std::size_t((at.d * size.h + at.h) * size.w + at.w);
      auto const v = c.voxels[i];
      if (c.hidden && c.hidden[i])
        p.at(x0 + x, y0 + y) = 96;
      else if (std::isfinite(v))
        p.at(x0 + x, y0 + y) = c.window(double(v));
      else
        p.at(x0 + x, y0 + y) = (x + y) % 2 ? 255 : 0;  // NaN and infinity: a checkerboard
    }
}

}  // namespace detail

/// Rows: axial, coronal and sagittal plane through the centre; columns as given. The left of the picture is the left (or the
/// back) of the subject: neurological convention, for volumes with axes R, A, S. Throws error if the extent is empty.
inline picture montage(extent size, std::span<montage_column const> columns,
                       montage_options const& options = montage_options{}) {
  check(size.d > 0 && size.h > 0 && size.w > 0 && !columns.empty() && options.scale >= 1,
        "montage: ", index_t(columns.size()), " columns of ", size, " voxels at scale ", options.scale,
        "; it needs at least one column, voxel and pixel per voxel");
  constexpr index_t gap = 2;  // pixels
  index_t cell = 0, height = 0;
  for (auto const& q : detail::planes) {
    cell = std::max(cell, size[q.across] * options.scale);
    height += size[q.up] * options.scale;
  }
  auto const n = index_t(columns.size());
  picture p(n * cell + (n - 1) * gap, height + 2 * gap, 0);
  for (index_t i = 0; i < n; ++i) {
    check(columns[std::size_t(i)].voxels != nullptr, "montage: column ", i, " has no voxels");
    index_t y = 0;
    for (auto const& q : detail::planes) {
      index_t const w = size[q.across] * options.scale, h = size[q.up] * options.scale,
                    x = i * (cell + gap) + (cell - w) / 2;
      detail::draw_plane(p, columns[std::size_t(i)], size, q, x, y, options.scale);
      if (options.letters && w >= 32 && h >= 16) {
        detail::draw_letter(p, q.left, x + 2, y + 2);
        detail::draw_letter(p, q.right, x + w - 7, y + 2);
      }
      y += h + gap;
    }
  }
  return p;
}

/// Input | masked input | reconstruction | absolute error. mask: 1 where a voxel was hidden from the network; null: none was,
/// and the second column is left out. Input and reconstruction share the input's window (quantiles 0.005 and 0.995); the
/// error is shown from 0 to the width of that window, so that montages can be compared.
inline picture reconstruction_montage(extent size, float const* input, std::uint8_t const* mask,
                                      float const* reconstruction,
                                      montage_options const& options = montage_options{}) {
  auto const n = std::size_t(size.size());
  auto const window = window_of({input, n});
  std::vector<float> error(n);
  for (std::size_t i = 0; i < n; ++i) error[i] = std::fabs(input[i] - reconstruction[i]);
  std::vector<montage_column> columns{{input, window}};
  if (mask) columns.push_back({input, window, mask});
  columns.push_back({reconstruction, window});
  columns.push_back({error.data(), {0, window.high - window.low}});
  return montage(size, columns, options);
}

/// A sentence that describes such a montage to those who cannot see it, and explains it to those who can.
inline constexpr char const* montage_caption =
    "Rows: axial, coronal, sagittal plane. Columns: input, masked input, reconstruction, absolute error. "
    "Neurological convention: the left of the picture is the left of the subject.";

}  // namespace insula
