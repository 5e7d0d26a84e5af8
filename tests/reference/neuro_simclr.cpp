// SPDX-License-Identifier: Apache-2.0
// 3D-Neuro-SimCLR's encoder and projector against the golden numbers of the published modules.
#include "insula/zoo/neuro_simclr.hpp"

#include "insula/cpu.hpp"
#include "insula/loss/classification.hpp"
#include "insula/optim/adam.hpp"
#include "insula/ssl/simclr.hpp"
#include "support/catch.hpp"
#include "support/neuro_simclr.hpp"

using namespace insula;
using support::fill;

namespace {

using options = neuro_simclr::paper;
using network = neuro_simclr::network<options>;
using encoder = neuro_simclr::encoder<options>;
using input = shape<1, 30, 40, 40>;

/// The encoder with its maps as taps; the stem in three layers in place of one.
using spread_encoder =
    named<"encoder",
          seq<named<"conv1", resnet::detail::conv<64, 7>>, named<"bn1", batch_norm<activation::relu>>, tap<0>,
              max_pool3d<>, tap<1>, named<"layer1", resnet::stage<options, 0>>, tap<2>,
              named<"layer2", resnet::stage<options, 1>>, tap<3>, named<"layer3", resnet::stage<options, 2>>,
              tap<4>, named<"layer4", resnet::stage<options, 3>>, tap<5>, global_average>>;

struct thrifty : options {  // the same numbers, most activations computed again
  static constexpr bool recompute_stem = true;
  static constexpr int recompute_stages = 2;
};

template <class T>
double sum(index_t n, T const* x) {
  double s = 0;
  for (index_t i = 0; i < n; ++i) s += double(x[i]);
  return s;
}
template <class T>
double norm(index_t n, T const* x) {
  double s = 0;
  for (index_t i = 0; i < n; ++i) s += double(x[i]) * double(x[i]);
  return std::sqrt(s);
}
template <class T>
struct trial {
  context<cpu> cx{2};
  model<network, input, T> m;
  tape<cpu> t{cx};
  std::vector<T> xi = fill<T>(1, 2 * input::size), xj = fill<T>(2, 2 * input::size);
  double const tolerance = sizeof(T) == 8 ? 1e-8 : 1e-5;  // relative to the largest of a tensor

  trial() { support::fill_neuro_simclr(m.all_places(), m.w(), m.state()); }

  void close(double value, double golden, double scale) {
    CHECK(std::abs(value - golden) <= tolerance * scale);
  }
  void evaluation() {
    auto const x = constant<input>(t, static_cast<T const*>(xi.data()), 2);
    auto const y = apply<spread_encoder>(m.frozen_params(), x);
    auto const total = [&](auto tap, double golden) { close(sum(tap.size(), tap.value), golden, golden); };
    total(y.template tap<0>(), 331816.478831), total(y.template tap<1>(), 147770.164114);
    total(y.template tap<2>(), 287865.871095), total(y.template tap<3>(), 118163.960195);
    total(y.template tap<4>(), 33998.333507), total(y.template tap<5>(), 9558.108970);
    auto const h = apply_without_gradient<encoder>(m.frozen_params(), x);
    auto const z = apply_without_gradient<network>(m.frozen_params(), x);
    double const h0[] = {0.305663716, 0.479049965, 0.158937580, 0.248732713},
                 z0[] = {0.050075256, 0.136830412, -0.053418708, 0.084607766};
    for (int c = 0; c < 4; ++c) close(double(h.value[c]), h0[c], 1), close(double(z.value[c]), z0[c], 1);
    close(sum(1024, h.value), 531.0060539, 531), close(norm(1024, h.value), 21.16910957, 21);
    close(norm(128, z.value), 1.39994558, 1);
  }
};

/// One training step's gradients: two passes, NT-Xent.
template <class T, class O>
struct training {
  context<cpu> cx{2};
  simclr<neuro_simclr::network<O>, neuro_simclr::encoder<O>, input, T> system{cx};
  scratch_stack memory{};
  std::vector<T> xi = fill<T>(1, 2 * input::size), xj = fill<T>(2, 2 * input::size);
  double const tolerance = sizeof(T) == 8 ? 1e-8 : 1e-5, gradient_tolerance = sizeof(T) == 8 ? 1e-8 : 1e-3;

  training() { support::fill_neuro_simclr(system.all_places(), system.w(), system.state()); }

