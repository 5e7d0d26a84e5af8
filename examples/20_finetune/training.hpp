// SPDX-License-Identifier: Apache-2.0
// One training, whatever the network: what it is given and what it gives.
#pragma once

#include <map>
#include <memory>

#include "data.hpp"
#include "insula/device/cpu.hpp"

/// One training of a run.
struct job {
  std::string folder;
  data_parts parts;
  std::uint64_t seed = 0;
  double mean = 0, deviation = 1;  // targets are learnt as (label - mean) / deviation
};

/// A kind of network that can be trained.
class trainer {
 public:
  virtual ~trainer() = default;
  /// Trains, or goes on, in the job's folder. Exit status of run_training(); after 0, `output` has one number per test scan, a
  /// logit or a prediction in the label's units, of the epoch that the validation chose.
  virtual int train(job const& j, std::vector<double>& output) = 0;
};

/// An encoder of one size.
struct network {
  insula::extent grid;  ///< the voxels that it takes
  std::unique_ptr<trainer> (*make)(settings const& s, labelled_data const& data,
                                   insula::context<insula::cpu>& cx);
};
network network_of(settings const& s);
