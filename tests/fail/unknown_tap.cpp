// SPDX-License-Identifier: Apache-2.0
// The outputs of a network are asked for a tap that the network does not have.
// expect: the network has no tap with this label
#include "insula/autograd/apply.hpp"
#include "insula/layer/linear.hpp"
#include "insula/plain.hpp"

using namespace insula;

using net = seq<linear<16>, tap<0>, linear<32>>;
float* first_feature(weights<float> w, var<float, shape<768>, plain> x) {
  auto const y = apply<net>(w, x);
#ifdef INSULA_FAIL
  return y.tap<1>().value;
#else
  return y.tap<0>().value;
#endif
}
