// SPDX-License-Identifier: Apache-2.0
// The windows of a Swin block are shifted by more than their own size.
// expect: a window of want<> cannot be shifted by got<>
#include "insula/layer/window_attention.hpp"
#include "insula/net/program.hpp"

using namespace insula;

#ifdef INSULA_FAIL
using net = window_attention<3, cube(7), cube(7)>;
#else
using net = window_attention<3, cube(7), cube(3)>;
#endif
constexpr index_t weights_of_net = program<net, shape<48, 14, 14, 14>>::weights;
