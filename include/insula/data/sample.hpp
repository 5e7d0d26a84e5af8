// SPDX-License-Identifier: Apache-2.0
// Values of a volume between its voxels: trilinear and nearest, with a choice of what lies outside.
#pragma once

#include <cmath>

#include "insula/data/elementary.hpp"
#include "insula/data/volume.hpp"

namespace insula {

/// What a sampler sees outside of the volume: the nearest edge voxel, zeros, or a mirror at the outer voxel faces
/// (index -1 reads 0, -2 reads 1, n reads n - 1).
enum class outside { edge, zero, mirror };

/// The coordinate t of an axis of n voxels folded into [0, n - 1] for outside::mirror.
inline float mirrored(float t, index_t n) {
  float const m = float(n), u = std::fabs(t + 0.5f), q = std::floor(u / m), e = u - q * m;
  float const v = std::fmod(q, 2.0f) == 0.0f ? e - 0.5f : m - 0.5f - e;
  return v < 0.0f ? 0.0f : v > m - 1.0f ? m - 1.0f : v;
}

/// A volume's voxels as the samplers read them. Throws if it has no voxels or 2^31 and more.
class sampler {
 public:
  explicit sampler(volume const& x)
      : x_(x.voxels.data()), n_(x.size), stride_{int(x.size.h * x.size.w), int(x.size.w), 1} {
    check(x.count() > 0 && x.count() < (index_t{1} << 31), "sampler: the volume is ", x.size,
          ", it must have 1 to 2^31 - 1 voxels");
    for (int a = 0; a < 3; ++a)
      last_[a] = int(n_[a] > 1 ? n_[a] - 2 : 0), step_[a] = n_[a] > 1 ? stride_[a] : 0;
  }

  /// Trilinear values at `lanes` positions q[axis][lane] (voxel indices); positions outside are clamped.
  void edge(float const (&q)[3][lanes], float* y) const { n_.w > 1 ? corners<1>(q, y) : corners<0>(q, y); }

  /// Trilinear value at one position; corners outside count as 0.
  float zero(float d, float h, float w) const {
    float const q[3] = {d, h, w};
    index_t i[3];
    float t[3], sum = 0;
    for (int a = 0; a < 3; ++a) {
      if (!(q[a] > -1.0f && q[a] < float(n_[a]))) return 0.0f;
      float const f = std::floor(q[a]);
      i[a] = index_t(f), t[a] = q[a] - f;
    }
    for (int c = 0; c < 8; ++c) {
      index_t const z = i[0] + (c >> 2), y = i[1] + (c >> 1 & 1), x = i[2] + (c & 1);
      if (z < 0 || z >= n_.d || y < 0 || y >= n_.h || x < 0 || x >= n_.w) continue;
      sum += ((c & 4) ? t[0] : 1 - t[0]) * ((c & 2) ? t[1] : 1 - t[1]) * ((c & 1) ? t[2] : 1 - t[2]) *
             x_[(z * n_.h + y) * n_.w + x];
    }
    return sum;
  }

  /// `lanes` trilinear values under any rule for the outside.
  void linear(outside rule, float const (&q)[3][lanes], float* y) const {
    if (rule == outside::edge) return edge(q, y);
    if (rule == outside::zero) {
      for (int l = 0; l < lanes; ++l) y[l] = zero(q[0][l], q[1][l], q[2][l]);
      return;
    }
    float m[3][lanes];
    for (int a = 0; a < 3; ++a)
      for (int l = 0; l < lanes; ++l) m[a][l] = mirrored(q[a][l], n_[a]);
    edge(m, y);
  }

  /// The voxel nearest to one position, halves to the even index.
  float nearest(outside rule, float d, float h, float w) const {
    float const q[3] = {d, h, w};
    index_t at = 0;
    for (int a = 0; a < 3; ++a) {
      float const p = std::nearbyint(rule == outside::mirror ? mirrored(q[a], n_[a]) : q[a]),
                  top = float(n_[a] - 1);
      if (!(p >= 0.0f && p <= top) && rule == outside::zero) return 0.0f;
      at += index_t(p > 0.0f ? (p < top ? p : top) : 0.0f) * stride_[a];
    }
    return x_[at];
  }

 private:
  // NextW: 1, or 0 where the last axis has one voxel; a constant, because a variable makes the loads twice as slow.
  template <int NextW>
  void corners(float const (&q)[3][lanes], float* y) const {
    int base[lanes] = {};
    float t[3][lanes];
    for (int a = 0; a < 3; ++a) {
      float const top = float(n_[a] - 1);
      int const last = last_[a], stride = stride_[a];
      for (int l = 0; l < lanes; ++l) {
        float p = q[a][l] > 0.0f ? q[a][l] : 0.0f;
        p = p < top ? p : top;
        int i = int(p);
        i = i < last
                ? i
                : last;  // the last voxel is reached with weight 1, so every position has 8 readable corners
        t[a][l] = p - float(i);
        base[l] += i * stride;
      }
    }
    int const sd = step_[0], sh = step_[1];
    for (int l = 0; l < lanes;
         ++l) {  // bound by its eight loads: neither gathers nor wider blends are faster
      float const *const p = x_ + base[l], *const r = p + sd;
      float const td = t[0][l], th = t[1][l], tw = t[2][l];
      float const a = p[0] - td * p[0] + td * r[0], b = p[NextW] - td * p[NextW] + td * r[NextW];
      float const c = p[sh] - td * p[sh] + td * r[sh],
                  d = p[sh + NextW] - td * p[sh + NextW] + td * r[sh + NextW];
      float const e = a - th * a + th * c, f = b - th * b + th * d;
      y[l] = e - tw * e + tw * f;  // a - t a + t b: exact for weights 0 and 1
    }
  }

  float const* x_;
  extent n_;
  int stride_[3];  // between neighbours along an axis
  int step_[3];    // from the lower to the upper corner: 0 where an axis has one voxel
  int last_[3];    // largest index of a lower corner
};

}  // namespace insula
