// SPDX-License-Identifier: Apache-2.0
// A U-Net of five levels, 16 to 256 channels, two convolutions on each side of every level.
#include "declared_kernels.hpp"

using namespace insula;

template <int C>
using convolutions = repeat<2, seq<conv3d<C, cube(3), conv_opts{.pad = cube(1), .bias = false}>,
                                   group_norm<8, activation::leaky_relu>>>;
template <int C, class Below>
using level = seq<convolutions<C>,
                  skip<seq<conv3d<2 * C, cube(2), conv_opts{.stride = cube(2)}>, Below, conv3d_transpose<C>>>,
                  convolutions<C>>;
using net = seq<level<16, level<32, level<64, level<128, convolutions<256>>>>>, conv3d<2, cube(1)>>;
using brain = shape<1, 96, 96, 96>;

static_assert(program<net, brain>::out == make_dims(2, 96, 96, 96));
template double training_step<net, brain>(context<cpu>&, model<net, brain>&, adamw<float>&, float const*,
                                          float const*);
