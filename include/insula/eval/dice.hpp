// SPDX-License-Identifier: Apache-2.0
// Overlap of binary segmentations: Dice and intersection over union.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/config.hpp"

namespace insula {

/// Voxels of a prediction, of a label, and of both.
struct mask_overlap {
  index_t predicted = 0, labelled = 0, both = 0;

  /// 2 |P and Y| / (|P| + |Y|); NaN if the label is empty, as in MONAI.
  double dice() const { return ratio(2 * both, predicted + labelled); }
  /// |P and Y| / |P or Y|; NaN if the label is empty.
  double iou() const { return ratio(both, predicted + labelled - both); }

 private:
  double ratio(index_t part, index_t whole) const {
    return labelled > 0 ? double(part) / double(whole) : std::numeric_limits<double>::quiet_NaN();
  }
};

/// Counts voxels that are not 0.
inline mask_overlap overlap_of(std::span<std::uint8_t const> prediction,
                               std::span<std::uint8_t const> label) {
  check(prediction.size() == label.size(), "overlap_of: the prediction has ", prediction.size(),
        " voxels, the label ", label.size(), "; bring both to one grid");
  mask_overlap o;
  for (std::size_t i = 0; i < label.size(); ++i) {
    bool const p = prediction[i] != 0, y = label[i] != 0;
    o.predicted += p, o.labelled += y, o.both += p && y;
  }
  return o;
}

/// 1 where sigmoid(logit) >= 0.5, that is logit >= 0.
template <class T>
std::vector<std::uint8_t> positive(std::span<T const> logits) {
  std::vector<std::uint8_t> mask(logits.size());
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = logits[i] >= T(0);
  return mask;
}

/// Mean of a metric over the cases that have it (are not NaN); 0 if none has, as MONAI's reduction of a batch.
inline double mean_of_cases(std::span<double const> values) {
  double sum = 0;
  index_t n = 0;
  for (double v : values)
    if (!std::isnan(v)) sum += v, ++n;
  return n > 0 ? sum / double(n) : 0;
}

}  // namespace insula
