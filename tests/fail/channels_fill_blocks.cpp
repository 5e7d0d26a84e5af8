// SPDX-License-Identifier: Apache-2.0
// A voxel shuffle spreads channels over blocks of 2 x 2 x 2 voxels, but there is no multiple of eight channels.
// expect: got<> is not divisible by want<>
#include "insula/layer/patch.hpp"
#include "insula/net/program.hpp"

#ifdef INSULA_FAIL
using input = insula::shape<12, 8, 8, 8>;
#else
using input = insula::shape<16, 8, 8, 8>;
#endif
constexpr insula::dims out = insula::program<insula::voxel_shuffle<>, input>::out;
