// SPDX-License-Identifier: Apache-2.0
// Gibbs ringing: a sphere of low frequencies is kept, the rest of the spectrum is cut off.
#pragma once

#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "insula/data/fft.hpp"
#include "insula/data/voxels.hpp"

namespace insula {

namespace detail {

/// The half spectrum (bins 0 .. w/2 of the last axis) of a real volume, planar, rows padded to whole lanes.
class half_spectrum {
 public:
  explicit half_spectrum(extent n)
      : n_(n),
        bins_(n.w / 2 + 1),
        row_((bins_ + lanes - 1) / lanes * lanes),
        along_d_(n.d),
        along_h_(n.h),
        along_w_(n.w),
        re_(std::size_t(n.d * n.h * row_), 0.0f),
        im_(re_.size(), 0.0f) {}

  /// Forward along w and h, for one plane.
  void forward_plane(float const* x, index_t d) {
    index_t const longest = std::max(n_.h, n_.w);
    std::vector<float> re(std::size_t(longest * lanes)), im(re.size()), work(workspace());
    for (index_t h = 0; h < n_.h; h += 2 * lanes) {  // a lane carries two real rows as one complex row
      for (int l = 0; l < lanes; ++l) {
        index_t const a = h + 2 * l, b = a + 1;
        for (index_t w = 0; w < n_.w; ++w)
          re[std::size_t(w * lanes + l)] = a < n_.h ? x[a * n_.w + w] : 0.0f,
                                     im[std::size_t(w * lanes + l)] = b < n_.h ? x[b * n_.w + w] : 0.0f;
      }
      along_w_.run(re.data(), im.data(), work.data());
      for (int l = 0; l < lanes; ++l)
        for (index_t k = 0; k < bins_; ++k) {
          std::size_t const i = std::size_t(k * lanes + l), j = std::size_t((n_.w - k) % n_.w * lanes + l);
          index_t const a = h + 2 * l, b = a + 1;
          if (a < n_.h) re_[at(d, a, k)] = (re[i] + re[j]) / 2, im_[at(d, a, k)] = (im[i] - im[j]) / 2;
          if (b < n_.h) re_[at(d, b, k)] = (im[i] + im[j]) / 2, im_[at(d, b, k)] = (re[j] - re[i]) / 2;
        }
    }
    transform_h(d, re.data(), im.data(), work.data(), false);
  }

  /// Forward along d, multiplication by weight(d, h, w), inverse along d, for one row h of all planes.
  template <class Weight>
  void filter_row(index_t h, Weight const& weight) {
    std::vector<float> re(std::size_t(n_.d * lanes)), im(re.size()), work(workspace());
    for (index_t k = 0; k < row_; k += lanes) {
      for (index_t d = 0; d < n_.d; ++d)
        std::copy_n(&re_[at(d, h, k)], lanes, &re[std::size_t(d * lanes)]),
            std::copy_n(&im_[at(d, h, k)], lanes, &im[std::size_t(d * lanes)]);
      along_d_.run(re.data(), im.data(), work.data());
      for (index_t d = 0; d < n_.d; ++d)
        for (int l = 0; l < lanes && k + l < bins_; ++l) {
          float const w = weight(d, h, k + l);
          re[std::size_t(d * lanes + l)] *= w, im[std::size_t(d * lanes + l)] *= w;
        }
      along_d_.run(im.data(), re.data(), work.data());
      for (index_t d = 0; d < n_.d; ++d)
        std::copy_n(&re[std::size_t(d * lanes)], lanes, &re_[at(d, h, k)]),
            std::copy_n(&im[std::size_t(d * lanes)], lanes, &im_[at(d, h, k)]);
    }
  }

