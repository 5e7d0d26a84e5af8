// SPDX-License-Identifier: Apache-2.0
// Preprocessing as a value: an ordered list of named steps that is applied, described and compared.
#pragma once

#include <optional>
#include <variant>

#include "insula/data/intensity.hpp"
#include "insula/data/orientation.hpp"
#include "insula/data/spatial.hpp"

namespace insula {

/// The steps. Each has a name, its parameters through fields(), and run(volume&). Those that move voxels also act on labels.
namespace preprocess {

/// reorient() to these letters.
struct reorient {
  static constexpr char const* name = "reorient";
  std::string letters = "RAS";
  static void fields(auto& self, auto f) { f("letters", self.letters); }
  friend bool operator==(reorient const&, reorient const&) = default;
};

/// resample_to_spacing() to voxels of this many millimetres along d, h, w; labels by nearest neighbour.
struct resample {
  static constexpr char const* name = "resample";
  double d = 1, h = 1, w = 1;
  static void fields(auto& self, auto f) { f("d", self.d), f("h", self.h), f("w", self.w); }
  friend bool operator==(resample const&, resample const&) = default;
};

/// crop() to the image's brain_box() with this margin in voxels; labels to the image's box.
struct crop_brain {
  static constexpr char const* name = "crop_brain";
  index_t margin = 0;
  static void fields(auto& self, auto f) { f("margin", self.margin); }
  friend bool operator==(crop_brain const&, crop_brain const&) = default;
};

/// pad() to at least these extents with zeros.
struct pad {
  static constexpr char const* name = "pad";
  index_t d = 96, h = 96, w = 96;
  static void fields(auto& self, auto f) { f("d", self.d), f("h", self.h), f("w", self.w); }
  friend bool operator==(pad const&, pad const&) = default;
};

/// crop_to_most() these extents, about the middle.
struct centre_crop {
  static constexpr char const* name = "centre_crop";
  index_t d = 96, h = 96, w = 96;
  static void fields(auto& self, auto f) { f("d", self.d), f("h", self.h), f("w", self.w); }
  friend bool operator==(centre_crop const&, centre_crop const&) = default;
};

/// Throws error unless the volume has exactly these extents: what follows was laid out for one grid.
struct expect_grid {
  static constexpr char const* name = "expect_grid";
  index_t d = 193, h = 229, w = 193;
  static void fields(auto& self, auto f) { f("d", self.d), f("h", self.h), f("w", self.w); }
  friend bool operator==(expect_grid const&, expect_grid const&) = default;
};

/// crop() to the voxels from `_from` up to but not including `_to`, per axis; a `_to` of 0 or below counts from the end.
struct crop_range {
  static constexpr char const* name = "crop_range";
  index_t d_from = 0, d_to = 0, h_from = 0, h_to = 0, w_from = 0, w_to = 0;
  static void fields(auto& self, auto f) {
    f("d_from", self.d_from), f("d_to", self.d_to), f("h_from", self.h_from), f("h_to", self.h_to);
    f("w_from", self.w_from), f("w_to", self.w_to);
  }
  friend bool operator==(crop_range const&, crop_range const&) = default;

