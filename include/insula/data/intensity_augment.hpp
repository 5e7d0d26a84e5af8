// SPDX-License-Identifier: Apache-2.0
// Intensity augmentations that act voxel by voxel: shift, scale about the mean, noise, gamma, bias field.
#pragma once

#include <array>

#include "insula/base/random.hpp"
#include "insula/data/voxels.hpp"

namespace insula {

/// x += offset.
inline void shift_intensity(volume& x, double offset, thread_pool* pool = nullptr) {
  map_voxels(
      x, [o = float(offset)](float v) { return v + o; }, pool);
}

/// x = (x - mean)(1 + factor) + mean, the mean taken over all voxels, background included; nothing is clipped.
inline void scale_about_mean(volume& x, double factor, thread_pool* pool = nullptr) {
  float const mean = float(statistics(x, pool).mean), gain = float(1 + factor);
  map_voxels(
      x, [=](float v) { return (v - mean) * gain + mean; }, pool);
}

/// x += sigma n, n standard normal, a function of (key, voxel index) alone.
inline void gaussian_noise(volume& x, double sigma, random_key key, thread_pool* pool = nullptr) {
  constexpr index_t block = 4 * lanes;
  float* const p = x.voxels.data();
  float const s = float(sigma);
  for_ranges(pool, x.count(), [&](index_t begin, index_t end) {
    float n[block];
    for (index_t i = begin; i < end; i += block) {
      normal_block(key, std::uint32_t(i / block), n);
      if (end - i >= block) {
        for (int l = 0; l < int(block); ++l) p[i + l] += s * n[l];
      } else {
        for (int l = 0; l < int(end - i); ++l) p[i + l] += s * n[l];
      }
    }
  });
}

/// What adjust_intensity() does to a voxel v, in this order: v += offset; the gamma of adjust_gamma(); v += sigma n.
struct intensity_steps {
  double offset = 0, gamma = 1, sigma = 0;
  random_key grain{};
};

/// shift_intensity(), adjust_gamma() and gaussian_noise() in one pass over x, whose smallest and largest voxel are `range`: what
/// resample_into() returned, or range_of(x). Steps at rest are left out.
inline void adjust_intensity(volume& x, intensity_steps const& s, value_range range,
                             thread_pool* pool = nullptr) {
  constexpr index_t block = 4 * lanes;
  float* const voxels = x.voxels.data();
  bool const shifts = s.offset != 0, powers = s.gamma != 1, noisy = s.sigma != 0;
  float const offset = float(s.offset), power = float(s.gamma), sigma = float(s.sigma);
  float const low = range.low + offset, reach = range.high + offset - low, scale = 1 / (reach + 1e-7f);
  for_ranges(pool, x.count(), [&](index_t begin, index_t end) {
    float normal[block], last[block] = {};
    for (index_t i = begin; i < end; i += block) {
      bool const whole = end - i >= block;
      float* const p = whole ? voxels + i : last;
      if (!whole) std::copy(voxels + i, voxels + end, last);
      if (noisy) normal_block(s.grain, std::uint32_t(i / block), normal);
      for (index_t k = 0; k < block; k += detail::widest) {
        detail::wide v, n;
        std::memcpy(&v, p + k, sizeof v);
        if (shifts) v += offset;
        if (powers) {
          v = (v - low) * scale;
          detail::raise(v, power);
          v = v * reach + low;
        }
        if (noisy) {
          std::memcpy(&n, normal + k, sizeof n);
          v += sigma * n;
        }
        std::memcpy(p + k, &v, sizeof v);
      }
      if (!whole) std::copy(last, last + (end - i), voxels + i);
    }
  });
}

/// x = ((x - m) / (R + 1e-7))^g R + m with m = min x, R = max x - m. A constant volume stays as it is.
inline void adjust_gamma(volume& x, double g, thread_pool* pool = nullptr) {
  adjust_intensity(x, {.gamma = g}, range_of(x, pool), pool);
}

struct contrast_adjustment {
  double gamma = 1;
  bool invert = false;             ///< works on -x
  bool retain_statistics = false;  ///< gives x its mean and unbiased deviation back
};

/// adjust_gamma(), on -x if `invert`; with retain_statistics then x = (x - mean) / (deviation + 1e-8) D + M, where M and D are
/// mean and unbiased deviation before the power. Over all voxels, background included.
/// Project-MONAI/MONAI 1.3.0, monai/transforms/intensity/array.py: AdjustContrast.
inline void adjust_contrast(volume& x, contrast_adjustment const& c, thread_pool* pool = nullptr) {
  auto const negate = [](float v) { return -v; };
  if (c.invert) map_voxels(x, negate, pool);
  auto const before = c.retain_statistics ? statistics(x, pool) : voxel_statistics{};
  adjust_gamma(x, c.gamma, pool);
  if (c.retain_statistics) {
    auto const after = statistics(x, pool);
    double const n = double(x.count()), unbiased = n > 1 ? n / (n - 1) : 1;
    double const gain = std::sqrt(before.variance * unbiased) / (std::sqrt(after.variance * unbiased) + 1e-8);
    map_voxels(
        x, [=](float v) { return float((double(v) - after.mean) * gain + before.mean); }, pool);
  }
  if (c.invert) map_voxels(x, negate, pool);
}

/// Coefficients of a bias field of degree 3 in the order: for i in 0..3, for j in 0..3-i, for k in 0..3-i-j.
using bias_coefficients = std::array<double, 20>;

/// x *= exp(sum_ijk c_ijk L_i(t0) L_j(t1) L_k(t2)), L_n the Legendre polynomials, t_a = linspace(-1, 1, n_a).
inline void bias_field(volume& x, bias_coefficients const& c, thread_pool* pool = nullptr) {
  auto const at = [](index_t i, index_t n) { return n > 1 ? -1 + 2 * double(i) / double(n - 1) : -1.0; };
  auto const legendre = [](double t) {
    return std::array{1.0, t, (3 * t * t - 1) / 2, (5 * t * t - 3) * t / 2};
  };
  std::vector<float> along(static_cast<std::size_t>(x.size.w + lanes));
  for (index_t w = 0; w < x.size.w; ++w) along[std::size_t(w)] = float(at(w, x.size.w));
  for_tasks(pool, x.size.d, [&](index_t d) {
    auto const ld = legendre(at(d, x.size.d));
    for (index_t h = 0; h < x.size.h; ++h) {
      auto const lh = legendre(at(h, x.size.h));
      double a[4] = {};  // this row's Legendre coefficients along w
      std::size_t n = 0;
      for (std::size_t i = 0; i < 4; ++i)
        for (std::size_t j = 0; i + j < 4; ++j)
          for (std::size_t k = 0; i + j + k < 4; ++k) a[k] += c[n++] * ld[i] * lh[j];
      constexpr double e = 1.4426950408889634;  // exp(v) = 2^(v log2 e)
      float const p0 = float(e * (a[0] - a[2] / 2)), p1 = float(e * (a[1] - 1.5 * a[3])),
                  p2 = float(e * 1.5 * a[2]), p3 = float(e * 2.5 * a[3]);
      float* const row = &x.at(d, h, 0);
      index_t w = 0;
      for (; w + lanes <= x.size.w; w += lanes) {
        float gain[lanes];
        for (int l = 0; l < lanes; ++l) {
          float const t = along[std::size_t(w + l)];
          gain[l] = fast_exp2(p0 + t * (p1 + t * (p2 + t * p3)));
        }
        for (int l = 0; l < lanes; ++l) row[w + l] *= gain[l];
      }
      for (; w < x.size.w; ++w) {
        float const t = along[std::size_t(w)];
        row[w] *= fast_exp2(p0 + t * (p1 + t * (p2 + t * p3)));
      }
    }
  });
}

/// Twenty coefficients U(0, most), independent.
inline bias_coefficients draw_bias(double most, random_stream& random) {
  bias_coefficients c;
  for (auto& v : c) v = random.uniform(0, most);
  return c;
}

/// The member that a uniform number u in [0, 1) picks among weights (none negative, not all 0).
template <std::size_t N>
std::size_t pick(std::array<double, N> const& weights, double u) {
  double total = 0;
  for (double w : weights) {
    check(w >= 0, "pick: a weight is ", w, ", weights must not be negative");
    total += w;
  }
  check(total > 0, "pick: all ", N, " weights are 0");
  std::size_t last = 0;
  double seen = 0;
  for (std::size_t i = 0; i < N; ++i) {
    if (weights[i] == 0) continue;
    seen += weights[i], last = i;
    if (u * total < seen) break;
  }
  return last;
}

}  // namespace insula
