// SPDX-License-Identifier: Apache-2.0
// A training pass does not fit into the memory that the user set aside for it.
// expect: one training pass must fit into 1 GiB
#include "insula/net/program.hpp"
#include "insula/zoo/umbra.hpp"

using namespace insula;

using net = umbra::autoencoder<umbra::paper>;
#ifdef INSULA_FAIL
constexpr index_t batch = 4;
#else
constexpr index_t batch = 2;
#endif
static_assert(program<net, shape<1, 96, 96, 96>>::bytes(batch, sizeof(float)) < index_t(1) << 30,
              "one training pass must fit into 1 GiB");
