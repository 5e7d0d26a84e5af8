// SPDX-License-Identifier: Apache-2.0
// SwinUNETR against the golden numbers of the reference implementation, cases D and E (docs/papers/umbra.md).
#include "insula/autograd/apply.hpp"
#include "insula/cpu.hpp"
#include "insula/zoo/swin3d.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

struct with_convolutions : swin::options {
  static constexpr int features = 12;
};
struct without_convolutions : with_convolutions {
  static constexpr bool residual_convolutions = false;
};
struct published : swin::options {
  static constexpr int depths[4] = {2, 2, 6, 2};
};
struct published_plain : swin::options {
  static constexpr bool residual_convolutions = false;
};
using input = shape<1, 64, 64, 64>;

constexpr golden d_out{
    0.21305013, 1.36832863, {-2.3552157, -0.4306672, 0.0180273, 2.8648417, 0.9587051, 0.4589604}};
constexpr golden e_out{
    0.50089643, 1.02030997, {0.0326470, 0.0613214, 0.1985780, 0.0683165, 0.7213236, -0.2526976}};

template <class O, class T>
double deviation_of_output(golden const& g) {
  using net = swin::unetr<O, 2>;
  context<cpu> cx(2);
  model<net, input, T> m(false);
  fill_published(m.places(), m.w());
  auto const x = published_input<T>(input::size, 100002);
  std::vector<T> y(2 * 64 * 64 * 64);
  scratch_stack memory;
  infer<net, input>(cx, memory, static_cast<T const*>(m.w()), x.data(), 1, y.data());
  return deviation(make_dims(2, 64, 64, 64), y.data(), g);
}

}  // namespace

TEST_CASE("SwinUNETR has the published parameters", "[umbra]") {
  using cube96 = shape<1, 96, 96, 96>;
  CHECK(program<swin::unetr<with_convolutions, 2>, input>::parameters == 4739024);
  CHECK(parameters<swin::unetr<with_convolutions, 2>, input>().size() == 159);
  CHECK(program<swin::unetr<published, 1>, cube96>::parameters == 74646931);
  CHECK(parameters<swin::unetr<published, 1>, cube96>().size() == 211);
  CHECK(program<swin::unetr<swin::options, 1>, cube96>::parameters == 72762019);
  CHECK(program<swin::unetr<published_plain, 1>, cube96>::parameters == 62186659);
  CHECK(program<swin::encoder<published>, cube96>::parameters == 20522274);
  CHECK(program<swin::encoder<published_plain>, cube96>::parameters == 8062002);
}

TEST_CASE("case D: SwinUNETR with residual convolutions", "[umbra]") {
  CHECK(deviation_of_output<with_convolutions, double>(d_out) < 6e-8);
  CHECK(deviation_of_output<with_convolutions, float>(d_out) < 1e-5);
}

TEST_CASE("case E: SwinUNETR without them", "[umbra]") {
  CHECK(deviation_of_output<without_convolutions, double>(e_out) < 6e-8);
  CHECK(deviation_of_output<without_convolutions, float>(e_out) < 1e-5);
}
