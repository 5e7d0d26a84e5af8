// SPDX-License-Identifier: Apache-2.0
// A decoder recalls a tap that the encoder before it does not make.
// expect: recall<> asks for tap want<>, which no layer before it makes
#include "insula/layer/linear.hpp"
#include "insula/net/program.hpp"

using namespace insula;

#ifdef INSULA_FAIL
using decoder = seq<recall<3>, linear<8>>;
#else
using decoder = seq<recall<0>, linear<8>>;
#endif
using net = seq<linear<16>, tap<0>, linear<32>, tap<1>, decoder>;
constexpr index_t weights_of_net = program<net, shape<48>>::weights;
