// SPDX-License-Identifier: Apache-2.0
// Resizing by index ratio, nearest and trilinear, and the simulation of a coarser acquisition built on it.
#pragma once

#include <cmath>
#include <vector>

#include "insula/data/affine_augment.hpp"

namespace insula {

namespace detail {
/// Index map between grids that share their outer faces: q = (o + 1/2) in/out - 1/2.
inline index_map resize_map(extent in, extent out) {
  index_map m{};
  for (std::size_t a = 0; a < 3; ++a) {
    double const r = double(in[int(a)]) / double(out[int(a)]);
    m[5 * a] = r, m[4 * a + 3] = 0.5 * r - 0.5;
  }
  return m;
}
inline void check_resize(char const* who, extent in, extent out) {
  check(in.size() > 0 && out.d > 0 && out.h > 0 && out.w > 0, who, ": from ", in, " to ", out,
        ": every axis needs at least one voxel");
}
}  // namespace detail

/// Source index of output o for the nearest rule, in -> out voxels: out = in: o; out = 2 in: o / 2; else
/// min(floor(o s), in - 1), s = in/out and the product both rounded to float32.
inline index_t nearest_index(index_t o, index_t in, index_t out) {
  if (out == in) return o;
  if (out == 2 * in) return o / 2;
  float const scale = float(in) / float(out);
  float const product = float(o) * scale;
  return std::min(index_t(std::floor(product)), in - 1);
}

/// x at `size` voxels, nearest rule above.
inline volume resize_nearest(volume const& x, extent size, thread_pool* pool = nullptr) {
  detail::check_resize("resize_nearest", x.size, size);
  volume y = make_volume(size, 0, placed(x.to_world, detail::resize_map(x.size, size)));
  std::vector<index_t> along(static_cast<std::size_t>(size.w));
  for (index_t w = 0; w < size.w; ++w) along[std::size_t(w)] = nearest_index(w, x.size.w, size.w);
  for_tasks(pool, size.d, [&](index_t d) {
    index_t const sd = nearest_index(d, x.size.d, size.d);
    for (index_t h = 0; h < size.h; ++h) {
      float const* const from =
          x.voxels.data() + (sd * x.size.h + nearest_index(h, x.size.h, size.h)) * x.size.w;
      float* const to = &y.at(d, h, 0);
      for (index_t w = 0; w < size.w; ++w) to[w] = from[along[std::size_t(w)]];
    }
  });
  return y;
}

/// What output o of an axis samples: (1 - t) x[low] + t x[high].
struct resize_tap {
  index_t low, high;
  float t;
};
/// The trilinear rule, in -> out voxels: s = max((o + 1/2) in/out - 1/2, 0), low = floor(s), t = s - low,
/// high = min(low + 1, in - 1). PyTorch's interpolate with align_corners = false.
inline resize_tap trilinear_tap(index_t o, index_t in, index_t out) {
  double const s = std::max((double(o) + 0.5) * double(in) / double(out) - 0.5, 0.0);
  index_t const i = std::min(index_t(s), in - 1);
  return {i, std::min(i + 1, in - 1), float(s - double(i))};
}

/// x at `size` voxels, trilinear rule above per axis. The identity if the sizes agree.
inline volume resize_trilinear(volume const& x, extent size, thread_pool* pool = nullptr) {
  detail::check_resize("resize_trilinear", x.size, size);
  if (x.size == size) return x;
  volume y = make_volume(size, 0, placed(x.to_world, detail::resize_map(x.size, size)));
  std::vector<resize_tap> along;
  for (index_t w = 0; w < size.w; ++w) along.push_back(trilinear_tap(w, x.size.w, size.w));
  for_tasks(pool, size.d, [&](index_t d) {
    resize_tap const td = trilinear_tap(d, x.size.d, size.d);
    std::vector<float> row(static_cast<std::size_t>(x.size.w));
    for (index_t h = 0; h < size.h; ++h) {
      resize_tap const th = trilinear_tap(h, x.size.h, size.h);
      auto const from = [&](index_t i, index_t j) { return x.voxels.data() + (i * x.size.h + j) * x.size.w; };
      float const *const a = from(td.low, th.low), *const b = from(td.low, th.high),
                         *const c = from(td.high, th.low), *const e = from(td.high, th.high);
      float* const r = row.data();
      for (index_t w = 0; w < x.size.w; ++w) {
        float const near = a[w] + th.t * (b[w] - a[w]), far = c[w] + th.t * (e[w] - c[w]);
        r[w] = near + td.t * (far - near);
      }
      float* const to = &y.at(d, h, 0);
      for (index_t w = 0; w < size.w; ++w) {
        resize_tap const& k = along[std::size_t(w)];
        to[w] = r[k.low] + k.t * (r[k.high] - r[k.low]);
      }
    }
  });
  return y;
}

/// x seen at a coarser grid: nearest down to rint(n z) voxels per axis (halves to even, at least 1), trilinear back
/// to n; to_world is kept. 0 < z <= 1.
inline volume low_resolution(volume const& x, double z, thread_pool* pool = nullptr) {
  check(z > 0 && z <= 1, "low_resolution: the zoom is ", z, ", it must be above 0 and at most 1");
  extent coarse;
  for (int a = 0; a < 3; ++a)
    coarse[a] = std::max<index_t>(1, index_t(std::nearbyint(double(x.size[a]) * z)));
  if (coarse == x.size) return x;
  volume y = resize_trilinear(resize_nearest(x, coarse, pool), x.size, pool);
  y.to_world = x.to_world;
  return y;
}

}  // namespace insula
