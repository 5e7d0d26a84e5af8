// SPDX-License-Identifier: Apache-2.0
// Lesson 2: layers compose. An encoder with shortcuts, a pyramid of two maps, its weights by name, one forward pass.
//
// Expected output (first and last lines):
//   stem.weight              16x1x2x2x2        128 numbers
//   stem.bias                16                 16 numbers
//   blocks.0.conv1.weight    16x16x3x3x3      6912 numbers
//   ...
//   map 0: 16x8x12x8, mean 0.5607
//   map 1: 32x4x6x4, mean 0.3981
//   embedding: 32, first numbers 0.2961 0.0224 0.0562
#include <cstdio>

#include "insula/cpu.hpp"
#include "insula/insula.hpp"

using namespace insula;

template <int C>
using convolution = conv3d<C, cube(3), conv_opts{.pad = cube(1), .bias = false}>;

template <int C>  // y = gelu(norm(conv(gelu(norm(conv(x))))) + x)
using block =
    residual_with<seq<named<"conv1", convolution<C>>, named<"norm1", group_norm<8, activation::gelu>>,
                      named<"conv2", convolution<C>>>,
                  named<"norm2", group_norm_add<8, activation::gelu>>>;
template <int C>
using down = conv3d<C, cube(2), conv_opts{.stride = cube(2)}>;

using encoder = seq<named<"stem", down<16>>, named<"blocks", repeat<2, block<16>>>, tap<0>,
                    named<"down", down<32>>, named<"deep", block<32>>, tap<1>, global_average, l2_normalise>;
using brain = shape<1, 16, 24, 16>;

int main() {
  model<encoder, brain> m;
  m.initialise(1);  // every number is a function of the seed, the tensor and its index
  for (auto const& t : m.places())
    std::printf("%-24s %-14s %6d numbers\n", t.name.c_str(), text(t.shape).c_str(), int(t.size()));

  context<cpu> cx(2);  // threads; results do not depend on how many
  tape<cpu> t(cx);
  std::vector<float> x(brain::size);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(normal_at({7}, std::uint32_t(i)));
  auto const y = apply<encoder>(m.params(), constant<brain>(t, x.data(), 1));

  auto const mean = [](auto v) {
    double sum = 0;
    for (index_t i = 0; i < v.size(); ++i) sum += double(v.value[i]);
    return sum / double(v.size());
  };
  std::printf("map 0: %s, mean %.4f\n", text(y.tap<0>().extents).c_str(), mean(y.tap<0>()));
  std::printf("map 1: %s, mean %.4f\n", text(y.tap<1>().extents).c_str(), mean(y.tap<1>()));
  std::printf("embedding: %s, first numbers %.4f %.4f %.4f\n", text(y.out.extents).c_str(),
              double(y.out.value[0]), double(y.out.value[1]), double(y.out.value[2]));
}
