// SPDX-License-Identifier: Apache-2.0
// Defines linked_kernel<Op, T>, for a library of compiled kernels: define INSULA_LINKED_KERNELS, include the kernels and
// this file, and instantiate the ops.
#pragma once

#include "insula/op/kernel.hpp"

#ifdef INSULA_LINKED_KERNELS

namespace insula {

template <class Op, class T>
void linked_kernel(context<cpu>& cx, typename Op::template args<T> const& a) {
  kernel<Op, cpu, T>::run(cx, a);
}

}  // namespace insula

/// Instantiates one op for float and double: INSULA_INSTANTIATE(conv3d)
#define INSULA_INSTANTIATE(OP)                                                                    \
  template void insula::linked_kernel<insula::op::OP, float>(insula::context<insula::cpu>&,       \
                                                             insula::op::OP::args<float> const&); \
  template void insula::linked_kernel<insula::op::OP, double>(insula::context<insula::cpu>&,      \
                                                              insula::op::OP::args<double> const&);

#endif
