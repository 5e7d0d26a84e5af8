// SPDX-License-Identifier: Apache-2.0
// UMBRA's published autoencoder: 79 leaves, five taps, a pyramid decoder.
#include "declared_kernels.hpp"

using namespace insula;

using net = umbra::autoencoder<umbra::paper>;
using brain = umbra::crop<umbra::paper>;

static_assert(program<net, brain>::parameters == 20683930);
static_assert(program<net, brain>::bytes(1, sizeof(float)) < index_t(600) << 20);
template double training_step<net, brain>(context<cpu>&, model<net, brain>&, adamw<float>&, float const*,
                                          float const*);
