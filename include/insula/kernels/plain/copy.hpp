// SPDX-License-Identifier: Apache-2.0
// Reference twins of copy and fill.
#pragma once

#include "insula/device/cpu.hpp"
#include "insula/op/copy.hpp"

namespace insula {

template <class T>
struct kernel<op::copy, plain, T> {
  static void run(context<plain>&, op::copy::args<T> const& a) {
    for (index_t i = 0; i < a.n; ++i) a.y[i] = a.x[i];
  }
};

template <class T>
struct kernel<op::fill, plain, T> {
  static void run(context<plain>&, op::fill::args<T> const& a) {
    for (index_t i = 0; i < a.n; ++i) a.y[i] = a.value;
  }
};

}  // namespace insula
