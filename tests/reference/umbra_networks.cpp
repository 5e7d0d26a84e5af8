// SPDX-License-Identifier: Apache-2.0
// UMBRA's networks against the golden numbers of the reference implementation, cases A to C (docs/papers/umbra.md).
#include "insula/autograd/apply.hpp"
#include "insula/cpu.hpp"
#include "insula/loss/masked_reconstruction.hpp"
#include "insula/plain.hpp"
#include "insula/ssl/masking.hpp"
#include "insula/zoo/umbra.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

struct narrow : umbra::paper {
  static constexpr int features = 24;
  static constexpr int depths[4] = {2, 2, 2, 2};
  static constexpr int decoder_width = 16;
};
using net = umbra::tapped_autoencoder<narrow>;
using trained = umbra::autoencoder<narrow>;  // the same without taps
using input = shape<1, 32, 48, 64>;

constexpr golden a_f1{
    0.00000000, 0.99999536, {0.5328803, 0.6889436, 0.6235755, -0.8200402, 0.6354178, 0.4911275}};
constexpr golden a_f2{
    0.00000000, 0.99999489, {1.6959665, 0.8484412, 0.0610769, -0.1507787, -0.2727899, -1.2564968}};
constexpr golden a_f3{
    -0.00000000, 0.99999497, {0.7144292, 1.1647375, 0.1152475, -0.4444881, 0.7992897, 0.2329094}};
constexpr golden a_f4{
    0.00000000, 0.99999501, {0.4175509, 0.5811102, -0.7888750, -1.2053828, 1.2752909, -1.7780402}};
constexpr golden a_f5{
    -0.00000000, 0.99999490, {-2.0739817, -0.4722790, -1.3144049, -0.2103005, 0.9991622, -0.3982481}};
constexpr golden a_out{
    0.12435653, 0.63696482, {0.1917052, 0.2100209, -0.5402256, 2.0415480, 0.8285482, -0.0581409}};
constexpr golden b_f1{
    -0.00000000, 0.99998814, {-0.7814456, -0.7814456, -1.5876233, 0.3313438, 0.7134054, -1.6107546}};
constexpr golden b_f2{
    0.00000000, 0.99999503, {0.1869246, 0.1013568, 0.9195642, -0.4990005, 0.1089523, -0.9811412}};
constexpr golden b_f3{
    -0.00000000, 0.99999495, {0.8078188, 0.3934155, 0.8577436, -0.0398214, -1.0751265, 1.0901167}};
constexpr golden b_f4{
    -0.00000000, 0.99999504, {1.8297029, 1.8318147, 0.0526820, -0.8461901, 1.1183422, -0.2033350}};
constexpr golden b_f5{
    -0.00000000, 0.99999465, {-0.8419748, 0.5035912, -1.2293261, -0.0852774, 1.2231820, -0.9605578}};
constexpr golden b_out{
    0.07457822, 0.67239248, {0.4932858, 0.4017507, 0.3438484, 0.7742565, -0.3035489, -0.1286359}};
constexpr golden c_f1{
    -0.00000000, 0.99999373, {-2.0546475, 0.6704619, -0.1853811, -0.1641252, -1.3819633, 0.1246469}};
constexpr golden c_f2{
    0.00000000, 0.99999494, {1.4280026, -0.2277375, -1.0256784, 0.1718746, 1.6165235, -1.1961820}};
constexpr golden c_f3{
    -0.00000000, 0.99999476, {1.8500761, 1.4252340, 1.6836282, 0.0402866, 1.3615674, 0.6984381}};
constexpr golden c_f4{
    -0.00000000, 0.99999464, {0.4235608, 0.3496491, -0.1581636, -0.4311869, 1.7173364, -0.4424275}};
constexpr golden c_f5{
    0.00000000, 0.99999525, {-2.5174764, 0.8425286, -1.0815949, 0.5859442, 2.7587109, 1.0172331}};

// double: the table has eight digits; float: the published tolerance
template <class T>
constexpr double tolerance = sizeof(T) == 8 ? 6e-8 : 1e-5;

template <class Net, class T, class B>
struct trial {
  context<B> cx;
  model<Net, input, T, B> m;
  tape<B> t{cx};
  trial() { fill_published(m.places(), m.w()); }
};

