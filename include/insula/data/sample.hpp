// SPDX-License-Identifier: Apache-2.0
// Values of a volume between its voxels: trilinear and nearest, with a choice of what lies outside.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

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
  void edge(float const (&q)[3][lanes], float* y) const { n_.w > 1 ? corners(q, y) : flat_corners(q, y); }

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
  using four = float __attribute__((vector_size(16)));
  using eight = float __attribute__((vector_size(32)));
  using eight_indices = std::int32_t __attribute__((vector_size(32)));

  // Lower corners and weights of clamped positions. In vectors, for compilers leave the loop over lanes scalar.
  void place(float const (&q)[3][lanes], int (&base)[lanes], float (&t)[3][lanes]) const {
    for (int l = 0; l < lanes; l += 8) {
      eight_indices at{};
      for (int a = 0; a < 3; ++a) {
        eight const top = float(n_[a] - 1) - eight{};
        eight p;
        std::memcpy(&p, q[a] + l, sizeof p);
        p = p > 0.0f ? p : eight{};
        p = p < top ? p : top;
        // the last voxel is reached with weight 1, so every position has 8 readable corners
        eight_indices const last = last_[a] - eight_indices{};
        eight_indices i = __builtin_convertvector(p, eight_indices);
        i = i < last ? i : last;
        p -= __builtin_convertvector(i, eight);
        at += i * stride_[a];
        std::memcpy(t[a] + l, &p, sizeof p);
      }
      std::memcpy(base + l, &at, sizeof at);
    }
  }

  // a - t a + t b: exact for weights 0 and 1
  static void blend(eight& a, eight const& t, eight const& b) { a = a - t * a + t * b; }

  // The two neighbours along w of four positions each: one load of eight bytes brings both.
  static eight pairs(float const* x, int const* at) {
    using whole = double __attribute__((vector_size(32)));
    double two[4];
    for (int l = 0; l < 4; ++l) std::memcpy(&two[l], x + at[l], sizeof two[l]);
    return std::bit_cast<eight>(whole{two[0], two[1], two[2], two[3]});
  }
  // t[0] t[0] t[1] t[1] t[2] t[2] t[3] t[3]
  static eight twice(float const* t) {
    four v;
    std::memcpy(&v, t, sizeof v);
    return __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3);
  }

  // Blends along d and h work on pairs of neighbours in w: a position's eight corners are four loads.
  void corners(float const (&q)[3][lanes], float* y) const {
    int base[lanes];
    float t[3][lanes];
    place(q, base, t);
    for (int l = 0; l < lanes; l += 8) {
      eight part[2];
      for (int half = 0; half < 2; ++half) {
        int const* const at = base + l + 4 * half;
        eight const td = twice(t[0] + l + 4 * half), th = twice(t[1] + l + 4 * half);
        eight near = pairs(x_, at), far = pairs(x_ + step_[1], at);
        blend(near, td, pairs(x_ + step_[0], at));
        blend(far, td, pairs(x_ + step_[0] + step_[1], at));
        blend(near, th, far);
        part[half] = near;
      }
      eight tw, low = __builtin_shufflevector(part[0], part[1], 0, 2, 4, 6, 8, 10, 12, 14);
      std::memcpy(&tw, t[2] + l, sizeof tw);
      blend(low, tw, __builtin_shufflevector(part[0], part[1], 1, 3, 5, 7, 9, 11, 13, 15));
      std::memcpy(y + l, &low, sizeof low);
    }
  }

  // The same where the last axis has one voxel, so that there is no neighbour along w.
  void flat_corners(float const (&q)[3][lanes], float* y) const {
    int base[lanes];
    float t[3][lanes];
    place(q, base, t);
    for (int l = 0; l < lanes; ++l) {
      float const *const p = x_ + base[l], *const r = p + step_[0];
      float const td = t[0][l], th = t[1][l];
      float const a = p[0] - td * p[0] + td * r[0];
      float const c = p[step_[1]] - td * p[step_[1]] + td * r[step_[1]];
      y[l] = a - th * a + th * c;
    }
  }

  float const* x_;
  extent n_;
  int stride_[3];  // between neighbours along an axis
  int step_[3];    // from the lower to the upper corner: 0 where an axis has one voxel
  int last_[3];    // largest index of a lower corner
};

}  // namespace insula
