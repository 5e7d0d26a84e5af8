// SPDX-License-Identifier: Apache-2.0
// A network with three halvings is fed with a volume that is too small for the third.
// expect: the kernel or window want<> is larger than the padded input got<>
#include "insula/layer/conv.hpp"
#include "insula/net/program.hpp"

using namespace insula;

using halving = conv3d<8, cube(2), conv_opts{.stride = cube(2)}>;
using net = repeat<3, halving>;
#ifdef INSULA_FAIL
using input = shape<1, 16, 6, 16>;
#else
using input = shape<1, 16, 8, 16>;
#endif
constexpr index_t weights_of_net = program<net, input>::weights;
