// SPDX-License-Identifier: Apache-2.0
// The augmentation chains of 3D-Neuro-SimCLR, of its MAE and of its supervised baselines, ending in the masked z-score.
#pragma once

#include "insula/data/fields.hpp"
#include "insula/data/intensity.hpp"
#include "insula/data/intensity_augment.hpp"
#include "insula/data/resized_view.hpp"

namespace insula {

/// Every number of the chains, in the order in which the steps are done. A probability p applies when U[0,1) < p. Image and
/// mask share the spatial steps; masks are sampled by the nearest rule. The defaults are the published SimCLR chain, volumes are
/// (z, y, x). emilykaczmarek/3D-Neuro-SimCLR, main.py, with the transforms of Project-MONAI/MONAI 1.3.0.
struct simclr_recipe {
  index_t out_d = 150, out_h = 192, out_w = 192;  // voxels of every view
  double crop = 1;                                // probability
  index_t crop_d = 30, crop_h = 40, crop_w = 40;  // smallest size; sizes and corners are uniform
  double flip = 0.5;                              // probability; left-right, axis 2
  double rotate = 0.5, rotation = 0.785;          // probability; U(-, +) radians about axis 0, edge values
  double affine = 0;                              // probability; mirrored at the faces
  double affine_rotation = 0.1;                   // U(-, +) radians about each axis
  double affine_scale = 0.15;                     // 1 + U(-, +) per axis
  double affine_translation = 5;                  // U(-, +) voxels per axis
  double shift = 0.8, shift_most = 0.5;           // probability; U(-, +). The z-score takes it out again
  double contrast = 0.8;                          // probability
  double gamma_low = 0.5, gamma_high = 1.5;
  double noise = 0, noise_sigma = 0.1;  // probability; the deviation is U(0, .)
  index_t attempts = 100;               // until a view shows brain

  extent size() const { return {out_d, out_h, out_w}; }

