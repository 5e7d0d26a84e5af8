// SPDX-License-Identifier: Apache-2.0
// Lesson 1: a network is a type. The compiler follows shapes, plans memory and keeps a budget; nothing runs yet.
//
// Expected output:
//   input 1x96x96x96
//   step  layer           gives
//     0   conv3d          16x48x48x48
//     1   group_norm      16x48x48x48
//     2   conv3d          32x24x24x24
//     3   group_norm      32x24x24x24
//     4   global_average  32
//     5   linear          10
//   output 10, parameters 14730
//   a pass of 4 samples: 70.9 MB with gradients, 56.7 MB without
#include <cstdio>

#include "insula/insula.hpp"

using namespace insula;

constexpr conv_opts halve{.stride = cube(2), .pad = cube(1)};

template <int Channels>
using stage = seq<conv3d<Channels, cube(3), halve>, group_norm<8, activation::gelu>>;
using encoder = seq<stage<16>, stage<32>, global_average, linear<10>>;

using brain = shape<1, 96, 96, 96>;  // channels, depth, height, width of one sample; the batch is a number
using table = program<encoder, brain>;

static_assert(table::out == make_dims(10));
static_assert(table::bytes(4, sizeof(float)) < index_t(200) << 20, "a training pass must fit into 200 MiB");

int main() {
  std::printf("input %s\nstep  layer           gives\n", text(brain::value).c_str());
  for (int i = 0; i < table::training.steps; ++i) {
    step const& s = table::training.at[i];
    std::printf("  %d   %-14s  %s\n", i, s.name, text(s.out).c_str());
  }
  std::printf("output %s, parameters %d\n", text(table::out).c_str(), int(table::parameters));
  std::printf("a pass of 4 samples: %.1f MB with gradients, %.1f MB without\n",
              double(table::bytes(4, sizeof(float))) / 1e6,
              double(table::inference_bytes(4, sizeof(float))) / 1e6);
}
