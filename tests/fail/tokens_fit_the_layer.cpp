// SPDX-License-Identifier: Apache-2.0
// A table of positions is made for another grid of patches.
// expect: got<> tokens do not fit this layer, which is made for want<>
#include "insula/layer/token.hpp"
#include "insula/net/program.hpp"

#ifdef INSULA_FAIL
constexpr insula::extent grid{2, 3, 3};
#else
constexpr insula::extent grid{3, 3, 3};
#endif
using net = insula::class_token_and_positions<insula::position_opts{.grid = grid}>;
constexpr insula::index_t weights = insula::program<net, insula::shape<27, 12>>::weights;
