// SPDX-License-Identifier: Apache-2.0
// Virtual subjects: new anatomies made from one by smooth invertible warps, for cohorts of any size.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "insula/data/contrast.hpp"
#include "insula/data/lesion.hpp"
#include "insula/data/low_resolution.hpp"
#include "insula/data/warp.hpp"

namespace insula {

/// How virtual subjects differ from their source, lengths in millimetres.
struct cohort_options {
  double warp_mm = 6;         // largest displacement of the random warp
  double warp_scale_mm = 20;  // its smoothness: standard deviation of the Gaussian that shapes it
  affine_ranges pose{
      .rotation = 0.05, .shear = 0.02, .scale = 0.06, .translation = 0};  // translation in voxels
  double mirror = 0;                         // probability of exchanging left and right (axis 0)
  double atrophy_low = 0, atrophy_high = 1;  // range of the atrophy parameter, within [0, 1]
  double atrophy_core = 0.3;                 // at atrophy 1 the centre grows by 1 / (1 - core) per axis
  double atrophy_surface = 0.08;  // at atrophy 1 the surface shrinks by about 1 / (1 + surface) per axis
  double voxel_mm = 0;            // edge of the output's voxels; 0 keeps the source's
  double noise = 0.01;  // standard deviation, as a fraction of the intensity window; background stays clean
  double bias = 0.02;   // Legendre coefficients U(0, .) of a bias field
  double least_jacobian = 0.2;  // the random warp is halved until no volume element shrinks below this
  std::string anatomy;          // source volume that shows where the brain is; the first by name if empty
  std::vector<std::string>
      labels;  // sources that are label maps: nearest interpolation, intensities untouched
  std::vector<simulated_contrast> contrasts;
  lesion_options lesions;
};

/// What make_virtual_subject() drew: enough to use as ground truth for regression and segmentation.
struct subject_parameters {
  double atrophy = 0;
  double warp_mm = 0;  // amplitude after halving
  bool mirrored = false;
  affine_parameters pose;
  jacobian_range jacobian;
  std::vector<ellipsoid> lesions;  // voxels of the output
};

/// Volumes by name, all on one grid. `lesions` has label 1 in lesions; it is all 0 for a subject without any, and has no
/// voxels if the options ask for none.
struct virtual_subject {
  std::map<std::string, volume> volumes;
  volume lesions;
  subject_parameters parameters;
};

/// Source position of output position p under atrophy a, both in voxels. Along every ray from the brain's centre, with
/// r the distance in units of the brain's ellipsoid: source r = r (1 + a (surface - (surface + core) exp(-(r / 0.5)^2))).
/// The middle (ventricles) grows and the outer surface draws inwards, both monotonically in a; invertible for
/// 0 <= a <= 1, core < 1.
inline point atrophy_map(point const& p, ellipsoid const& brain, double a, double core, double surface) {
  double const r = brain.distance(p) / 0.5;
  double const factor = 1 + a * (surface - (surface + core) * std::exp(-r * r));
  point q;
  for (std::size_t k = 0; k < 3; ++k) q[k] = brain.centre[k] + (p[k] - brain.centre[k]) * factor;
  return q;
}

namespace detail {

/// Sub-streams of a subject's key: anatomy is shared by all sessions, the rest is drawn per session.
enum cohort_stream : std::uint32_t {
  anatomy_draws = 0,
  velocity = 8,
  lesion_draws = 16,
  session_draws = 1024
};

inline void check_cohort(cohort_options const& o, std::map<std::string, volume> const& source) {
  check(!source.empty(), "make_virtual_subject: there are no source volumes");
  check(o.anatomy.empty() || source.count(o.anatomy), "make_virtual_subject: there is no source \"",
        o.anatomy, "\" to take the anatomy from");
  auto const& [name, first] = *source.begin();
  for (auto const& [n, v] : source)
    check(v.size == first.size && v.count() > 0 && v.voxels.size() == std::size_t(v.count()),
          "make_virtual_subject: \"", n, "\" is ", v.size, ", \"", name, "\" is ", first.size,
          ": bring all volumes of a subject onto one grid");
  for (auto const& l : o.labels)
    check(source.count(l), "make_virtual_subject: there is no source \"", l, "\", named as labels");
  for (auto const& c : o.contrasts)
    check(source.count(c.source) && !source.count(c.name), "make_virtual_subject: contrast \"", c.name,
          "\" from \"", c.source, "\": the second must be a source, the first must not");
  check(o.atrophy_low >= 0 && o.atrophy_low <= o.atrophy_high && o.atrophy_high <= 1,
        "make_virtual_subject: atrophy ranges from ", o.atrophy_low, " to ", o.atrophy_high,
        "; it must be ordered within [0, 1]");
  check(o.atrophy_core >= 0 && o.atrophy_core < 1 && o.atrophy_surface >= 0 && o.atrophy_surface < 1,
        "make_virtual_subject: atrophy_core is ", o.atrophy_core, " and atrophy_surface ", o.atrophy_surface,
        "; both must lie in [0, 1)");
  check(o.voxel_mm >= 0, "make_virtual_subject: voxel_mm is ", o.voxel_mm, ", it must not be negative");
}

/// Output grid of voxels of `mm`, sharing the source's outer faces up to rounding.
inline extent output_size(extent n, point const& source_mm, double mm) {
  if (mm <= 0) return n;
  extent out;
  for (int a = 0; a < 3; ++a)
    out[a] = std::max<index_t>(1, index_t(std::lround(double(n[a]) * source_mm[std::size_t(a)] / mm)));
  return out;
}

/// Source positions of the output's lattice nodes: pose(flow(atrophy(grid(o)))), mirrored if asked.
/// The pose acts in millimetres.
inline lattice anatomy_map(extent in, extent out, point const& mm, lattice const& displacement,
                           ellipsoid const& brain, subject_parameters const& p, cohort_options const& o) {
  index_map const grid = resize_map(in, out);
  auto const matrix = affine_matrix(p.pose);
  point spacing_out;
  for (std::size_t a = 0; a < 3; ++a) spacing_out[a] = displacement.step[a] / grid[5 * a];
  lattice map = make_lattice(out, spacing_out);
  for_nodes(map, [&](std::size_t n, point const& at) {
    point q;
    for (std::size_t a = 0; a < 3; ++a) q[a] = grid[5 * a] * at[a] + grid[4 * a + 3];
    q = atrophy_map(q, brain, p.atrophy, o.atrophy_core, o.atrophy_surface);
    point const u = value_at(displacement, q);
    for (std::size_t a = 0; a < 3; ++a) q[a] += u[a] - brain.centre[a];
    point s;
    for (std::size_t i = 0; i < 3; ++i) {
      s[i] = brain.centre[i] + p.pose.translation[i];
      for (std::size_t j = 0; j < 3; ++j) s[i] += matrix[3 * i + j] * q[j] * mm[j] / mm[i];
    }
    if (p.mirrored) s[0] = double(in.d - 1) - s[0];
    for (std::size_t a = 0; a < 3; ++a) map.value[a][n] = float(s[a]);
  });
  return map;
}

/// Noise and bias of one acquisition inside the brain, where magnitudes stay above the background's.
inline void acquire(volume& x, volume const& brain, intensity_window const& window, cohort_options const& o,
                    random_key key, thread_pool* pool) {
  random_stream random(key);
  shift_intensity(x, -double(window.low), pool);
  bias_field(x, draw_bias(o.bias, random), pool);
  shift_intensity(x, double(window.low), pool);
  if (o.noise > 0) gaussian_noise(x, o.noise * double(window.range()), key.with(key.sub + 1), pool);
  float const least = window.low + 1e-3f * window.range();
  for_ranges(pool, x.count(), [&](index_t begin, index_t end) {
    for (auto i = std::size_t(begin); i < std::size_t(end); ++i)
      x.voxels[i] = brain.voxels[i] >= 0.5f ? std::max(x.voxels[i], least) : window.low;
  });
}

/// 1 where a volume is above its lowest intensity, the background; 1 everywhere in a constant volume.
inline volume above_background(volume const& x) {
  float const low = *std::min_element(x.voxels.begin(), x.voxels.end()),
              high = *std::max_element(x.voxels.begin(), x.voxels.end());
  volume mask = x;
  for (auto& v : mask.voxels) v = v > low || low == high ? 1.f : 0.f;
  return mask;
}

/// Smooths what a coarser grid cannot show: standard deviation 0.4 of the output's voxel, per axis that shrinks.
inline volume band_limited(volume const& x, extent out, thread_pool* pool) {
  std::array<double, 3> sigma{0, 0, 0};
  for (int a = 0; a < 3; ++a) {
    double const ratio = double(x.size[a]) / double(out[a]);
    if (ratio > 1.2) sigma[std::size_t(a)] = 0.4 * ratio;
  }
  return sigma[0] + sigma[1] + sigma[2] > 0 ? smooth(x, sigma, pool) : x;
}

}  // namespace detail

/// Warps all volumes of one subject alike into a new subject, a pure function of its arguments (`pool` changes only the
/// time). Source volumes share a grid; images have their background as lowest intensity. Anatomy (warp, pose, atrophy,
/// mirror, lesions) depends on (key.seed, key.stream); noise, bias and the contrasts' jitter also on `session`, so two
/// sessions of one key are two scans of one person. Throws error for inconsistent sources or options.
inline virtual_subject make_virtual_subject(cohort_options const& o,
                                            std::map<std::string, volume> const& source, random_key key,
                                            std::uint32_t session = 0, thread_pool* pool = nullptr) {
  detail::check_cohort(o, source);
  volume const& anatomy = o.anatomy.empty() ? source.begin()->second : source.at(o.anatomy);
  point const mm = spacing(anatomy.to_world);
  extent const in = anatomy.size, out = detail::output_size(in, mm, o.voxel_mm);
  ellipsoid const brain = brain_ellipsoid(anatomy);

  virtual_subject s;
  random_stream random(key.with(detail::cohort_stream::anatomy_draws));
  s.parameters.atrophy = random.uniform(o.atrophy_low, o.atrophy_high);
  s.parameters.mirrored = random.coin(o.mirror);
  s.parameters.pose = draw(o.pose, random);
  lattice const velocity =
      smooth_velocity(in, mm, 1, o.warp_scale_mm, key.with(detail::cohort_stream::velocity));
  lattice map;
  s.parameters.warp_mm = o.warp_mm;
  for (int halvings = 0;; ++halvings) {
    check(halvings < 30, "make_virtual_subject: even without a random warp the Jacobian determinant is ",
          s.parameters.jacobian.low, ", below least_jacobian ", o.least_jacobian,
          ": lower it, or the ranges of pose");
    lattice scaled = velocity;
    for (auto& component : scaled.value)
      for (auto& v : component) v *= float(s.parameters.warp_mm);
    map = detail::anatomy_map(in, out, mm, flow(std::move(scaled)), brain, s.parameters, o);
    s.parameters.jacobian = jacobians(map);
    double const grid = double(in.size()) / double(out.size()) * (s.parameters.mirrored ? -1 : 1);
    s.parameters.jacobian.low /= grid, s.parameters.jacobian.high /= grid;
    if (s.parameters.mirrored) std::swap(s.parameters.jacobian.low, s.parameters.jacobian.high);
    if (s.parameters.jacobian.low >= o.least_jacobian) break;
    s.parameters.warp_mm /= 2;
  }

  affine const to_world = placed(anatomy.to_world, detail::resize_map(in, out));
  auto const is_label = [&](std::string const& name) {
    return std::find(o.labels.begin(), o.labels.end(), name) != o.labels.end();
  };
  for (auto const& [name, v] : source)
    s.volumes[name] = is_label(name) ? warp(v, map, to_world, {interpolation::nearest, outside::zero}, pool)
                                     : warp(detail::band_limited(v, out, pool), map, to_world, {}, pool);
  // Skull-stripped stays skull-stripped: interpolation must not spread the brain into voxels of background.
  volume const inside =
      warp(detail::band_limited(detail::above_background(anatomy), out, pool), map, to_world, {}, pool);
  std::map<std::string, intensity_window> windows;
  for (auto& [name, v] : s.volumes) {
    if (is_label(name)) continue;
    float const low = *std::min_element(source.at(name).voxels.begin(), source.at(name).voxels.end());
    for (std::size_t i = 0; i < v.voxels.size(); ++i)
      if (inside.voxels[i] < 0.5f) v.voxels[i] = low;
    windows[name] = window_of(v);
  }

  std::uint32_t const first = detail::cohort_stream::session_draws * (session + 1);
  for (std::size_t i = 0; i < o.contrasts.size(); ++i) {
    auto const& c = o.contrasts[i];
    check(windows.count(c.source), "make_virtual_subject: contrast \"", c.name, "\" is made from \"",
          c.source, "\", which is a label map");
    random_stream jitter(key.with(first + 512 + std::uint32_t(i)));
    transfer_curve curve = c.curve;
    for (std::size_t k = 1; k < curve.size(); ++k)
      curve[k] = std::max(0.0, curve[k] + jitter.uniform(-c.jitter, c.jitter));
    volume x = s.volumes.at(c.source);
    apply_curve(x, curve, windows.at(c.source), pool);
    windows[c.name] = windows.at(c.source), s.volumes[c.name] = std::move(x);
  }

  if (o.lesions.most > 0) {
    std::string const where = o.anatomy.empty() ? source.begin()->first : o.anatomy;
    volume const seen = s.volumes.at(where);  // a copy: the lesions are painted into the original
    intensity_window const w = windows.count(where) ? windows.at(where) : intensity_window{0, 0};
    auto const share = [](intensity_window const& v, float fraction) { return v.low + fraction * v.range(); };
    random_stream draws(key.with(detail::cohort_stream::lesion_draws));
    s.parameters.lesions = draw_lesions(seen, brain_ellipsoid(seen), share(w, 0.5f), o.lesions, draws);
    s.lesions = make_volume(out, 0, to_world);
    for (auto const& e : s.parameters.lesions) {
      label_lesion(s.lesions, e, seen, share(w, 0.02f));
      for (auto const& [name, window] : windows) {
        auto const found = o.lesions.shift.find(name);
        double const shift = found == o.lesions.shift.end() ? o.lesions.other_shift : found->second;
        paint_lesion(s.volumes.at(name), e, float(shift) * window.range(), share(window, 0.02f),
                     share(window, 0.05f));
      }
    }
  }

  std::uint32_t next = first;
  for (auto const& [name, window] : windows)
    detail::acquire(s.volumes.at(name), inside, window, o, key.with(next += 2), pool);
  return s;
}

}  // namespace insula