  /// Calls f(name, field) for every field, for reading and writing by name.
  template <class Self, class F>
  static void fields(Self& s, F&& f) {
    f("out_d", s.out_d), f("out_h", s.out_h), f("out_w", s.out_w), f("crop", s.crop);
    f("crop_d", s.crop_d), f("crop_h", s.crop_h), f("crop_w", s.crop_w), f("flip", s.flip);
    f("rotate", s.rotate), f("rotation", s.rotation), f("affine", s.affine);
    f("affine_rotation", s.affine_rotation), f("affine_scale", s.affine_scale);
    f("affine_translation", s.affine_translation), f("shift", s.shift), f("shift_most", s.shift_most);
    f("contrast", s.contrast), f("gamma_low", s.gamma_low), f("gamma_high", s.gamma_high);
    f("noise", s.noise), f("noise_sigma", s.noise_sigma), f("attempts", s.attempts);
  }
};

/// SimCLR's pre-training.
inline simclr_recipe simclr_chain() { return {}; }
/// MAE's pre-training: crop, resize, flip.
inline simclr_recipe mae_chain() {
  simclr_recipe r;
  r.rotate = r.shift = r.contrast = 0;
  return r;
}
/// The supervised baselines, and MAE's fine-tuning.
inline simclr_recipe supervised_chain() {
  simclr_recipe r;
  r.crop_d = 90, r.crop_h = 115, r.crop_w = 115;
  r.rotate = r.contrast = 0;
  r.affine = 0.7, r.shift = 0.5, r.shift_most = 0.1, r.noise = 0.2;
  return r;
}
/// Evaluation, linear probes, SimCLR's fine-tuning: the z-score alone.
inline simclr_recipe plain_chain() {
  simclr_recipe r;
  r.crop = r.flip = r.rotate = r.shift = r.contrast = 0;
  return r;
}
/// The chain for volumes of another grid: what is counted in voxels (smallest crop, translation) keeps its share of the axis.
inline simclr_recipe for_grid(simclr_recipe r, extent grid) {
  auto const share = [](index_t n, index_t of, index_t now) {
    return std::clamp<index_t>(index_t(std::lround(double(n) * double(now) / double(of))), 1, now);
  };
  r.crop_d = share(r.crop_d, r.out_d, grid.d), r.crop_h = share(r.crop_h, r.out_h, grid.h);
  r.crop_w = share(r.crop_w, r.out_w, grid.w);
  r.affine_translation *= double(grid.w) / double(r.out_w);
  r.out_d = grid.d, r.out_h = grid.h, r.out_w = grid.w;
  return r;
}

/// Throws error for numbers that make no sense together.
inline void check_recipe(simclr_recipe const& r) {
  extent const least{r.crop_d, r.crop_h, r.crop_w};
  check(r.out_d >= 1 && r.out_h >= 1 && r.out_w >= 1 && least.d >= 1 && least.h >= 1 && least.w >= 1,
        "simclr_recipe: views of ", r.size(), " from crops of at least ", least, ": all must be at least 1");
  check(r.gamma_low > 0 && r.gamma_low <= r.gamma_high, "simclr_recipe: gamma_low is ", r.gamma_low,
        ", gamma_high is ", r.gamma_high, ": they must be positive and in order");
  check(r.affine_scale >= 0 && r.affine_scale < 1, "simclr_recipe: affine_scale is ", r.affine_scale,
        ", it must be 0 to 1");
  check(r.noise_sigma >= 0 && r.attempts >= 1, "simclr_recipe: noise_sigma is ", r.noise_sigma,
        ", attempts is ", r.attempts, ": they must be at least 0 and at least 1");
}

/// What one attempt at a view does: drawn from a key, then applied. Steps that do not happen are at rest.
struct simclr_view_parameters {
  resized_view spatial;
  bool turned = false;  // affine
  affine_parameters pose;
  double offset = 0, gamma = 1, sigma = 0;
  random_key grain;
};

namespace detail {
/// Sub-streams of one attempt: every step draws from its own, so that steps do not shift one another.
enum simclr_step : std::uint32_t {
  crop_draws,
  flip_draws,
  rotate_draws,
  affine_draws,
  shift_draws,
  contrast_draws,
  noise_draws,
  grain_draws,
  steps_per_attempt = 16
};
}  // namespace detail

/// The steps of attempt number `attempt` at a view of a volume of `size`.
inline simclr_view_parameters draw_view(simclr_recipe const& r, extent size, random_key key,
                                        index_t attempt = 0) {
  std::uint32_t const first = key.sub + std::uint32_t(attempt) * detail::steps_per_attempt;
  auto const stream = [&](std::uint32_t step) { return random_stream(key.with(first + step)); };
  simclr_view_parameters p;
  p.spatial = {{{0, 0, 0}, size}, r.size()};
  if (auto s = stream(detail::crop_draws); s.coin(r.crop))
    p.spatial.from = draw_box(size, {r.crop_d, r.crop_h, r.crop_w}, s);
  if (auto s = stream(detail::flip_draws); s.coin(r.flip)) p.spatial.flip = true;
  if (auto s = stream(detail::rotate_draws); s.coin(r.rotate))
    p.spatial.angle = s.uniform(-r.rotation, r.rotation);
  if (auto s = stream(detail::affine_draws); s.coin(r.affine)) {
    p.turned = true;
    p.pose = draw({.rotation = r.affine_rotation,
                   .shear = 0,
                   .scale = r.affine_scale,
                   .translation = r.affine_translation},
                  s);
  }
  if (auto s = stream(detail::shift_draws); s.coin(r.shift))
    p.offset = s.uniform(-r.shift_most, r.shift_most);
  if (auto s = stream(detail::contrast_draws); s.coin(r.contrast))
    p.gamma = s.uniform(r.gamma_low, r.gamma_high);
  if (auto s = stream(detail::noise_draws); s.coin(r.noise)) p.sigma = s.uniform(0, r.noise_sigma);
  p.grain = key.with(first + detail::grain_draws);
  return p;
}

/// Memory that simclr_view() uses again: one per thread.
struct simclr_scratch {
  volume image, mask, turned;
  view_scratch view;
};

namespace detail {
inline volume& sized(volume& v, extent size) {
  v.size = size, v.voxels.resize(std::size_t(size.size()));
  return v;
}

/// One attempt: y (=), false if the view shows no brain or is not finite.
inline bool try_view(volume const& image, volume const& mask, simclr_view_parameters const& p,
                     simclr_scratch& s, float* y) {
  extent const n = p.spatial.size;
  bool brain = view_mask(mask, p.spatial, s.view, sized(s.mask, n).voxels.data());
  if (!brain) return false;
  view_image(image, p.spatial, s.view, sized(s.image, n).voxels.data());
  value_range range;
  if (p.turned) {
    index_map const map = centred_map(p.pose, n, n);
    for (auto const& [v, how] :
         {std::pair{&s.mask, interpolation::nearest}, {&s.image, interpolation::linear}}) {
      range = resample_into(sampler(*v), n, map, {how, outside::mirror}, sized(s.turned, n).voxels.data());
      std::swap(v->voxels, s.turned.voxels);
    }
  } else if (p.gamma != 1) {
    range = range_of(s.image);
  }
  if (p.offset != 0 || p.gamma != 1 || p.sigma > 0)
    adjust_intensity(s.image, {p.offset, p.gamma, p.sigma, p.grain}, range);
  return masked_z_score(n.size(), s.image.voxels.data(), s.mask.voxels.data(), y).usable;
}
}  // namespace detail

/// The key of a view: a function of the run's seed, the epoch, the sample's number and the view's (0, 1, ...).
inline random_key view_key(std::uint64_t seed, index_t epoch, index_t sample, std::uint32_t view) {
  return {seed, mix(mix(0x51c1e3, std::uint64_t(epoch)), std::uint64_t(sample)), view << 20};
}

/// One view of an image and its mask: writes (=) r.size() voxels to y, normalised to mean 0 and deviation 1 within the mask and
/// 0 outside. Draws again until image and mask are finite and not all 0, at most r.attempts times; then throws error (the
/// published loop never ends). A function of its arguments alone; key.sub is a multiple of 2^20 (view_key).
inline void simclr_view(volume const& image, volume const& mask, simclr_recipe const& r, random_key key,
                        simclr_scratch& s, float* y) {
  check_recipe(r);
  check(image.size == mask.size && image.count() > 0, "simclr_view: the image has ", image.size,
        " voxels, the mask ", mask.size, "; they must have one grid");
  check(r.attempts < (index_t{1} << 16), "simclr_recipe: attempts is ", r.attempts,
        ", at most 65535 are possible");
  for (index_t a = 0; a < r.attempts; ++a)
    if (detail::try_view(image, mask, draw_view(r, image.size, key, a), s, y)) return;
  fail("simclr_view: none of ", r.attempts, " views of a volume of ", image.size,
       " was finite and showed brain: is the mask empty, the image constant or not finite? "
       "Otherwise raise the smallest crop or attempts");
}

}  // namespace insula