  void close(double value, double golden, double scale, double tol) {
    CHECK(std::abs(value - golden) <= tol * scale);
  }
  void check_forward() {
    std::vector<T> h(1024), z(128);
    auto p = system.params();
    p.state.fixed = true;
    infer<neuro_simclr::encoder<O>, input>(cx, memory, p, static_cast<T const*>(xi.data()), 2, h.data(),
                                           {.training = true});
    infer<neuro_simclr::network<O>, input>(cx, memory, p, static_cast<T const*>(xi.data()), 2, z.data(),
                                           {.training = true});
    double const h0[] = {0.843466813, 0.877388053, 1.129111219, 0.928738842},
                 z0[] = {0.079573493, 0.338849548, -0.128772983, -0.089821121};
    for (std::size_t c = 0; c < 4; ++c)
      close(double(h[c]), h0[c], 1, tolerance), close(double(z[c]), z0[c], 1, tolerance);
    close(norm(1024, h.data()), 27.10399225, 27, tolerance);
  }
  std::vector<T> gradient(std::string const& name) {
    for (auto const& t : system.places())
      if (t.name == name) {
        std::vector<T> g(static_cast<std::size_t>(t.size()));
        to_disk(t, system.g(), g.data());
        return g;
      }
    FAIL("no tensor " << name);
    return {};
  }
  void check_gradient(std::string const& name, double golden) {
    auto const g = gradient(name);
    INFO(name << ", norm " << norm(index_t(g.size()), g.data()));
    close(norm(index_t(g.size()), g.data()), golden, golden, gradient_tolerance);
  }
  void check_step() {
    system.clear_gradients();
    close(system.micro_batch({2, xi.data(), xj.data()}), 1.0922902795, 1, tolerance);
    check_gradient("encoder.conv1.weight", 13.15247093);
    if constexpr (sizeof(T) == 8) {
      auto const first = gradient("encoder.conv1.weight");
      close(first[0], 0.106022736, 0.2, gradient_tolerance);
      close(first[1], 0.126747921, 0.2, gradient_tolerance);
    }
    check_gradient("encoder.bn1.weight", 0.0742424061);
    check_gradient("encoder.layer2.0.downsample.0.weight", 0.2944197202);
    check_gradient("encoder.layer4.1.conv2.weight", 1.0645018953);
    check_gradient("projector.0.weight", 0.8423986008);
    check_gradient("projector.2.weight", 0.4533438926);
    auto const bias = gradient("encoder.layer2.0.downsample.0.bias");  // zero: a batch norm follows
    CHECK(norm(index_t(bias.size()), bias.data()) < (sizeof(T) == 8 ? 1e-13 : 1e-4));

    double const mean[] = {-0.0677695055, -0.0427958090, -0.0415604089},
                 var[] = {0.8468944737, 0.8565332071, 0.8272307042};
    for (int c = 0; c < 3; ++c)
      close(double(system.state().values[c]), mean[c], 1, tolerance),
          close(double(system.state().values[64 + c]), var[c], 1, tolerance);
    for (index_t k = 0; k < decltype(system)::network::counters; ++k) CHECK(system.state().counters[k] == 2);
  }
  /// Float's gradients of the step against those of the same step in double, |g - exact| / |exact| of each tensor.
  /// Projector: rounding alone, 2e-5. Encoder: errors of d standard deviations before a ReLU turn 0.4 d of its signs,
  /// and half of all signs let a gradient through, so that it is off by sqrt(0.8 d) of its norm. d = 1e-5 (check_forward)
  /// at 17 ReLUs makes 1.2e-2; measured: 3e-3 with Winograd's convolutions, 5e-3 with exact ones. In double, weights and
  /// inputs that are off by 6e-8 of themselves change the gradient by 1e-6, by 1e-6 of themselves by 2e-3: a sign turns.
  void check_gradients(training<double, options>& exact) {
    for (auto const& t : system.places()) {
      auto const g = gradient(t.name);
      auto e = exact.gradient(t.name);
      double const size = norm(t.size(), e.data());
      for (std::size_t i = 0; i < g.size(); ++i) e[i] -= double(g[i]);
      INFO(t.name << ", norm " << size << ", off by " << norm(t.size(), e.data()));
      if (t.name.ends_with("downsample.0.bias"))  // zero: a batch norm follows
        CHECK(norm(t.size(), g.data()) < 1e-4);
      else
        CHECK(norm(t.size(), e.data()) <= (t.name.starts_with("projector.") ? 1e-4 : 1e-2) * size);
    }
  }
};

/// A step of the linear probe: a frozen encoder in training mode, Adam on the head.
template <class T>
void linear_probe(double tolerance) {
  using net = seq<frozen<encoder>, neuro_simclr::head<>>;
  context<cpu> cx(2);
  model<net, input, T> m;
  tape<cpu> t(cx);
  auto const all = m.all_places();
  auto const head = program<encoder, input>::weights;
  support::fill_neuro_simclr({all.begin(), all.end() - 2}, m.w(), m.state());
  auto const weight = fill<T>(41, 512, std::pow(512.0, -0.5)), bias = fill<T>(42, 1, std::pow(512.0, -0.5));
  from_disk(all[all.size() - 2], weight.data(), m.w());
  from_disk(all.back(), bias.data(), m.w());
  auto const x = fill<T>(1, 2 * input::size);
  T const labels[2] = {1, 0};
  auto const close = [&](T value, double golden) { CHECK(std::abs(double(value) - golden) <= tolerance); };

  auto const in = constant<input>(t, static_cast<T const*>(x.data()), 2);
  auto const logits = apply<net>(m.params(), in, {.training = true}).out;
  close(logits.value[0], -0.404016343), close(logits.value[1], -0.114900331);
  close(T(bce_with_logits(logits, labels)), 0.776384047);
  t.backward();
  t.clear();
  CHECK(norm(head, m.g()) == 0);
  adam<T> optimizer(m.size, {{head, m.size - head, 0}});
  optimizer.step(cx, m.g(), m.w(), 1e-4);
  close(m.w()[head], 0.010196434), close(m.w()[head + 1], 0.039272523), close(m.w()[head + 512], 0.013539651);
  close(m.state().values[0], -0.075246824), close(m.state().values[1], -0.047531035);
  CHECK(m.state().counters[0] == 1);
  auto const after = apply_without_gradient<net>(m.frozen_params(), in);
  close(after.value[0], 0.009795475), close(after.value[1], 0.041026771);
}

}  // namespace

