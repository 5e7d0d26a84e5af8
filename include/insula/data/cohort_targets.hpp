// SPDX-License-Identifier: Apache-2.0
// Targets for virtual subjects: a real-valued one (atrophy) and two classes (controls and patients), known by construction.
#pragma once

#include "insula/data/cohort.hpp"
#include "insula/data/crop.hpp"

namespace insula {

/// Controls and patients differ in two ways, and each alone is ambiguous: patients tend to more atrophy (the ranges overlap;
/// with these numbers atrophy alone gives a ROC area of 0.84) and have lesions, dark as in T1, in the tissue. The regression
/// target of every subject is its atrophy. All of this is simulated: no number here describes a disease.
struct cohort_targets {
  double control_low = 0, control_high = 0.7;
  double patient_low = 0.3, patient_high = 1;
  double core = 0.5;             // cohort_options::atrophy_core: at atrophy 1 the centre is twice as wide
  double least_jacobian = 0.02;  // of the warp, which the widened centre takes part in
  lesion_options lesions{.least = 1, .most = 3, .radius_low = 6, .radius_high = 12, .other_shift = -0.4};
};

/// Whether subject i of a cohort that goes round `sources` anatomies is a patient: of two consecutive subjects of one anatomy
/// one is, so that classes are balanced and no anatomy gives its class away. A function of its arguments.
inline bool is_virtual_patient(std::uint64_t seed, index_t i, index_t sources) {
  check(sources >= 1 && i >= 0, "is_virtual_patient: subject ", i, " of ", sources, " sources");
  index_t const source = i % sources, turn = i / sources;
  bool const first =
      uniform_at({seed, mix(0x9a71e, std::uint64_t(source)), std::uint32_t(turn / 2)}, 0) < 0.5;
  return first == (turn % 2 == 0);
}

/// The options of a control or of a patient.
inline cohort_options with_target(cohort_options o, cohort_targets const& t, bool patient) {
  o.atrophy_low = patient ? t.patient_low : t.control_low;
  o.atrophy_high = patient ? t.patient_high : t.control_high;
  o.atrophy_core = t.core, o.least_jacobian = t.least_jacobian;
  o.lesions = patient ? t.lesions : lesion_options{};
  return o;
}

/// 1 where x, which is skull-stripped, is above its lowest value, the background; else 0. Virtual subjects have a background of
/// one value and brighter voxels everywhere in the brain.
inline volume brain_mask(volume const& x) {
  float const background = statistics(x).low;
  volume m = x;
  for (float& v : m.voxels) v = v > background ? 1.0f : 0.0f;
  return m;
}

/// The volume in a field of view of `size` voxels around the middle of its brain's box, padded with its lowest value: one grid
/// for subjects of sources with different grids.
inline volume in_field(volume const& x, volume const& mask, extent size) {
  check(x.size == mask.size, "in_field: the volume has ", x.size, " voxels, the mask ", mask.size);
  extent low = x.size, high{-1, -1, -1};
  for (index_t d = 0; d < x.size.d; ++d)
    for (index_t h = 0; h < x.size.h; ++h)
      for (index_t w = 0; w < x.size.w; ++w)
        if (mask.at(d, h, w) != 0) {
          low = {std::min(low.d, d), std::min(low.h, h), std::min(low.w, w)};
          high = {std::max(high.d, d), std::max(high.h, h), std::max(high.w, w)};
        }
  check(high.d >= 0, "in_field: the mask is empty");
  extent from;
  for (int a = 0; a < 3; ++a) from[a] = (low[a] + high[a] + 1) / 2 - size[a] / 2;
  float const background = statistics(x).low;
  volume y =
      make_volume(size, background, shifted(x.to_world, {double(from.d), double(from.h), double(from.w)}));
  for (index_t d = 0; d < size.d; ++d)
    for (index_t h = 0; h < size.h; ++h)
      for (index_t w = 0; w < size.w; ++w) {
        index_t const i = d + from.d, j = h + from.h, k = w + from.w;
        if (i >= 0 && i < x.size.d && j >= 0 && j < x.size.h && k >= 0 && k < x.size.w)
          y.at(d, h, w) = x.at(i, j, k);
      }
  return y;
}

}  // namespace insula
