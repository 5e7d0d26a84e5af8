// SPDX-License-Identifier: Apache-2.0
// An op runs on a backend whose kernels nobody included.
// expect: no kernel<Op, Backend, Scalar> is visible: include insula/cpu\.hpp
#include "insula/device/cpu.hpp"
#include "insula/op/gemm.hpp"

#ifndef INSULA_FAIL
template <class T>
struct insula::kernel<insula::op::linear, insula::cpu, T> {
  static void run(context<cpu>&, op::linear::args<T> const&) {}
};
#endif

void forward(insula::context<insula::cpu>& cx, insula::op::linear::args<float> const& a) {
  insula::run<insula::op::linear, insula::cpu, float>(cx, a);
}
