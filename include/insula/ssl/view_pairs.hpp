// SPDX-License-Identifier: Apache-2.0
// Two views of every subject of a batch, as the pretraining objectives take them.
#pragma once

#include "insula/base/config.hpp"

namespace insula {

/// Two views of `batch` subjects. Volumes are (batch, crop) of one channel.
template <class T>
struct pair_batch {
  index_t batch = 0;
  T const *view1 = nullptr, *view2 = nullptr;  ///< augmented inputs
  T const *recon1 = nullptr,
          *recon2 = nullptr;  ///< reconstruction targets; unused without a masked objective
  std::int64_t const *patient = nullptr, *session = nullptr;
};

}  // namespace insula
