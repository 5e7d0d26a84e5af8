// SPDX-License-Identifier: Apache-2.0
// A buffer is copied by accident: it owns memory and only moves.
// expect: (use of deleted function|call to implicitly-deleted copy constructor).*buffer<.*float.*>
#include <utility>

#include "insula/device/buffer.hpp"

insula::buffer<float, insula::cpu> hand_over(insula::buffer<float, insula::cpu>& from) {
#ifdef INSULA_FAIL
  return from;
#else
  return std::move(from);
#endif
}
