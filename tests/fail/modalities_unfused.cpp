// SPDX-License-Identifier: Apache-2.0
// A network shared by two modalities ends with two volumes per subject.
// expect: got<> modalities meet where want<> are due
#include "insula/layer/conv.hpp"
#include "insula/layer/modalities.hpp"
#include "insula/net/program.hpp"

using namespace insula;

#ifdef INSULA_FAIL
using encoder = conv3d<8, cube(1)>;
#else
using encoder = branch<fuse_modalities<0>, conv3d<8, cube(1)>, recall<0>>;
#endif
using net = seq<tap<0, modality_weights<1, 2>>, modalities<2, encoder>>;
constexpr index_t weights_of_net = program<net, shape<2, 8, 8, 8>>::weights;