template <class Outputs>
void compare_pyramid(Outputs const& y, golden const (&g)[6], double tolerance) {
  CHECK(deviation(decltype(y.template tap<0>())::extents, y.template tap<0>().value, g[0]) < tolerance);
  CHECK(deviation(decltype(y.template tap<1>())::extents, y.template tap<1>().value, g[1]) < tolerance);
  CHECK(deviation(decltype(y.template tap<2>())::extents, y.template tap<2>().value, g[2]) < tolerance);
  CHECK(deviation(decltype(y.template tap<3>())::extents, y.template tap<3>().value, g[3]) < tolerance);
  CHECK(deviation(decltype(y.template tap<4>())::extents, y.template tap<4>().value, g[4]) < tolerance);
  CHECK(deviation(decltype(y.out)::extents, y.out.value, g[5]) < tolerance);
}

struct gradient_row {
  char const* name;
  double norm, first, middle;
};
constexpr gradient_row gradients[] = {
    {"encoder.patch_embed.patch_embed.proj.weight", 9.43817970e-02, -4.22599503e-04, 1.01218459e-02},
    {"encoder.patch_embed.mask_token_injector.mask_token", 4.82935618e-01, 4.25566553e-02, -1.82037902e-03},
    {"encoder.layers1.0.blocks.0.norm1.weight", 6.16832591e-02, -9.11141999e-05, 2.65782140e-02},
    {"encoder.layers1.0.blocks.0.attn.qkv.weight", 3.35403463e-01, 3.17994597e-03, -2.43061858e-03},
    {"encoder.layers1.0.blocks.0.attn.qkv.bias", 1.15455304e-01, -3.30928212e-03, 0},
    {"encoder.layers1.0.blocks.1.attn.relative_position_bias_table", 9.81537987e-04, -6.31997491e-07,
     3.75977471e-05},
    {"encoder.layers3.0.blocks.1.attn.relative_position_bias_table", 5.17707318e-04, 0, -2.51602982e-05},
    {"encoder.layers4.0.blocks.0.attn.relative_position_bias_table", 1.28285886e-03, 0, -3.38617497e-05},
    {"encoder.layers2.0.blocks.1.mlp.linear1.weight", 8.14565785e-02, -1.96056672e-04, -5.55833599e-05},
    {"encoder.layers1.0.downsample.reduction.weight", 1.04975858e+00, 1.70969859e-03, -2.78773923e-03},
    {"encoder.layers4.0.downsample.norm.bias", 1.25741454e-02, 1.79513994e-04, 2.56179456e-04},
    {"encoder.layers1c.0.layer.conv1.conv.weight", 1.20179970e+00, -7.35011549e-04, 3.55248310e-03},
    {"encoder.layers4c.0.layer.norm2.weight", 9.58607305e-03, -2.91905215e-04, 3.73020362e-04},
    {"feats_decoder.lat5.weight", 2.22985830e-01, 9.36871963e-04, -2.34742079e-03},
    {"feats_decoder.lat1.weight", 8.79492354e-01, -9.22881378e-02, 5.53985091e-02},
    {"feats_decoder.smooth4.conv.weight", 2.98806856e-01, -3.00287506e-03, -1.79221198e-04},
    {"feats_decoder.smooth1.norm.bias", 3.84024888e-01, 3.54986771e-03, 2.46253004e-01},
    {"head.proj.weight", 8.64425404e-01, -8.74076041e-03, 7.02492366e-03},
    {"head.proj.bias", 3.92872313e-01, 5.16634204e-02, 1.61920028e-02},
};

template <class T, class B>
void case_a() {
  trial<net, T, B> r;
  auto const x = published_input<T>(input::size, 100000);
  auto const y = apply<net>(r.m.params(), constant<input>(r.t, x.data(), 1));
  compare_pyramid(y, {a_f1, a_f2, a_f3, a_f4, a_f5, a_out}, tolerance<T>);
}

