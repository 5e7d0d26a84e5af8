// SPDX-License-Identifier: Apache-2.0
// The late-fusion network against the golden numbers of the reference implementation, case F (docs/papers/umbra.md).
#include "insula/autograd/apply.hpp"
#include "insula/cpu.hpp"
#include "insula/plain.hpp"
#include "insula/zoo/umbra.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

struct two_narrow : umbra::paper_late_fusion<2> {
  static constexpr int features = 24;
  static constexpr int depths[4] = {2, 2, 2, 2};
  static constexpr int decoder_width = 16;
};
using net = umbra::late_fusion<two_narrow, 3>;
using input = shape<2, 32, 32, 32>;

constexpr golden f_out{
    -0.04131157, 0.68220728, {0.1042946, -0.4110746, -0.2095450, 0.2018107, 0.1043980, -0.1919413}};

/// The published input: modality by modality on disk, side by side in memory.
template <class T>
std::vector<T> two_modalities() {
  index_t const n = 32 * 32 * 32;
  auto const disk = published_input<T>(input::size, 100003);
  std::vector<T> x(disk.size());
  for (index_t m = 0; m < 2; ++m)
    for (index_t p = 0; p < n; ++p) x[std::size_t(2 * p + m)] = disk[std::size_t(m * n + p)];
  return x;
}

template <class T, class B>
void case_f(double tolerance) {
  context<B> cx;
  tape<B> t(cx);
  model<net, input, T, B> m;
  fill_published(m.places(), m.w());
  auto const x = two_modalities<T>();
  auto const y = apply<net>(m.params(), constant<input>(t, x.data(), 1));
  CHECK(deviation(make_dims(3, 32, 32, 32), y.out.value, f_out) < tolerance);
  T const* alpha = y.template tap<swin::fusion_tap>().value;  // (6, 2)
  CHECK(std::abs(double(alpha[2]) - 0.4955) < 5e-5);
  CHECK(std::abs(double(alpha[3]) - 0.5045) < 5e-5);

  std::vector<T> inferred(std::size_t(y.out.size()));  // the memory plan without gradients
  scratch_stack memory;
  infer<net, input>(cx, memory, static_cast<T const*>(m.w()), x.data(), 1, inferred.data());
  CHECK(deviation(make_dims(3, 32, 32, 32), inferred.data(), f_out) < tolerance);
}

template <int Modalities>
index_t published_parameters() {
  return program<umbra::late_fusion<umbra::paper_late_fusion<Modalities>, 1>,
                 shape<Modalities, 96, 96, 96>>::parameters;
}

}  // namespace

TEST_CASE("the late-fusion network has the published parameters for one, two and three modalities",
          "[umbra]") {
  CHECK(published_parameters<1>() == 20680752);
  CHECK(published_parameters<2>() == 20680758);
  CHECK(published_parameters<3>() == 20680764);
  auto const places = published_order(parameters<net, input>());
  CHECK(places.front().name == "fusion_weights");
  CHECK(places.front().shape == make_dims(6, 2));
  CHECK(places[1].name == "encoder.patch_embed.proj.weight");
  CHECK(places.back().name == "head.proj.bias");
}

TEST_CASE("case F: late fusion of two modalities", "[umbra]") {
  SECTION("plain kernels, double") { case_f<double, plain>(6e-8); }
  SECTION("CPU kernels, double") { case_f<double, cpu>(6e-8); }
  SECTION("CPU kernels, float") { case_f<float, cpu>(1e-5); }
}

TEST_CASE("modalities of equal weight are interchangeable", "[umbra]") {
  context<cpu> cx(2);
  model<net, input> m(false);
  m.initialise(3);  // fusion weights start at 0: a mean
  auto x = two_modalities<float>();
  std::vector<float> y(3 * 32 * 32 * 32), swapped(y.size());
  scratch_stack memory;
  infer<net, input>(cx, memory, static_cast<float const*>(m.w()), x.data(), 1, y.data());
  for (std::size_t i = 0; i < x.size(); i += 2) std::swap(x[i], x[i + 1]);
  infer<net, input>(cx, memory, static_cast<float const*>(m.w()), x.data(), 1, swapped.data());
  CHECK(relative_error(swapped, y) < 1e-6);
}
