// SPDX-License-Identifier: Apache-2.0
// The channels of a group norm cannot be shared out among its groups.
// expect: the channels got<> are not divisible by the number of groups want<>
#include "insula/layer/norm.hpp"
#include "insula/net/program.hpp"

#ifdef INSULA_FAIL
using net = insula::group_norm<5>;
#else
using net = insula::group_norm<8>;
#endif
constexpr insula::index_t weights = insula::program<net, insula::shape<48, 8, 8, 8>>::weights;
