// SPDX-License-Identifier: Apache-2.0
// From a source file to a preprocessed volume that is fit for training, or the reason why it is not.
#pragma once

#include "insula/data/manifest_check.hpp"
#include "insula/data/pipeline.hpp"

namespace insula {

/// Extents between which a volume's will lie; they are equal if the header alone decides.
struct extent_bounds {
  extent least, most;
  bool exact() const { return least == most; }
};

namespace detail {

/// Follows extents and voxel sizes through a pipeline, without voxels.
struct extent_steps {
  extent least, most;
  point millimetres;
  orientation axes;

  void operator()(preprocess::reorient const& s) {
    orientation const to = parse_orientation(s.letters);
    extent_steps const from = *this;
    for (int j = 0; j < 3; ++j)
      for (int i = 0; i < 3; ++i)
        if (from.axes.axis[std::size_t(i)] == to.axis[std::size_t(j)])
          least[j] = from.least[i], most[j] = from.most[i],
          millimetres[std::size_t(j)] = from.millimetres[std::size_t(i)];
    axes = to;
  }
  void operator()(preprocess::resample const& s) {
    double const target[3] = {s.d, s.h, s.w};
    for (int i = 0; i < 3; ++i) {
      auto const k = std::size_t(i);
      double const exact = target[k] / millimetres[k], ratio = std::abs(exact - 1) <= 1e-6 ? 1 : exact;
      auto const resampled = [&](index_t n) {
        double const m = std::max(1.0, std::round(double(n) / ratio));
        check(m < 1e10, "preprocessing: resampling to ", target[k], " mm would give ", m, " voxels");
        return index_t(m);
      };
      least[i] = resampled(least[i]), most[i] = resampled(most[i]), millimetres[k] *= ratio;
    }
  }
  void operator()(preprocess::crop_brain const&) { least = {1, 1, 1}; }
  void operator()(preprocess::pad const& s) {
    index_t const n[3] = {s.d, s.h, s.w};
    for (int i = 0; i < 3; ++i) least[i] = std::max(least[i], n[i]), most[i] = std::max(most[i], n[i]);
  }
  void operator()(preprocess::centre_crop const& s) {
    index_t const n[3] = {s.d, s.h, s.w};
    for (int i = 0; i < 3; ++i) least[i] = std::min(least[i], n[i]), most[i] = std::min(most[i], n[i]);
  }
  void operator()(preprocess::expect_grid const& s) {
    check(least == extent{s.d, s.h, s.w} || least != most, "expect_grid: the volume has ", least,
          " voxels, the grid is ", extent{s.d, s.h, s.w});
    least = most = {s.d, s.h, s.w};
  }
  void operator()(preprocess::crop_range const& s) {
    most = s.in(most).size;
    least = least == extent{1, 1, 1} ? least : most;
  }
  void operator()(preprocess::reverse_axes const&) {
    std::swap(least.d, least.w), std::swap(most.d, most.w), std::swap(millimetres[0], millimetres[2]);
    std::swap(axes.axis[0], axes.axis[2]), std::swap(axes.against[0], axes.against[2]);
  }
  template <class Intensity>
  void operator()(Intensity const&) {}
};

/// Throws error that says what is wrong with the values of a volume: NaN, infinite, or all the same.
inline void check_values(volume const& v, std::string_view when) {
  check(v.count() > 0, "the volume has no voxels ", when);
  index_t bad = 0;
  bool constant = true;
  for (float const x : v.voxels) bad += !std::isfinite(x), constant = constant && x == v.voxels[0];
  check(bad == 0, bad, " of ", v.count(), " voxels are NaN or infinite ", when,
        "; repair the file, or begin the preprocessing with the step 'finite'");
  check(!constant, "all ", v.count(), " voxels are ", v.voxels[0], " ", when, ": there is no image in it");
}

}  // namespace detail

/// The extents a volume of this header will have after a pipeline. Only crop_brain leaves them open, for it needs the voxels;
/// `most` is then what they are without it.
inline extent_bounds extent_after(pipeline const& p, image_header const& h) {
  detail::extent_steps s{h.size, h.size, spacing(h.to_world), orientation_of(h.to_world)};
  for (auto const& step : p.steps) std::visit(s, step);
  return {s.least, s.most};
}

/// Reads and preprocesses one source. Throws error that says why the volume is no good: unreadable, corrupt or 4-D file; NaN or
/// infinite voxels (unless the pipeline has the step `finite`); one value everywhere, before or after.
inline volume prepare_volume(std::string const& source, pipeline const& p) {
  volume v = read_image(source);
  bool const repairs = std::any_of(p.steps.begin(), p.steps.end(), [](preprocess::step const& s) {
    return std::holds_alternative<preprocess::finite>(s);
  });
  if (!repairs) detail::check_values(v, "in the file");
  v = apply(p, std::move(v));
  detail::check_values(v, "after preprocessing");
  return v;
}

}  // namespace insula
