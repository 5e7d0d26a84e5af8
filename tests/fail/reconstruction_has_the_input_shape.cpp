// SPDX-License-Identifier: Apache-2.0
// The autoencoder of a pretraining system gives two channels, but a reconstruction has the shape of the input.
// expect: the autoencoder must give a reconstruction of the input's shape
#include "insula/plain.hpp"
#include "insula/ssl/contrastive_masked.hpp"
#include "insula/zoo/umbra.hpp"

using namespace insula;

using o = umbra::small;
#ifdef INSULA_FAIL
using autoencoder = umbra::autoencoder<o, 2>;
#else
using autoencoder = umbra::autoencoder<o, 1>;
#endif
using input = shape<1, 32, 32, 32>;
using system_type =
    contrastive_masked<autoencoder, umbra::encoder<o>, umbra::projection<o>, input, 256, float, plain>;
constexpr index_t size = system_type::size;
