// SPDX-License-Identifier: Apache-2.0
// How the processes (ranks) of one run exchange numbers: two functions that the caller provides; none by default.
#pragma once

#include "insula/base/config.hpp"

namespace insula {

/// The ranks of a run as kernels and losses see them. A plain aggregate, so that options which hold it can be copied into
/// kernels; whoever has a message-passing library fills it in. All ranks must make the same calls in the same order.
///   sum(self, values, n)          values[i] <- sum of values[i] over all ranks
///   gather(self, mine, all, n)    all <- the n bytes of every rank, in order of ranks; `mine` is no part of `all`
/// Both return when the result is there. They are called from the thread that called insula, never from a worker.
struct rank_group {
  int rank = 0, size = 1;
  void* self = nullptr;
  void (*sum)(void* self, double* values, index_t n) = nullptr;
  void (*gather)(void* self, void const* mine, void* all, index_t bytes) = nullptr;
};

}  // namespace insula
