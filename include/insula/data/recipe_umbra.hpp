// SPDX-License-Identifier: Apache-2.0
// UMBRA's training and validation pipelines for contrastive pairs and for masked reconstruction.
#pragma once

#include <string>

#include "insula/data/augment.hpp"
#include "insula/data/fields.hpp"

namespace insula {

/// Every number of UMBRA's augmentation; the defaults are the published ones.
/// BraveDistribution/UMBRA, transforms/composed.py (conservative mode). A probability p applies when U[0,1) < p;
/// "one of" picks a member by weight, the member's own probability still applies.
struct umbra_recipe {
  index_t crop = 96;                           // voxels per axis of every output
  double flip = 0.5;                           // probability, per flipped axis
  double affine = 1.0;                         // probability
  double rotation = 0.3;                       // U(-, +) radians about each axis
  double shear = 0.3;                          // U(-, +), three coefficients
  double scale = 0.1;                          // 1 + U(-, +) per axis
  double contrast = 0.8;                       // probability of scaling about the mean
  double contrast_range = 0.1;                 // factor U(-, +)
  double noise = 0.3;                          // probability
  double noise_sigma = 0.01;                   // sigma U(0, .)
  double artefact_weights[3] = {1, 1, 1};      // one of: smooth, bias field, Gibbs
  double smooth = 0.7;                         // probability, once picked
  double smooth_low = 0.5, smooth_high = 1.0;  // sigma in voxels, per axis
  double bias = 0.7;                           // probability, once picked
  double bias_most = 0.05;                     // coefficients U(0, .)
  double gibbs = 0.7;                          // probability, once picked
  double gibbs_low = 0.2, gibbs_high = 0.4;    // alpha
  double tone_weights[2] = {1, 1};             // one of: gamma, low resolution
  double gamma = 1.0;                          // probability, once picked
  double gamma_low = 0.9, gamma_high = 1.1;
  double coarse = 0.5;                         // probability, once picked
  double coarse_low = 0.8, coarse_high = 1.0;  // zoom

  /// Calls f(name, field) for every field, for reading and writing by name.
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("crop", s.crop), f("flip", s.flip), f("affine", s.affine), f("rotation", s.rotation),
        f("shear", s.shear);
    f("scale", s.scale), f("contrast", s.contrast), f("contrast_range", s.contrast_range),
        f("noise", s.noise);
    f("noise_sigma", s.noise_sigma), f("smooth_weight", s.artefact_weights[0]);
    f("bias_weight", s.artefact_weights[1]), f("gibbs_weight", s.artefact_weights[2]), f("smooth", s.smooth);
    f("smooth_low", s.smooth_low), f("smooth_high", s.smooth_high), f("bias", s.bias),
        f("bias_most", s.bias_most);
    f("gibbs", s.gibbs), f("gibbs_low", s.gibbs_low), f("gibbs_high", s.gibbs_high);
    f("gamma_weight", s.tone_weights[0]), f("coarse_weight", s.tone_weights[1]), f("gamma", s.gamma);
    f("gamma_low", s.gamma_low), f("gamma_high", s.gamma_high), f("coarse", s.coarse);
    f("coarse_low", s.coarse_low), f("coarse_high", s.coarse_high);
  }
};

/// What the intensity steps of one view do: drawn from a key, then applied. Unused parameters are at rest.
struct umbra_intensity {
  enum class artefact { none, smooth, bias, gibbs };
  enum class tone { none, gamma, coarse };

  bool scaled = false, noisy = false;
  double factor = 0, sigma = 0;
  artefact first = artefact::none;
  std::array<double, 3> widths{0, 0, 0};
  bias_coefficients bias{};
  double alpha = 0;
  tone second = tone::none;
  double gamma = 1, zoom = 1;
};

namespace detail {
/// Places in a key's sub-stream: each step of each view draws from its own, so steps do not shift one another.
enum umbra_step : std::uint32_t { coins = 0, corner = 1, spatial = 16, intensity = 32, grain = 48 };
}  // namespace detail