  /// The box of a volume of this size. Throws error if it is empty or reaches outside.
  box in(extent size) const {
    index_t const from[3] = {d_from, h_from, w_from}, to[3] = {d_to, h_to, w_to};
    box b;
    for (int a = 0; a < 3; ++a) {
      index_t const end = to[a] > 0 ? to[a] : size[a] + to[a];
      check(from[a] >= 0 && from[a] < end && end <= size[a], "crop_range: voxels ", from[a], " to ", to[a],
            " of axis ", a, " do not lie in a volume of ", size, "; set the ranges for this grid");
      b.from[a] = from[a], b.size[a] = end - from[a];
    }
    return b;
  }
};

/// insula::reverse_axes(): from (x, y, z) to (z, y, x).
struct reverse_axes {
  static constexpr char const* name = "reverse_axes";
  static void fields(auto&, auto) {}
  friend bool operator==(reverse_axes const&, reverse_axes const&) = default;
};

/// replace_nonfinite() by this value.
struct finite {
  static constexpr char const* name = "finite";
  double value = 0;
  static void fields(auto& self, auto f) { f("value", self.value); }
  friend bool operator==(finite const&, finite const&) = default;
};

/// clip_percentiles(), over the non-zero voxels or all.
struct clip {
  static constexpr char const* name = "clip";
  double low = 0.5, high = 99.5;
  voxels_over over = voxels_over::nonzero;
  static void fields(auto& self, auto f) { f("low", self.low), f("high", self.high), f("over", self.over); }
  friend bool operator==(clip const&, clip const&) = default;
};

/// z_score() over the non-zero voxels or all.
struct z_score {
  static constexpr char const* name = "z_score";
  voxels_over over = voxels_over::nonzero;
  static void fields(auto& self, auto f) { f("over", self.over); }
  friend bool operator==(z_score const&, z_score const&) = default;
};

/// min_max() to [low, high], over the non-zero voxels or all.
struct min_max {
  static constexpr char const* name = "min_max";
  double low = 0, high = 1;
  voxels_over over = voxels_over::all;
  static void fields(auto& self, auto f) { f("low", self.low), f("high", self.high), f("over", self.over); }
  friend bool operator==(min_max const&, min_max const&) = default;
};

using step = std::variant<reorient, resample, crop_brain, pad, centre_crop, finite, clip, z_score, min_max,
                          expect_grid, crop_range, reverse_axes>;

}  // namespace preprocess

/// An ordered list of steps:
///   pipeline const p{{preprocess::reorient{}, preprocess::resample{}, preprocess::crop_brain{}, preprocess::clip{},
///                     preprocess::z_score{}}};
/// A checkpoint stores it as JSON (pipeline_json.hpp), for a network is only as good as the preprocessing it was trained on.
struct pipeline {
  std::vector<preprocess::step> steps;
  friend bool operator==(pipeline const&, pipeline const&) = default;
};

namespace detail {

inline std::string_view word(voxels_over v) { return v == voxels_over::all ? "all" : "nonzero"; }
template <class T>
T const& word(T const& v) {
  return v;
}

/// One step on an image and, if there are any, on its labels.
struct step_runner {
  volume& image;
  volume* labels;

