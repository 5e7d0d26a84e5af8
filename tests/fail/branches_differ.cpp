// SPDX-License-Identifier: Apache-2.0
// A U-shaped network is fed with an odd extent: what comes up is one voxel smaller than what was kept.
// expect: two branches meet with different extents: got<> against want<>
#include "insula/layer/concat.hpp"
#include "insula/layer/conv.hpp"
#include "insula/net/program.hpp"

using namespace insula;

using down = conv3d<8, cube(2), conv_opts{.stride = cube(2)}>;
using unet = seq<skip<seq<down, conv3d_transpose<4>>>, conv3d<1, cube(1)>>;
#ifdef INSULA_FAIL
using input = shape<1, 32, 33, 32>;
#else
using input = shape<1, 32, 32, 32>;
#endif
constexpr index_t weights_of_net = program<unet, input>::weights;
