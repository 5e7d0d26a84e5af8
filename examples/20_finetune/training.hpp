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

/// The networks, and the depth, height and width that they take: one translation unit each.
using trainer_maker = std::unique_ptr<trainer>(settings const& s, labelled_data const& data,
                                               insula::context<insula::cpu>& cx);
trainer_maker make_small_resnet, make_paper_resnet, make_small_vit, make_paper_vit, make_paper_base_vit,
    make_paper_large_vit;
insula::extent small_resnet_grid();
insula::extent paper_resnet_grid();
insula::extent small_vit_grid();
insula::extent paper_vit_grid();  ///< of Tiny, Base and Large
