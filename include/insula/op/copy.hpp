// SPDX-License-Identifier: Apache-2.0
// Copying and clearing flat ranges.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// y = x
struct copy {
  template <class T>
  struct args {
    index_t n;
    T const* x;
    T* y;
  };
};

/// y = value
struct fill {
  template <class T>
  struct args {
    index_t n;
    T value;
    T* y;
  };
};

}  // namespace insula::op