/// Draws the intensity steps of one view: scaling, noise, one of {smooth, bias, Gibbs}, one of {gamma, coarse}.
inline umbra_intensity draw_intensity(umbra_recipe const& r, random_stream& random) {
  umbra_intensity v;
  if ((v.scaled = random.coin(r.contrast))) v.factor = random.uniform(-r.contrast_range, r.contrast_range);
  if ((v.noisy = random.coin(r.noise))) v.sigma = random.uniform(0, r.noise_sigma);
  auto const artefact =
      pick(std::array{r.artefact_weights[0], r.artefact_weights[1], r.artefact_weights[2]}, random.uniform());
  if (artefact == 0 && random.coin(r.smooth)) {
    v.first = umbra_intensity::artefact::smooth, v.widths = draw_widths(r.smooth_low, r.smooth_high, random);
  } else if (artefact == 1 && random.coin(r.bias)) {
    v.first = umbra_intensity::artefact::bias, v.bias = draw_bias(r.bias_most, random);
  } else if (artefact == 2 && random.coin(r.gibbs)) {
    v.first = umbra_intensity::artefact::gibbs, v.alpha = random.uniform(r.gibbs_low, r.gibbs_high);
  }
  auto const tone = pick(std::array{r.tone_weights[0], r.tone_weights[1]}, random.uniform());
  if (tone == 0 && random.coin(r.gamma))
    v.second = umbra_intensity::tone::gamma, v.gamma = random.uniform(r.gamma_low, r.gamma_high);
  else if (tone == 1 && random.coin(r.coarse))
    v.second = umbra_intensity::tone::coarse, v.zoom = random.uniform(r.coarse_low, r.coarse_high);
  return v;
}

/// Applies drawn intensity steps to x, in order; `grain` is the key of the noise.
inline void apply_intensity(volume& x, umbra_intensity const& v, random_key grain,
                            thread_pool* pool = nullptr) {
  if (v.scaled) scale_about_mean(x, v.factor, pool);
  if (v.noisy) gaussian_noise(x, v.sigma, grain, pool);
  switch (v.first) {
    case umbra_intensity::artefact::none:
      break;
    case umbra_intensity::artefact::smooth:
      x = smooth(x, v.widths, pool);
      break;
    case umbra_intensity::artefact::bias:
      bias_field(x, v.bias, pool);
      break;
    case umbra_intensity::artefact::gibbs:
      gibbs(x, v.alpha, pool);
      break;
  }
  switch (v.second) {
    case umbra_intensity::tone::none:
      break;
    case umbra_intensity::tone::gamma:
      adjust_gamma(x, v.gamma, pool);
      break;
    case umbra_intensity::tone::coarse:
      x = low_resolution(x, v.zoom, pool);
      break;
  }
}

/// Two views of one session and their reconstruction targets, all crop^3 from one corner. The targets carry the
/// spatial augmentation but clean intensities.
struct contrastive_sample {
  volume view1, view2, recon1, recon2;
};

/// One volume to mask and its target.
struct reconstruction_sample {
  volume view, recon;
};