  /// Inverse along h and w (times h w), for one plane.
  void inverse_plane(float* x, index_t d) {
    index_t const longest = std::max(n_.h, n_.w);
    std::vector<float> re(std::size_t(longest * lanes)), im(re.size()), work(workspace());
    transform_h(d, re.data(), im.data(), work.data(), true);
    for (index_t h = 0; h < n_.h; h += 2 * lanes) {
      for (int l = 0; l < lanes; ++l)
        for (index_t k = 0; k < bins_; ++k) {
          index_t const a = h + 2 * l, b = a + 1;
          float const ar = a < n_.h ? re_[at(d, a, k)] : 0, ai = a < n_.h ? im_[at(d, a, k)] : 0;
          float const br = b < n_.h ? re_[at(d, b, k)] : 0, bi = b < n_.h ? im_[at(d, b, k)] : 0;
          std::size_t const i = std::size_t(k * lanes + l), j = std::size_t((n_.w - k) % n_.w * lanes + l);
          re[j] = ar + bi, im[j] = br - ai;
          re[i] = ar - bi, im[i] = br + ai;
        }
      along_w_.run(im.data(), re.data(), work.data());
      for (int l = 0; l < lanes; ++l) {
        index_t const a = h + 2 * l, b = a + 1;
        for (index_t w = 0; w < n_.w && a < n_.h; ++w) x[a * n_.w + w] = re[std::size_t(w * lanes + l)];
        for (index_t w = 0; w < n_.w && b < n_.h; ++w) x[b * n_.w + w] = im[std::size_t(w * lanes + l)];
      }
    }
  }

 private:
  std::size_t at(index_t d, index_t h, index_t k) const { return std::size_t((d * n_.h + h) * row_ + k); }
  std::size_t workspace() const {
    return std::size_t(std::max({along_d_.workspace(), along_h_.workspace(), along_w_.workspace()}));
  }
  void transform_h(index_t d, float* re, float* im, float* work, bool inverse) {
    for (index_t k = 0; k < row_; k += lanes) {
      for (index_t h = 0; h < n_.h; ++h)
        std::copy_n(&re_[at(d, h, k)], lanes, re + h * lanes),
            std::copy_n(&im_[at(d, h, k)], lanes, im + h * lanes);
      if (inverse)
        along_h_.run(im, re, work);
      else
        along_h_.run(re, im, work);
      for (index_t h = 0; h < n_.h; ++h)
        std::copy_n(re + h * lanes, lanes, &re_[at(d, h, k)]),
            std::copy_n(im + h * lanes, lanes, &im_[at(d, h, k)]);
    }
  }

  extent n_;
  index_t bins_, row_;
  line_transform along_d_, along_h_, along_w_;
  std::vector<float> re_, im_;
};

}  // namespace detail

/// x = Re(IFFT3(mask FFT3(x))). In the spectrum shifted so that the zero frequency lies at floor(n / 2), the mask
/// keeps bins with |i - (n - 1) / 2| <= (1 - alpha) max(n) sqrt(2) / 2; its centre is half a bin off the zero
/// frequency along even axes, as in the source. The real part makes that the mean of the mask and its mirror
/// image, so half of the spectrum suffices. 0 <= alpha <= 1.
/// Project-MONAI/MONAI, monai/transforms/intensity/array.py: GibbsNoise.
inline void gibbs(volume& x, double alpha, thread_pool* pool = nullptr) {
  check(alpha >= 0 && alpha <= 1, "gibbs: alpha is ", alpha, ", it must be 0 to 1");
  check(x.count() > 0, "gibbs: the volume has no voxels");
  extent const n = x.size;
  double const radius = (1 - alpha) * double(std::max({n.d, n.h, n.w})) * std::numbers::sqrt2 / 2;
  float const most = float(radius * radius);
  std::vector<float> square[3],
      mirror[3];  // per axis and bin: squared distance of the bin and of its mirror image
  for (int a = 0; a < 3; ++a)
    for (index_t k = 0; k < n[a]; ++k) {
      auto const distance = [&](index_t bin) {
        double const i = double((bin + n[a] / 2) % n[a]) - double(n[a] - 1) / 2;
        return float(i * i);
      };
      square[a].push_back(distance(k)), mirror[a].push_back(distance((n[a] - k) % n[a]));
    }
  float const half = float(0.5 / double(x.count()));
  detail::half_spectrum spectrum(n);
  float* const p = x.voxels.data();
  for_tasks(pool, n.d, [&](index_t d) { spectrum.forward_plane(p + d * n.h * n.w, d); });
  for_tasks(pool, n.h, [&](index_t h) {
    spectrum.filter_row(h, [&](index_t d, index_t, index_t w) {
      auto const i = std::size_t(d), j = std::size_t(h), k = std::size_t(w);
      float const here = square[0][i] + square[1][j] + square[2][k],
                  there = mirror[0][i] + mirror[1][j] + mirror[2][k];
      return (here <= most ? half : 0.0f) + (there <= most ? half : 0.0f);
    });
  });
  for_tasks(pool, n.d, [&](index_t d) { spectrum.inverse_plane(p + d * n.h * n.w, d); });
}

}  // namespace insula
