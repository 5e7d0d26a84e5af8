// SPDX-License-Identifier: Apache-2.0
// Global gradient norm, clipping, and finding the first tensor that is not finite.
#pragma once

#include <cmath>
#include <string>

#include "insula/net/describe.hpp"
#include "insula/op/reduce.hpp"

namespace insula {

/// L2 norm over n elements, accumulated in double; not finite if any element is not.
template <class B, class T>
double l2_norm(context<B>& cx, T const* g, index_t n) {
  double sum = 0;
  run<op::sum_of_squares, B, T>(cx, {n, g, &sum});
  return std::sqrt(sum);
}

/// Factor of clipping to a global norm, PyTorch's rule: min(1, most / (norm + 1e-6)). most <= 0: never clips.
inline double clip_factor(double norm, double most) {
  return most > 0 && most < norm + 1e-6 ? most / (norm + 1e-6) : 1.0;
}

/// Name of the first tensor with a NaN or infinite element, and where: "encoder.….weight[17] = nan"; "" if all are finite.
template <class T>
std::string first_not_finite(std::vector<tensor_place> const& places, T const* range) {
  for (auto const& t : places)
    for (index_t i = 0; i < t.size(); ++i)
      if (T const v = range[t.offset + i]; !std::isfinite(v))
        return text(t.name, "[", i, "] = ", std::isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
  return {};
}

}  // namespace insula