namespace detail {

/// Spatial steps of one view: flips by the given coins, then its own affine.
inline volume spatial_view(volume const& x, umbra_recipe const& r, std::array<bool, 2> flips, random_key key,
                           std::uint32_t view, thread_pool* pool) {
  random_stream random(key.with(umbra_step::spatial + view));
  bool const turn = random.coin(r.affine);
  auto const p = draw({.rotation = r.rotation, .shear = r.shear, .scale = r.scale}, random);
  index_map map = turn ? centred_map(p, x.size, x.size) : index_map{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
  for (int axis = 0; axis < 2;
       ++axis)  // a flip moves whole voxels: it joins the affine's map, q -> n - 1 - q
    if (flips[std::size_t(axis)]) {
      for (int j = 0; j < 4; ++j) map[std::size_t(4 * axis + j)] *= -1;
      map[std::size_t(4 * axis + 3)] += double(x.size[axis] - 1);
    }
  return resample(x, x.size, map, {}, pool);
}

inline volume degraded(volume x, umbra_recipe const& r, random_key key, std::uint32_t view,
                       thread_pool* pool) {
  random_stream random(key.with(umbra_step::intensity + view));
  apply_intensity(x, draw_intensity(r, random), key.with(umbra_step::grain + view), pool);
  return x;
}

inline void check_recipe(umbra_recipe const& r, volume const& x) {
  check(r.crop >= 1, "umbra_recipe: crop is ", r.crop, ", it must be at least 1");
  check(x.count() > 0, "umbra_recipe: a volume has no voxels");
}

/// The last two steps: pad to at least crop_size^3, crop at `corner`.
inline volume finished(volume const& x, extent corner, index_t crop_size, thread_pool* pool) {
  return crop(pad(x, cube(crop_size), padding::edge, pool), corner, cube(crop_size), pool);
}

inline extent common_size(volume const& a, volume const& b) {
  extent n;
  for (int i = 0; i < 3; ++i) n[i] = std::max(a.size[i], b.size[i]);
  return n;
}

inline extent at_least(extent n, index_t crop_size) {
  for (int i = 0; i < 3; ++i) n[i] = std::max(n[i], crop_size);
  return n;
}

}  // namespace detail

/// UMBRA's contrastive training pipeline on two volumes of a session (the same volume twice in `regular` mode):
/// shared flip of axis 0; own affine per view; pad to the common size; targets copied; own intensity steps; pad
/// to crop^3; one shared random corner. A pure function of its arguments: `pool` only changes the time.
inline contrastive_sample umbra_contrastive(volume const& a, volume const& b, umbra_recipe const& r,
                                            random_key key, thread_pool* pool = nullptr) {
  detail::check_recipe(r, a), detail::check_recipe(r, b);
  random_stream coins(key.with(detail::umbra_step::coins)), corners(key.with(detail::umbra_step::corner));
  std::array<bool, 2> const flips{coins.coin(r.flip), false};
  extent const size = detail::common_size(a, b);
  extent const corner = draw_corner(detail::at_least(size, r.crop), cube(r.crop), corners);
  auto const view = [&](volume const& x, std::uint32_t i, volume& recon) {
    volume y = detail::spatial_view(x, r, flips, key, i, pool);
    if (y.size != size) y = pad(y, size, padding::edge, pool);
    recon = detail::finished(y, corner, r.crop, pool);
    return detail::finished(detail::degraded(std::move(y), r, key, i, pool), corner, r.crop, pool);
  };
  contrastive_sample s;
  s.view1 = view(a, 0, s.recon1), s.view2 = view(b, 1, s.recon2);
  return s;
}

/// The validation pipeline of the contrastive task: common size, pad, centre crop; nothing random.
inline contrastive_sample umbra_contrastive_validation(volume const& a, volume const& b,
                                                       umbra_recipe const& r, thread_pool* pool = nullptr) {
  detail::check_recipe(r, a), detail::check_recipe(r, b);
  extent const size = detail::common_size(a, b);
  auto const view = [&](volume const& x) {
    return centre_crop(pad(pad(x, size, padding::edge, pool), cube(r.crop), padding::edge, pool),
                       cube(r.crop), pool);
  };
  contrastive_sample s{view(a), view(b), {}, {}};
  s.recon1 = s.view1, s.recon2 = s.view2;
  return s;
}

/// UMBRA's training pipeline for masked reconstruction: flips of axes 0 and 1 by two coins; affine; target copied;
/// intensity steps; pad; one random crop for both.
inline reconstruction_sample umbra_mae(volume const& x, umbra_recipe const& r, random_key key,
                                       thread_pool* pool = nullptr) {
  detail::check_recipe(r, x);
  random_stream coins(key.with(detail::umbra_step::coins)), corners(key.with(detail::umbra_step::corner));
  bool const first = coins.coin(r.flip), second = coins.coin(r.flip);
  extent const corner = draw_corner(detail::at_least(x.size, r.crop), cube(r.crop), corners);
  volume y = detail::spatial_view(x, r, {first, second}, key, 0, pool);
  reconstruction_sample s;
  s.recon = detail::finished(y, corner, r.crop, pool);
  s.view = detail::finished(detail::degraded(std::move(y), r, key, 0, pool), corner, r.crop, pool);
  return s;
}

/// The validation pipeline for masked reconstruction: pad, centre crop.
inline reconstruction_sample umbra_mae_validation(volume const& x, umbra_recipe const& r,
                                                  thread_pool* pool = nullptr) {
  detail::check_recipe(r, x);
  volume const y = centre_crop(pad(x, cube(r.crop), padding::edge, pool), cube(r.crop), pool);
  return {y, y};
}

}  // namespace insula
