// SPDX-License-Identifier: Apache-2.0
// A network that cannot take its input is applied on a tape, and its output feeds a loss.
// expect: the channels got<> are not divisible by the number of groups want<>
#include "insula/autograd/apply.hpp"
#include "insula/layer/conv.hpp"
#include "insula/layer/norm.hpp"
#include "insula/loss/masked_reconstruction.hpp"
#include "insula/plain.hpp"

using namespace insula;

#ifdef INSULA_FAIL
constexpr int width = 12;
#else
constexpr int width = 16;
#endif
using net = seq<conv3d<width, cube(1)>, group_norm<8>, conv3d<1, cube(1)>>;
using input = shape<1, 8, 8, 8>;
double error(context<plain>& cx, float const* volume) {
  model<net, input, float, plain> m;
  m.initialise(1);
  tape<plain> t(cx);
  auto const y = apply<net>(m.params(), constant<input>(t, volume, 1));
  double const loss = masked_reconstruction(y.out, volume, nullptr);
  t.backward();
  return loss;
}
