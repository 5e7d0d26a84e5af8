// SPDX-License-Identifier: Apache-2.0
// Shape inference as values: what a layer makes of its input, or why it cannot.
#pragma once

#include "insula/base/dims.hpp"

namespace insula {

/// Why a layer cannot take its input. Every fault has one sentence in net/diagnose.hpp.
enum class fault {
  none,
  rank,        ///< wrong number of axes
  channels,    ///< channel count differs from what the layer was declared with
  groups,      ///< channels not divisible by groups
  heads,       ///< channels not divisible by heads
  kernel,      ///< kernel larger than the padded input
  divisible,   ///< extent not divisible by the block
  residual,    ///< body changes the shape of its input
  join,        ///< two branches of different shape meet
  recall,      ///< a tap that was never made
  window,      ///< a window or shift that makes no sense
  modalities,  ///< volumes of several modalities where one is due
  tokens,      ///< other number of tokens than the layer is made for
};

inline constexpr int most_taps = 8;

/// The result of inference: the shape so far, the taps made so far, and the first fault.
struct inferred {
  dims out{};
  fault why = fault::none;
  index_t got = 0, want = 0;
  int layer = 0;          ///< ordinal of the leaf layer that is at fault, or how many were passed
  char const* name = "";  ///< its name
  dims tap[most_taps]{};  ///< shapes of taps; rank 0 = absent
  int modalities = 1;     ///< volumes of shape `out` that one sample is made of at this point

  constexpr explicit operator bool() const { return why == fault::none; }
};
constexpr inferred fits(dims d) {
  inferred r;
  r.out = d;
  return r;
}
constexpr inferred misfit(fault f, index_t got, index_t want) {
  inferred r;
  r.why = f, r.got = got, r.want = want;
  return r;
}

}  // namespace insula