template <class Net, class T, class B>
void case_b(double loss_tolerance, double gradient_tolerance) {
  trial<Net, T, B> r;
  auto const x = published_input<T>(input::size, 100000);
  mask_batch mask({{32, 48, 64}}, 1);
  mask.set(0, {1, 0, 0, 1});
  CHECK(mask.masked_voxels() == 49152);
  auto const y = apply<Net>(r.m.params(), constant<input>(r.t, x.data(), 1), {.mask = mask.tokens()});
  if constexpr (std::is_same_v<Net, net>)
    compare_pyramid(y, {b_f1, b_f2, b_f3, b_f4, b_f5, b_out}, tolerance<T>);
  else
    CHECK(deviation(input::value, y.out.value, b_out) < tolerance<T>);
  double const loss = masked_reconstruction(y.out, x.data(), mask.voxels());
  CHECK(std::abs(loss / 1.7871524988471041 - 1) < loss_tolerance);

  r.t.backward();
  double total = 0;
  int found = 0;
  for (auto const& t : r.m.places()) {
    std::vector<double> g(std::size_t(t.size()));
    to_disk(t, r.m.g(), g.data());
    double squares = 0;
    for (double v : g) squares += v * v;
    total += squares;
    for (auto const& row : gradients) {
      if (t.name != row.name) continue;
      ++found;
      double const norm = std::sqrt(squares);
      INFO(t.name);
      CHECK(std::abs(norm / row.norm - 1) < gradient_tolerance);
      CHECK(std::abs(g[0] - row.first) < gradient_tolerance * norm);
      CHECK(std::abs(g[g.size() / 2] - row.middle) < gradient_tolerance * norm);
    }
  }
  CHECK(found == int(std::size(gradients)));
  CHECK(std::abs(std::sqrt(total) / 5.431544162447856 - 1) < (sizeof(T) == 8 ? 1e-11 : 1e-5));
}

template <class T, class B>
void case_c() {
  using odd = shape<1, 21, 20, 19>;
  using pyramid = named<"encoder", swin::pyramid<narrow>>;
  context<B> cx;
  tape<B> t(cx);
  model<pyramid, odd, T, B> m;
  fill_published(m.places(), m.w());
  auto const x = published_input<T>(odd::size, 100001);
  auto const y = apply<pyramid>(m.params(), constant<odd>(t, x.data(), 1));
  CHECK(deviation(decltype(y.template tap<0>())::extents, y.template tap<0>().value, c_f1) < tolerance<T>);
  CHECK(deviation(decltype(y.template tap<1>())::extents, y.template tap<1>().value, c_f2) < tolerance<T>);
  CHECK(deviation(decltype(y.template tap<2>())::extents, y.template tap<2>().value, c_f3) < tolerance<T>);
  CHECK(deviation(decltype(y.template tap<3>())::extents, y.template tap<3>().value, c_f4) < tolerance<T>);
  CHECK(deviation(decltype(y.template tap<4>())::extents, y.template tap<4>().value, c_f5) < tolerance<T>);
}

}  // namespace

TEST_CASE("the narrow autoencoder has the published number of parameters", "[umbra]") {
  CHECK(program<net, input>::parameters == 4856586);
  CHECK(parameters<net, input>().size() == 162);
  CHECK(program<trained, input>::weights == program<net, input>::weights);
}

TEST_CASE("case A: padded windows, partial clamping, shifts on a subset of axes", "[umbra]") {
  SECTION("plain kernels, double") { case_a<double, plain>(); }
  SECTION("CPU kernels, double") { case_a<double, cpu>(); }
  SECTION("CPU kernels, float") { case_a<float, cpu>(); }
}

TEST_CASE("case B: masked reconstruction and its gradients", "[umbra]") {
  SECTION("plain kernels, double") { case_b<trained, double, plain>(1e-12, 5e-9); }
  SECTION("CPU kernels, double") { case_b<trained, double, cpu>(1e-12, 5e-9); }
  SECTION("CPU kernels, float") { case_b<trained, float, cpu>(1e-6, 2e-5); }
  SECTION("with taps, CPU kernels, double") { case_b<net, double, cpu>(1e-12, 5e-9); }
}

TEST_CASE("case C: patch padding and odd merging", "[umbra]") {
  SECTION("plain kernels, double") { case_c<double, plain>(); }
  SECTION("CPU kernels, double") { case_c<double, cpu>(); }
  SECTION("CPU kernels, float") { case_c<float, cpu>(); }
}
