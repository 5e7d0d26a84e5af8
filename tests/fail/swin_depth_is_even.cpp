// SPDX-License-Identifier: Apache-2.0
// A stage of a Swin transformer has three blocks, but plain and shifted windows alternate.
// expect: a stage alternates plain and shifted blocks: its depth must be even
#include "insula/net/program.hpp"
#include "insula/zoo/swin3d.hpp"

using namespace insula;

struct mine : swin::options {
#ifdef INSULA_FAIL
  static constexpr int depths[4] = {2, 2, 3, 2};
#else
  static constexpr int depths[4] = {2, 2, 6, 2};
#endif
};
constexpr index_t weights_of_net = program<swin::encoder<mine>, shape<1, 64, 64, 64>>::weights;
