// SPDX-License-Identifier: Apache-2.0
// Queries of 128 numbers are compared with a queue of keys of 64 numbers.
// expect: info_nce: queries, keys and queue differ in width
#include "insula/loss/info_nce.hpp"

using namespace insula;

#ifdef INSULA_FAIL
constexpr index_t width = 64;
#else
constexpr index_t width = 128;
#endif
template <>
struct insula::kernel<op::info_nce, cpu, float> {
  static void run(context<cpu>&, op::info_nce::args<float> const&) {}
};
template <>
struct insula::kernel<op::axpy, cpu, float> {
  static void run(context<cpu>&, op::axpy::args<float> const&) {}
};

double loss(var<float, shape<128>, cpu> q, var<float, shape<128>, cpu> k,
            negatives<float, 512, width, cpu> queue, std::int64_t const* patient) {
  return info_nce<512>{}(q, k, queue, patient);
}
