// SPDX-License-Identifier: Apache-2.0
// A training pass does not fit into the memory that the user set aside for it.
// expect: one training pass must fit into 256 MiB
#include "insula/net/program.hpp"
#include "insula/zoo/umbra.hpp"

using namespace insula;

using net = umbra::autoencoder<umbra::small>;
#ifdef INSULA_FAIL
constexpr index_t batch = 8;
#else
constexpr index_t batch = 1;
#endif
static_assert(program<net, shape<1, 64, 64, 64>>::bytes(batch, sizeof(float)) < index_t(256) << 20,
              "one training pass must fit into 256 MiB");