  template <class F>
  void both(F f) const {
    image = f(std::as_const(image));
    if (labels) *labels = f(std::as_const(*labels));
  }
  void operator()(preprocess::reorient const& s) const {
    both([&](volume const& v) { return insula::reorient(v, s.letters); });
  }
  void operator()(preprocess::resample const& s) const {
    image = resample_to_spacing(image, {s.d, s.h, s.w});
    if (labels) *labels = resample_to_spacing(*labels, {s.d, s.h, s.w}, interpolation::nearest);
  }
  void operator()(preprocess::crop_brain const& s) const {
    box const b = brain_box(image, s.margin);
    both([&](volume const& v) { return crop(v, b); });
  }
  void operator()(preprocess::pad const& s) const {
    both([&](volume const& v) { return insula::pad(v, {s.d, s.h, s.w}, padding::zero); });
  }
  void operator()(preprocess::centre_crop const& s) const {
    both([&](volume const& v) { return crop_to_most(v, {s.d, s.h, s.w}); });
  }
  void operator()(preprocess::expect_grid const& s) const {
    extent const wanted{s.d, s.h, s.w};
    check(image.size == wanted, "expect_grid: the volume has ", image.size, " voxels, the grid is ", wanted,
          ": register it to that template, or set the grid and its crop for your data");
  }
  void operator()(preprocess::crop_range const& s) const {
    box const b = s.in(image.size);
    both([&](volume const& v) { return crop(v, b); });
  }
  void operator()(preprocess::reverse_axes const&) const {
    both([](volume const& v) { return insula::reverse_axes(v); });
  }
  void operator()(preprocess::finite const& s) const { replace_nonfinite(image, float(s.value)); }
  void operator()(preprocess::clip const& s) const { clip_percentiles(image, s.low, s.high, s.over); }
  void operator()(preprocess::z_score const& s) const { insula::z_score(image, s.over); }
  void operator()(preprocess::min_max const& s) const { insula::min_max(image, s.low, s.high, s.over); }
};

inline void run_pipeline(pipeline const& p, volume& image, volume* labels) {
  for (std::size_t i = 0; i < p.steps.size(); ++i) {
    try {
      std::visit(step_runner{image, labels}, p.steps[i]);
    } catch (error const& e) {
      fail("preprocessing step ", i + 1, ": ", e.what());
    }
  }
}

}  // namespace detail

/// "clip(low 0.5, high 99.5, over nonzero)"
inline std::string describe(preprocess::step const& s) {
  return std::visit(
      [](auto const& x) {
        std::string out = text(x.name, "(");
        char const* separator = "";
        x.fields(x, [&](char const* key, auto const& value) {
          out += text(separator, key, " ", detail::word(value)), separator = ", ";
        });
        return out + ")";
      },
      s);
}

/// "reorient(letters RAS), resample(d 1, h 1, w 1), ..."
inline std::string describe(pipeline const& p) {
  std::string out;
  for (auto const& s : p.steps) out += (out.empty() ? "" : ", ") + describe(s);
  return out;
}

/// The image after all steps, in order. Throws error, which names the step.
inline volume apply(pipeline const& p, volume image) {
  detail::run_pipeline(p, image, nullptr);
  return image;
}

/// An image and the labels of its voxels.
struct labelled_volume {
  volume image, labels;
};

/// Both after all steps: labels move with the image (nearest neighbour, the image's bounding box) and keep their values.
/// Throws error if the grids differ at the start.
inline labelled_volume apply(pipeline const& p, volume image, volume labels) {
  check(image.size == labels.size, "preprocessing: the image has ", image.size, " voxels, the labels ",
        labels.size, ": resample the labels onto the image (resample_onto)");
  double const apart = corner_distance(image.to_world, labels.to_world, image.size);
  check(apart <= 0.1, "preprocessing: image and labels lie up to ", apart,
        " mm apart: resample the labels onto the image (resample_onto)");
  labels.to_world = image.to_world;  // so that rounding cannot give the two different grids
  labelled_volume v{std::move(image), std::move(labels)};
  detail::run_pipeline(p, v.image, &v.labels);
  return v;
}

/// "" if the two are equal, else a sentence about the first step that differs.
inline std::string first_difference(pipeline const& stored, pipeline const& in_use) {
  for (std::size_t i = 0; i < std::max(stored.steps.size(), in_use.steps.size()); ++i) {
    if (i >= stored.steps.size())
      return text("step ", i + 1, " of this run, ", describe(in_use.steps[i]),
                  ", is not in the checkpoint's preprocessing");
    if (i >= in_use.steps.size())
      return text("step ", i + 1, " of the checkpoint's preprocessing, ", describe(stored.steps[i]),
                  ", is missing in this run");
    if (stored.steps[i] != in_use.steps[i])
      return text("step ", i + 1, " is ", describe(stored.steps[i]), " in the checkpoint and ",
                  describe(in_use.steps[i]), " in this run");
  }
  return {};
}

/// Throws error with first_difference() unless a checkpoint was trained on the preprocessing in use.
inline void require_same(pipeline const& stored, pipeline const& in_use) {
  std::string const difference = first_difference(stored, in_use);
  check(difference.empty(), "preprocessing differs from what the weights were trained on: ", difference,
        "; use the checkpoint's pipeline, or train anew");
}

}  // namespace insula
