// SPDX-License-Identifier: Apache-2.0
// The encoder of a pretraining system has seven heads for 24 channels.
// expect: the channels got<> are not divisible by the number of heads want<>
#include "insula/plain.hpp"
#include "insula/ssl/contrastive_masked.hpp"
#include "insula/zoo/umbra.hpp"

using namespace insula;

struct mine : umbra::small {
#ifdef INSULA_FAIL
  static constexpr int heads[4] = {7, 6, 12, 24};
#else
  static constexpr int heads[4] = {3, 6, 12, 24};
#endif
};
using input = shape<1, 32, 32, 32>;
using system_type = contrastive_masked<umbra::autoencoder<mine>, umbra::encoder<mine>,
                                       umbra::projection<mine>, input, 256, float, plain>;
double step(context<plain>& cx, pair_batch<float> const& pairs) {
  system_type s(cx, {}, {.input = cube(32)}, pairs.batch);
  s.initialise(1);
  return s.micro_batch(pairs, {}, 1, 0.99, {}).total;
}
