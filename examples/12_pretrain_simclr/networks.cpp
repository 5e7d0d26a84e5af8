// SPDX-License-Identifier: Apache-2.0
// The run with the method and network that the settings name: one translation unit, since most of what a network needs compiled is the same for all.
#include "mae.hpp"
#include "simclr.hpp"

int pretrain(settings const& s) {
  if (!s.mae())
    return s.published() ? pretrain_simclr<program::paper_resnet>(s)
                         : pretrain_simclr<program::small_resnet>(s);
  return s.model == "paper-large"  ? pretrain_mae<program::paper_large_mae>(s)
         : s.model == "paper-base" ? pretrain_mae<program::paper_base_mae>(s)
         : s.published()           ? pretrain_mae<program::paper_mae>(s)
                                   : pretrain_mae<program::small_mae>(s);
}
