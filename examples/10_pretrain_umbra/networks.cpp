// SPDX-License-Identifier: Apache-2.0
// The run with the network that the settings name: one translation unit, since most of what a network needs compiled is the same for all.
#include "pretrain.hpp"

int pretrain(settings const& s) {
  return s.model == "paper" ? pretrain<insula::umbra::paper>(s) : pretrain<insula::umbra::small>(s);
}
