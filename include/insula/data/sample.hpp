// SPDX-License-Identifier: Apache-2.0
// Values of a volume between its voxels: trilinear and nearest, with a choice of what lies outside.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "insula/data/elementary.hpp"
#include "insula/data/voxels.hpp"

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
  void edge(float const (&q)[3][lanes], float* y) const {
    for (int l = 0; l < lanes; l += 8) {
      eight p[3], v;
      for (int a = 0; a < 3; ++a) std::memcpy(&p[a], q[a] + l, sizeof p[a]);
      clamp(p);
      n_.w > 1 ? corners(p, v) : flat_corners(p, v);
      std::memcpy(y + l, &v, sizeof v);
    }
  }

  /// Voxels from what a line reads first to what the line one plane further reads last, if a plane of lines moves positions by
  /// (d, h, w) and h grows by h_by_h from line to line: for linear_line to fetch.
  index_t next_plane(double d, double h, double w, double h_by_h) const {
    return index_t(std::lround(d) * stride_[0] + std::lround(h) * stride_[1] + std::lround(w)) +
           (d >= 0 ? step_[0] : 0) + (h_by_h >= 0 ? step_[1] : 0);
  }

  /// y[w] = the trilinear value at base[axis] + w step[axis] under a rule for the outside, w < count (=). `range` takes all in.
  /// Voxels `ahead` of those it reads are fetched into the cache; processors do not foresee oblique lines.
  void linear_line(outside rule, float const (&base)[3], float const (&step)[3], index_t count, index_t ahead,
                   float* y, detail::running_range& range) const {
    auto const [begin, end] = rule == outside::zero ? span{} : inside(base, step, count);
    eight const ordinal{0, 1, 2, 3, 4, 5, 6, 7};
    for (index_t w = 0; w < count; w += 8) {
      constexpr int together = 2;
      if (w >= begin && w + 8 * together <= end) {
        eight p[together][3], v[together];
        for (int i = 0; i < together; ++i)
          for (int a = 0; a < 3; ++a) p[i][a] = base[a] + (float(int(w) + 8 * i) + ordinal) * step[a];
        corners(p, v, ahead);
        for (int i = 0; i < together; ++i) write(v[i], 8, y + w + 8 * i, range);
        w += 8 * (together - 1);
        continue;
      }
      int const n = int(count - w < 8 ? count - w : 8);
      eight p[3], v;
      for (int a = 0; a < 3; ++a) p[a] = base[a] + (float(int(w)) + ordinal) * step[a];
      if (w >= begin && w + 8 <= end) {
        corners(p, v);
      } else if (rule == outside::zero) {
        for (int l = 0; l < 8; ++l) v[l] = zero(p[0][l], p[1][l], p[2][l]);
      } else {
        if (rule == outside::mirror)
          for (int a = 0; a < 3; ++a)
            for (int l = 0; l < 8; ++l) p[a][l] = mirrored(p[a][l], n_[a]);
        clamp(p);
        n_.w > 1 ? corners(p, v) : flat_corners(p, v);
      }
      write(v, n, y + w, range);
    }
  }

  /// The same with the nearest voxels.
  void nearest_line(outside rule, float const (&base)[3], float const (&step)[3], index_t count, float* y,
                    detail::running_range& range) const {
    eight const ordinal{0, 1, 2, 3, 4, 5, 6, 7};
    for (index_t w = 0; w < count; w += 8) {
      int const n = int(count - w < 8 ? count - w : 8);
      eight p[3], v{};
      for (int a = 0; a < 3; ++a) p[a] = base[a] + (float(int(w)) + ordinal) * step[a];
      for (int l = 0; l < n; ++l) v[l] = nearest(rule, p[0][l], p[1][l], p[2][l]);
      write(v, n, y + w, range);
    }
  }

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
  using eight = detail::eight;
  using eight_indices = detail::eight_indices;
  struct span {
    index_t begin = 0, end = 0;
  };

  static void write(eight const& v, int n, float* y, detail::running_range& range) {
    if (n < 8) {
      std::memcpy(y, &v, sizeof(float) * std::size_t(n));
      return range.take(y, n);
    }
    std::memcpy(y, &v, sizeof v);
    range.take(v);
  }

  /// The w of a line whose eight corners surely exist, rounding included; none where an axis has one voxel.
  span inside(float const (&base)[3], float const (&step)[3], index_t count) const {
    double first = 0, last = double(count - 1);
    for (int a = 0; a < 3; ++a) {
      double const slack = 1e-4 + 1e-6 * double(n_[a]), low = slack, high = double(n_[a] - 1) - slack;
      double const at = double(base[a]), by = double(step[a]);
      double const one = ((by < 0 ? high : low) - at) / by, two = ((by < 0 ? low : high) - at) / by;
      if (std::fabs(by) * double(count) < slack / 2) {
        if (!(at >= 2 * low && at <= high - slack)) return {};
        continue;
      }
      first = one > first ? one : first, last = two < last ? two : last;
    }
    if (!(first <= last)) return {};
    return {index_t(std::ceil(first)), index_t(std::floor(last)) + 1};
  }

  // Positions moved into [0, n - 1]. In vectors, for compilers leave the loop over lanes scalar.
  void clamp(eight (&p)[3]) const {
    for (int a = 0; a < 3; ++a) {
      eight const top = float(n_[a] - 1) - eight{};
      p[a] = p[a] > 0.0f ? p[a] : eight{};
      p[a] = p[a] < top ? p[a] : top;
    }
  }

  // Offset of the lower corner; p becomes the weight of the upper one. The last voxel is reached with weight 1, so that
  // every position has 8 readable corners.
  void place(eight (&p)[3], std::uint32_t (&base)[8]) const {
    eight_indices at{};
    for (int a = 0; a < 3; ++a) {
      eight_indices const last = last_[a] - eight_indices{};
      eight_indices i = __builtin_convertvector(p[a], eight_indices);
      i = i < last ? i : last;
      p[a] -= __builtin_convertvector(i, eight);
      at += i * stride_[a];
    }
    std::memcpy(base, &at, sizeof at);
  }

  // a - t a + t b: exact for weights 0 and 1
  static void blend(eight& a, eight const& t, eight const& b) { a = a - t * a + t * b; }

  // The two neighbours along w of positions 0, 1, 4 and 5 of `at`: one load of eight bytes brings both.
  static void pairs(float const* x, std::uint32_t const* at, eight& v) {
    using two = double __attribute__((vector_size(16)));
    double word[4];
    for (int l = 0; l < 4; ++l) std::memcpy(&word[l], x + at[l + l / 2 * 2], sizeof word[l]);
    two const low{word[0], word[1]}, high{word[2], word[3]};
    v = (eight)__builtin_shufflevector(low, high, 0, 1, 2, 3);
  }

  // Blends along d and h work on pairs of neighbours in w: a position's eight corners are four loads. Positions 0, 1, 4, 5
  // go together, then 2, 3, 6, 7: shuffles that stay within halves of a register are cheaper. Eights of positions are in the
  // same stage together, for one waits more for its own results than a processor can look ahead.
  template <int N>
  void corners(eight (&p)[N][3], eight (&y)[N], index_t ahead = 0) const {
    std::uint32_t at[N][8];
    for (int n = 0; n < N; ++n) place(p[n], at[n]);
    for (int n = 0; n < N; ++n)
      for (int l = 0; l < 8; l += 4)
        __builtin_prefetch(reinterpret_cast<char const*>(
            reinterpret_cast<std::uintptr_t>(x_) +
            sizeof(float) * (std::uintptr_t(at[n][l]) + std::uintptr_t(ahead))));
    // Four addresses that compilers do not see the difference of: they would add it to every index.
    float const* x[4] = {x_, x_ + step_[0], x_ + step_[1], x_ + step_[0] + step_[1]};
    for (auto& from : x) asm("" : "+r"(from));
    eight part[N][2]{};
    for (int half = 0; half < 2; ++half) {
      eight near[N], far[N];
      for (int n = 0; n < N; ++n) {
        eight const td = half ? __builtin_shufflevector(p[n][0], p[n][0], 2, 2, 3, 3, 6, 6, 7, 7)
                              : __builtin_shufflevector(p[n][0], p[n][0], 0, 0, 1, 1, 4, 4, 5, 5);
        eight other;
        pairs(x[0], at[n] + 2 * half, near[n]);
        pairs(x[1], at[n] + 2 * half, other);
        blend(near[n], td, other);
        pairs(x[2], at[n] + 2 * half, far[n]);
        pairs(x[3], at[n] + 2 * half, other);
        blend(far[n], td, other);
      }
      for (int n = 0; n < N; ++n) {
        eight const th = half ? __builtin_shufflevector(p[n][1], p[n][1], 2, 2, 3, 3, 6, 6, 7, 7)
                              : __builtin_shufflevector(p[n][1], p[n][1], 0, 0, 1, 1, 4, 4, 5, 5);
        blend(near[n], th, far[n]);
        part[n][half] = near[n];
      }
    }
    for (int n = 0; n < N; ++n) {
      y[n] = __builtin_shufflevector(part[n][0], part[n][1], 0, 2, 8, 10, 4, 6, 12, 14);
      blend(y[n], p[n][2], __builtin_shufflevector(part[n][0], part[n][1], 1, 3, 9, 11, 5, 7, 13, 15));
    }
  }
  void corners(eight (&p)[3], eight& y) const {
    eight one[1][3] = {{p[0], p[1], p[2]}}, out[1];
    corners(one, out);
    y = out[0];
  }

  // The same where the last axis has one voxel, so that there is no neighbour along w.
  void flat_corners(eight (&p)[3], eight& y) const {
    std::uint32_t at[8];
    place(p, at);
    for (int l = 0; l < 8; ++l) {
      float const *const q = x_ + at[l], *const r = q + step_[0];
      float const td = p[0][l], th = p[1][l];
      float const a = q[0] - td * q[0] + td * r[0];
      float const c = q[step_[1]] - td * q[step_[1]] + td * r[step_[1]];
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