TEST_CASE("parameters of the published networks are counted right", "[neuro_simclr]") {
  using volume = neuro_simclr::volume<options>;
  using whole = program<network, volume>;
  STATIC_REQUIRE(whole::parameters == 33455808);
  STATIC_REQUIRE(program<encoder, volume>::parameters == 33160896);
  STATIC_REQUIRE(program<neuro_simclr::downstream<options>, volume>::parameters == 33161409);
  STATIC_REQUIRE(program<resnet::encoder<resnet::resnet50>, volume>::parameters == 46158912);
  STATIC_REQUIRE(program<resnet::encoder<resnet::resnet50>, volume>::out == make_dims(2048));
  auto const all = tensors<network, volume>();
  CHECK(all.size() == 125);
  CHECK(tensors_of(all, tensor_kind::weight).size() == 65);
  index_t elements = 0;
  for (auto const& t : all) elements += t.kind == tensor_kind::weight ? 0 : t.size();
  CHECK(elements == 9620);
}

TEST_CASE("tensors have the names, shapes and order of the published state_dict", "[neuro_simclr]") {
  std::vector<std::string> expected{"conv1.weight 64x1x7x7x7"};
  auto const norm = [&](std::string const& name, int c) {
    for (char const* part : {"weight", "bias", "running_mean", "running_var"})
      expected.push_back(name + "." + part + " " + std::to_string(c));
    expected.push_back(name + ".num_batches_tracked ");
  };
  auto const size = [](int out, int in, int k) {
    std::string s = " " + std::to_string(out) + "x" + std::to_string(in);
    for (int i = 0; i < 3; ++i) s += "x" + std::to_string(k);
    return s;
  };
  norm("bn1", 64);
  int in = 64;
  for (int stage = 1; stage <= 4; ++stage)
    for (int block = 0; block < 2; ++block) {
      int const out = 32 << stage;
      std::string const at = "layer" + std::to_string(stage) + "." + std::to_string(block) + ".";
      expected.push_back(at + "conv1.weight" + size(out, in, 3)), norm(at + "bn1", out);
      expected.push_back(at + "conv2.weight" + size(out, out, 3)), norm(at + "bn2", out);
      if (in != out) {
        expected.push_back(at + "downsample.0.weight" + size(out, in, 1));
        expected.push_back(at + "downsample.0.bias " + std::to_string(out)), norm(at + "downsample.1", out);
      }
      in = out;
    }
  for (auto& e : expected) e = "encoder." + e;
  expected.push_back("projector.0.weight 512x512"), expected.push_back("projector.2.weight 64x512");
  std::vector<std::string> found;
  for (auto const& t : published_order(tensors<network, input>())) {
    std::string s = t.name + " ";
    for (int i = 0; i < t.shape.rank; ++i) s += (i ? "x" : "") + std::to_string(t.shape.n[i]);
    found.push_back(s);
  }
  CHECK(found == expected);
}

TEST_CASE("evaluation with running statistics is the published one", "[neuro_simclr]") {
  SECTION("double") { trial<double>().evaluation(); }
  SECTION("float") { trial<float>().evaluation(); }
}

TEST_CASE("a training step of two views is the published one: loss, gradients, running statistics",
          "[neuro_simclr]") {
  SECTION("double") {
    training<double, options> t;
    t.check_forward();
    t.check_step();
  }
  SECTION("float, activations recomputed") {
    training<float, thrifty> t;
    t.check_forward();
    t.check_step();
    training<double, options> exact;
    exact.check_step();
    t.check_gradients(exact);
  }
}

TEST_CASE("a step of the linear probe is the published one: the frozen encoder's statistics drift",
          "[neuro_simclr]") {
  SECTION("double") { linear_probe<double>(1e-8); }
  SECTION("float") { linear_probe<float>(1e-5); }
}
