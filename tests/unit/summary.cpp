// SPDX-License-Identifier: Apache-2.0
// The table of a network: names, shapes, parameters, and memory as the program predicts it.
#include "insula/net/summary.hpp"

#include <numeric>

#include "insula/zoo/umbra.hpp"
#include "support/catch.hpp"

using namespace insula;
using Catch::Matchers::Contains;

namespace {

using block =
    named<"block", list<conv3d<4, cube(3), conv_opts{.pad = cube(1)}>, frozen<group_norm<2>>, relu>>;
using net = seq<block, residual<named<"mix", conv3d<4, cube(1), conv_opts{.bias = false}>>>, global_average>;
using brain = shape<1, 4, 6, 8>;

index_t total(std::vector<program_line> const& lines) {
  return std::accumulate(lines.begin(), lines.end(), index_t{0},
                         [](index_t n, program_line const& l) { return n + l.parameters; });
}

}  // namespace

TEST_CASE("a line for every step, in the order of execution, with its names") {
  auto const lines = program_lines<net, brain>();
  REQUIRE(lines.size() == 6);
  CHECK(lines[0].path == "block.0");
  CHECK(lines[0].layer == "conv3d");
  CHECK(lines[0].out == make_dims(4, 4, 6, 8));
  CHECK(lines[0].parameters == 4 * 27 + 4);
  CHECK(lines[1].frozen);
  CHECK(lines[1].kept == 6);  // 3 statistics for each of 2 groups
  CHECK(lines[3].path == "mix");
  CHECK(lines[4].layer == "add");
  CHECK(lines[5].out == make_dims(4));
  CHECK(total(lines) == program<net, brain>::parameters);
}

TEST_CASE("the table shows what the program knows") {
  CHECK(summary<net, brain>(2) ==
        "step  names    layer           result         parameters\n"
        "   0  block.0  conv3d          4 x 4 x 6 x 8         112\n"
        "   1  block.1  group_norm      4 x 4 x 6 x 8          8*\n"
        "   2  block.2  relu            4 x 4 x 6 x 8            \n"
        "   3  mix      conv3d          4 x 4 x 6 x 8          16\n"
        "   4           add             4 x 4 x 6 x 8            \n"
        "   5           global_average  4                        \n" +
            text("input 1 x 4 x 6 x 8, 136 parameters; a pass of 2 samples needs ",
                 (program<net, brain>::bytes(2, 4) + 500000) / 1000000, " MB in training, ",
                 (program<net, brain>::inference_bytes(2, 4) + 500000) / 1000000, " MB without gradients\n"));
}

TEST_CASE("the table of the published autoencoder adds up to its parameters") {
  using umbra_net = umbra::autoencoder<umbra::paper>;
  auto const lines = program_lines<umbra_net, umbra::crop<umbra::paper>>();
  CHECK(lines.size() == std::size_t(umbra_net::leaves));
  CHECK(total(lines) == 20683930);
  CHECK_THAT((summary<umbra_net, umbra::crop<umbra::paper>>()),
             Contains("encoder.layers1.0.blocks.0 ") &&
                 Contains("20683930 parameters; a pass of 1 sample needs 452 MB"));
}

TEST_CASE("recomputed layers keep less memory between the passes, and their weights") {
  using deep = repeat<8, residual<seq<conv3d<4, cube(3), conv_opts{.pad = cube(1)}>, gelu, group_norm<2>>>>;
  using lean =
      repeat<8, recompute<residual<seq<conv3d<4, cube(3), conv_opts{.pad = cube(1)}>, gelu, group_norm<2>>>>>;
  using volume = shape<4, 16, 16, 16>;
  CHECK(program<lean, volume>::parameters == program<deep, volume>::parameters);
  CHECK(5 * program<lean, volume>::training.activations < 3 * program<deep, volume>::training.activations);
  CHECK(program<lean, volume>::inference.activations == program<deep, volume>::inference.activations);
}
