// SPDX-License-Identifier: Apache-2.0
// The channels of an attention layer cannot be shared out among its heads.
// expect: the channels got<> are not divisible by the number of heads want<>
#include "insula/layer/window_attention.hpp"
#include "insula/net/program.hpp"

#ifdef INSULA_FAIL
using net = insula::window_attention<5>;
#else
using net = insula::window_attention<3>;
#endif
constexpr insula::index_t weights = insula::program<net, insula::shape<48, 8, 8, 8>>::weights;
