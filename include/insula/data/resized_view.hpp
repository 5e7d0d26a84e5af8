// SPDX-License-Identifier: Apache-2.0
// Crop, resize, flip and in-plane rotation of an image and its mask in one pass over the planes, without temporary volumes.
#pragma once

#include <cmath>
#include <vector>

#include "insula/data/crop.hpp"
#include "insula/data/low_resolution.hpp"

namespace insula {

/// The voxels of `from`, resized to `size`, then mirrored along axis 2 if `flip`, then rotated by `angle` radians about
/// axis 0 with edge values.
struct resized_view {
  box from;
  extent size{0, 0, 0};
  bool flip = false;
  double angle = 0;
};

/// Memory that view_image() and view_mask() use again: one per thread.
struct view_scratch {
  std::vector<float> planes, part[2];  // resized planes; weights of the rotation
  std::vector<int> low, source;        // its lower corners; for masks, the source of every pixel
  std::vector<resize_tap> along[2];    // taps of axes 1 and 2
};

namespace detail {

/// Source position (axes 1 and 2) of pixel (h, w) of a plane rotated about its centre.
struct plane_rotation {
  double c, s, ch, cw;

  plane_rotation(extent n, double angle)
      : c(std::cos(angle)), s(std::sin(angle)), ch(double(n.h - 1) / 2), cw(double(n.w - 1) / 2) {}
  double h(index_t y, index_t x) const { return ch + c * (double(y) - ch) - s * (double(x) - cw); }
  double w(index_t y, index_t x) const { return cw + s * (double(y) - ch) + c * (double(x) - cw); }
};

inline void check_view(volume const& x, resized_view const& v, char const* who) {
  for (int a = 0; a < 3; ++a)
    check(v.from.from[a] >= 0 && v.from.size[a] >= 1 && v.from.from[a] + v.from.size[a] <= x.size[a] &&
              v.size[a] >= 1,
          who, ": ", v.from.size, " voxels from ", v.from.from, " of ", x.size, " to ", v.size,
          ": the box must lie inside, and no axis may be empty");
  check(v.size.h * v.size.w < (index_t{1} << 30) && x.size.h * x.size.w < (index_t{1} << 30), who,
        ": the planes are too large");
}

/// to (size.h, size.w) = plane d of x's box, resized within the plane and mirrored. `rows` holds (box h, size.w).
inline void resize_plane(volume const& x, resized_view const& v, index_t d, view_scratch const& s,
                         float* rows, float* to) {
  extent const n = v.from.size, corner = v.from.from;
  for (index_t h = 0; h < n.h; ++h) {
    float const* const from =
        x.voxels.data() + ((d + corner.d) * x.size.h + h + corner.h) * x.size.w + corner.w;
    float* const row = rows + h * v.size.w;
    resize_tap const* const tap = s.along[1].data();
    for (index_t w = 0; w < v.size.w; ++w)
      row[w] = from[tap[w].low] + tap[w].t * (from[tap[w].high] - from[tap[w].low]);
  }
  for (index_t h = 0; h < v.size.h; ++h) {
    resize_tap const t = s.along[0][std::size_t(h)];
    float const *const a = rows + t.low * v.size.w, *const b = rows + t.high * v.size.w;
    float* const row = to + h * v.size.w;
    for (index_t w = 0; w < v.size.w; ++w) row[w] = a[w] + t.t * (b[w] - a[w]);
  }
}

/// Lower corners and weights of the rotated plane's pixels; they are the same for all planes.
inline void prepare_rotation(resized_view const& v, view_scratch& s) {
  plane_rotation const r(v.size, v.angle);
  auto const count = std::size_t(v.size.h * v.size.w);
  s.low.resize(count);
  for (auto& part : s.part) part.resize(count);
  double const top_h = double(v.size.h - 1), top_w = double(v.size.w - 1);
  std::size_t i = 0;
  for (index_t y = 0; y < v.size.h; ++y)
    for (index_t x = 0; x < v.size.w; ++x, ++i) {
      double const h = std::clamp(r.h(y, x), 0.0, top_h), w = std::clamp(r.w(y, x), 0.0, top_w);
      // The last voxel is reached with weight 1, so that every position has four readable corners.
      auto const lh = std::min(index_t(h), std::max<index_t>(v.size.h - 2, 0));
      auto const lw = std::min(index_t(w), std::max<index_t>(v.size.w - 2, 0));
      s.low[i] = int(lh * v.size.w + lw);
      s.part[0][i] = float(h - double(lh)), s.part[1][i] = float(w - double(lw));
    }
}

inline void rotate_plane(resized_view const& v, view_scratch const& s, float const* plane, float* to) {
  index_t const down = v.size.h > 1 ? v.size.w : 0, right = v.size.w > 1 ? 1 : 0, count = v.size.h * v.size.w;
  int const* const low = s.low.data();
  float const *const th = s.part[0].data(), *const tw = s.part[1].data();
  for (index_t i = 0; i < count; ++i) {
    float const* const p = plane + low[i];
    float const a = p[0] + tw[i] * (p[right] - p[0]), b = p[down] + tw[i] * (p[down + right] - p[down]);
    to[i] = a + th[i] * (b - a);
  }
}

}  // namespace detail

/// Writes (=) v.size voxels to y: resize_trilinear(crop(x)), flip, rotation with linear interpolation, up to rounding. Throws
/// error if the box does not lie inside x.
inline void view_image(volume const& x, resized_view const& v, view_scratch& s, float* y) {
  detail::check_view(x, v, "view_image");
  extent const n = v.from.size;
  index_t const plane = v.size.h * v.size.w;
  s.along[0].clear(), s.along[1].clear();
  for (index_t h = 0; h < v.size.h; ++h) s.along[0].push_back(trilinear_tap(h, n.h, v.size.h));
  for (index_t w = 0; w < v.size.w; ++w)
    s.along[1].push_back(trilinear_tap(v.flip ? v.size.w - 1 - w : w, n.w, v.size.w));
  s.planes.resize(std::size_t(3 * plane + n.h * v.size.w));
  float *held[2] = {s.planes.data(), s.planes.data() + plane}, *const blended = held[1] + plane,
        *const rows = blended + plane;
  if (v.angle != 0) detail::prepare_rotation(v, s);
  index_t holds[2] = {-1, -1};
  auto const resized = [&](index_t d, index_t other) {  // source plane d; `other` must stay
    int const k = holds[0] == d ? 0 : holds[1] == d ? 1 : holds[0] == other ? 1 : 0;
    if (holds[k] != d) detail::resize_plane(x, v, d, s, rows, held[k]), holds[k] = d;
    return held[k];
  };
  flush_denormals const guard;
  for (index_t d = 0; d < v.size.d; ++d) {
    resize_tap const t = trilinear_tap(d, n.d, v.size.d);
    float const* const a = resized(t.low, t.high);
    float* const to = y + d * plane;
    float* const sum = v.angle != 0 ? blended : to;
    float const* const b = t.t != 0 ? resized(t.high, t.low) : a;
    for (index_t i = 0; i < plane; ++i) sum[i] = a[i] + t.t * (b[i] - a[i]);
    if (v.angle != 0) detail::rotate_plane(v, s, blended, to);
  }
}

/// The same for a mask, by the nearest rules of resize_nearest() and of rotation (halves to the even index): every voxel is one
/// of x. Returns true if one of them is not 0.
inline bool view_mask(volume const& x, resized_view const& v, view_scratch& s, float* y) {
  detail::check_view(x, v, "view_mask");
  extent const n = v.from.size, corner = v.from.from;
  index_t const plane = v.size.h * v.size.w;
  detail::plane_rotation const r(v.size, v.angle);
  auto const rounded = [](double q, index_t extent) {
    return std::clamp<index_t>(index_t(std::nearbyint(q)), 0, extent - 1);
  };
  s.source.resize(std::size_t(plane));
  std::size_t i = 0;
  for (index_t h = 0; h < v.size.h; ++h)
    for (index_t w = 0; w < v.size.w; ++w, ++i) {
      index_t const rh = v.angle != 0 ? rounded(r.h(h, w), v.size.h) : h;
      index_t const rw = v.angle != 0 ? rounded(r.w(h, w), v.size.w) : w;
      index_t const sh = nearest_index(rh, n.h, v.size.h) + corner.h;
      index_t const sw = nearest_index(v.flip ? v.size.w - 1 - rw : rw, n.w, v.size.w) + corner.w;
      s.source[i] = int(sh * x.size.w + sw);
    }
  float any = 0;
  for (index_t d = 0; d < v.size.d; ++d) {
    float const* const from =
        x.voxels.data() + (nearest_index(d, n.d, v.size.d) + corner.d) * x.size.h * x.size.w;
    float* const to = y + d * plane;
    int const* const source = s.source.data();
    for (index_t k = 0; k < plane; ++k) to[k] = from[source[k]], any = std::max(any, std::fabs(to[k]));
  }
  return any > 0;
}

}  // namespace insula
