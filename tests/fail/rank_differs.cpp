// SPDX-License-Identifier: Apache-2.0
// A sequence of tokens is fed to a convolution, which wants a volume.
// expect: this layer wants an input with want<> axes, but its input has got<>
#include "insula/layer/conv.hpp"
#include "insula/net/program.hpp"

#ifdef INSULA_FAIL
using input = insula::shape<512, 8>;
#else
using input = insula::shape<8, 8, 8, 8>;
#endif
using net = insula::conv3d<16, insula::cube(3)>;
constexpr insula::index_t weights = insula::program<net, input>::weights;
