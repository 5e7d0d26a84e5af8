// SPDX-License-Identifier: Apache-2.0
// Two levels of a feature pyramid with different numbers of channels are added.
// expect: this layer wants want<> channels, but its input has got<>
#include "insula/layer/conv.hpp"
#include "insula/layer/resample.hpp"
#include "insula/net/program.hpp"

using namespace insula;

#ifdef INSULA_FAIL
constexpr int width = 24;
#else
constexpr int width = 16;
#endif
using coarse = conv3d<width, cube(2), conv_opts{.stride = cube(2)}>;
using net = branch<resize_add<>, coarse, conv3d<16, cube(1)>>;
constexpr index_t weights_of_net = program<net, shape<1, 8, 8, 8>>::weights;
