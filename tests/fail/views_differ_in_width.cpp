// SPDX-License-Identifier: Apache-2.0
// Two views that come from projections of different widths.
// expect: nt_xent: the two views differ in width
#include "insula/loss/nt_xent.hpp"

using namespace insula;

#ifdef INSULA_FAIL
constexpr index_t width = 32;
#else
constexpr index_t width = 64;
#endif
template <>
struct insula::kernel<op::nt_xent, cpu, float> {
  static void run(context<cpu>&, op::nt_xent::args<float> const&) {}
};
template <>
struct insula::kernel<op::axpy, cpu, float> {
  static void run(context<cpu>&, op::axpy::args<float> const&) {}
};
template <>
struct insula::kernel<op::copy, cpu, float> {
  static void run(context<cpu>&, op::copy::args<float> const&) {}
};

double loss(var<float, shape<64>, cpu> zi, var<float, shape<width>, cpu> zj) { return nt_xent{}(zi, zj); }
