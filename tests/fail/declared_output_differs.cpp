// SPDX-License-Identifier: Apache-2.0
// The shape written at a call of a network is not the shape that the network gives.
// expect: apply_as: the declared output shape is not what the network produces
#include "insula/autograd/apply.hpp"
#include "insula/layer/linear.hpp"
#include "insula/plain.hpp"

using namespace insula;

using net = seq<linear<64>, linear<32>>;
#ifdef INSULA_FAIL
using declared = shape<64>;
#else
using declared = shape<32>;
#endif
auto embed(weights<float> w, var<float, shape<768>, plain> x) { return apply_as<declared, net>(w, x); }
