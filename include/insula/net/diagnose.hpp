// SPDX-License-Identifier: Apache-2.0
// Compile errors as sentences: one static_assert per fault of shape inference.
#pragma once

#include "insula/net/compose.hpp"

namespace insula {

template <fixed_string Name, int Ordinal>
struct at_layer;  // the leaf layer at fault: its name, and its ordinal in the order of execution
template <index_t N>
struct got;
template <index_t N>
struct want;

/// Instantiated by program<Net, In> with the first fault of inference; the arguments appear in the compiler's note.
template <fault F, class Layer, class Got, class Want>
struct diagnose {
  static_assert(F != fault::rank, "this layer wants an input with want<> axes, but its input has got<>");
  static_assert(F != fault::channels, "this layer wants want<> channels, but its input has got<>");
  static_assert(F != fault::groups, "the channels got<> are not divisible by the number of groups want<>");
  static_assert(F != fault::heads, "the channels got<> are not divisible by the number of heads want<>");
  static_assert(F != fault::kernel, "the kernel or window want<> is larger than the padded input got<>");
  static_assert(F != fault::divisible,
                "got<> is not divisible by want<>: change the layer before it, or pad or crop the input");
  static_assert(F != fault::residual,
                "a residual body must keep the size want<> of its input, but gives got<>");
  static_assert(F != fault::join, "two branches meet with different extents: got<> against want<>");
  static_assert(F != fault::recall, "recall<> asks for tap want<>, which no layer before it makes");
  static_assert(F != fault::window,
                "a window of want<> cannot be shifted by got<>: the shift must be smaller");
  static_assert(
      F != fault::modalities,
      "got<> modalities meet where want<> are due: fuse_modalities<> joins them before a network over "
      "modalities ends, taps or adds");
  static_assert(F != fault::tokens, "got<> tokens do not fit this layer, which is made for want<>");
};

namespace detail {
constexpr int length(char const* s) {
  int n = 0;
  while (s[n]) ++n;
  return n;
}
template <int N>
constexpr fixed_string<N + 1> to_fixed(char const* s) {
  char text[N + 1]{};
  for (int i = 0; i < N; ++i) text[i] = s[i];
  return fixed_string<N + 1>(text);
}
}  // namespace detail

}  // namespace insula
