// SPDX-License-Identifier: Apache-2.0
// One micro-batch of pretraining as the loader makes it.
#pragma once

#include <cstdint>
#include <vector>

#include "insula/base/config.hpp"

namespace insula {

/// Pairs of views with their reconstruction targets, whose they are, and single volumes; each volume is one crop of one
/// channel. A count of 0: that stream is absent.
struct pretraining_batch {
  index_t pairs = 0, singles = 0;
  std::vector<float> view1, view2, recon1, recon2, volume, recon;
  std::vector<std::int64_t> patient, session;
};

}  // namespace insula
