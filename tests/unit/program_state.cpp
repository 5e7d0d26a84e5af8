// SPDX-License-Identifier: Apache-2.0
// Running statistics as state of a program: who moves them, when, how often, and over which ranks.
#include <mutex>

#include "insula/autograd/apply.hpp"
#include "insula/cpu.hpp"
#include "insula/layer/batch_norm.hpp"
#include "insula/layer/conv.hpp"
#include "insula/plain.hpp"
#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/ranks.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

using conv = conv3d<4, cube(3), conv_opts{.pad = cube(1), .bias = false}>;
using stem = seq<named<"0", conv>, named<"1", batch_norm_pool<activation::relu>>>;
using block =
    residual_with<seq<named<"conv1", conv>, named<"bn1", batch_norm<activation::relu>>, named<"conv2", conv>>,
                  named<"bn2", batch_norm_add<activation::relu>>>;
using plain_net = seq<stem, named<"2", block>>;
using thrifty_net = seq<recompute<stem>, named<"2", recompute<block>>>;
using input = shape<2, 6, 7, 5>;
constexpr index_t batch = 3;

/// A model, its volumes and one pass forward and backward.
template <class Net, class T>
struct trial {
  context<cpu> cx{2};
  model<Net, input, T> m;
  tape<cpu> t{cx};
  std::vector<T> x = random_vector<T>(batch * input::size, 1), y{};

  trial() { m.initialise(3); }
  void pass(pass_options with, bool back = true, bool weights_learn = true) {
    weights<T> w = m.params();
    if (!weights_learn) w.g = nullptr;
    auto const out = apply<Net>(w, constant<input>(t, static_cast<T const*>(x.data()), batch), with).out;
    y.assign(out.value, out.value + out.size());
    auto const g = random_vector<T>(out.size(), 2);
    for (index_t i = 0; i < out.size(); ++i) out.grad[i] += g[std::size_t(i)];
    if (back) t.backward();
    t.clear();
  }
  std::vector<T> state() {
    return std::vector<T>(m.state().values, m.state().values + program<Net, input>::states);
  }
  std::vector<T> gradient() { return std::vector<T>(m.g(), m.g() + m.size); }
  std::int64_t count() { return m.state().counters[0]; }
};

}  // namespace

TEST_CASE("state starts at mean 0, variance 1, and no batches", "[state]") {
  model<plain_net, input> m;
  std::vector<std::string> names;
  for (auto const& t : m.all_places()) {
    if (t.kind == tensor_kind::weight) continue;
    names.push_back(t.name);
    bool const one = t.name.ends_with("running_var");
    for (index_t i = 0; i < t.size(); ++i)
      CHECK((t.kind == tensor_kind::counter ? double(m.state().counters[t.offset])
                                            : double(m.state().values[t.offset + i])) == (one ? 1 : 0));
  }
  CHECK(names == std::vector<std::string>{"1.running_mean", "1.running_var", "1.num_batches_tracked",
                                          "2.bn1.running_mean", "2.bn1.running_var",
                                          "2.bn1.num_batches_tracked", "2.bn2.running_mean",
                                          "2.bn2.running_var", "2.bn2.num_batches_tracked"});
  CHECK(program<plain_net, input>::counters == 3);
  CHECK(program<plain_net, input>::bytes(1, 4) == 4 * (2 * program<plain_net, input>::weights + 3 * 2 * 16 +
                                                       program<plain_net, input>::training.activations) +
                                                      3 * 8);
}

TEST_CASE("running statistics follow the batch with momentum 0.1 and the unbiased variance", "[state]") {
  context<plain> cx;
  tape<plain> t(cx);
  model<batch_norm<>, shape<2>, double, plain> m;
  double const x[6] = {1, 10, 2, 20, 6, 60};  // channels: 1 2 6 and ten times that
  auto const in = constant<shape<2>>(t, x, 3);
  apply<batch_norm<>>(m.params(), in, {.training = true});
  auto const* s = m.state().values;
  CHECK(s[0] == Approx(0.1 * 3));
  CHECK(s[1] == Approx(0.1 * 30));
  CHECK(s[16] == Approx(0.9 + 0.1 * 7));  // 14 / 2, not 14 / 3
  CHECK(s[17] == Approx(0.9 + 0.1 * 700));
  apply<batch_norm<>>(m.params(), in, {.training = true});
  CHECK(s[0] == Approx(0.9 * 0.3 + 0.1 * 3));
  CHECK(m.state().counters[0] == 2);
}

TEST_CASE("evaluation reads the running statistics and moves nothing", "[state]") {
  trial<plain_net, float> a;
  a.pass({.training = true});
  auto const before = a.state();
  a.pass({});
  CHECK(a.state() == before);
  CHECK(a.count() == 1);
  auto const first = a.y;
  a.m.state().values[0] += 0.5f;
  a.pass({});
  CHECK(a.y != first);
}

TEST_CASE("frozen weights in training mode: statistics drift, a fixed state does not", "[state]") {
  trial<plain_net, float> a;
  auto const start = a.state();
  std::vector<float> const w(a.m.w(), a.m.w() + a.m.size);
  a.pass({.training = true}, true, false);
  CHECK(a.state() != start);
  CHECK(a.count() == 1);
  CHECK(std::equal(w.begin(), w.end(), a.m.w()));
  auto const drifted = a.state();
  auto const y = apply<plain_net>(a.m.frozen_params(),
                                  constant<input>(a.t, static_cast<float const*>(a.x.data()), batch),
                                  {.training = true});
  CHECK(std::equal(a.y.begin(), a.y.end(), y.out.value));  // statistics of the batch all the same
  CHECK(a.state() == drifted);
  CHECK(a.count() == 1);
}

TEST_CASE("a pass without gradients in training mode moves the statistics as well", "[state]") {
  trial<plain_net, float> a, b;
  a.pass({.training = true});
  std::vector<float> y(a.y.size());
  infer<plain_net, input>(b.cx, b.t.memory(), b.m.params(), static_cast<float const*>(b.x.data()), batch,
                          y.data(), {.training = true});
  CHECK(y == a.y);
  CHECK(b.state() == a.state());
  CHECK(b.count() == 1);
}

TEST_CASE("recomputation updates the state once and changes no bit of the gradient", "[state]") {
  trial<plain_net, float> whole;
  trial<thrifty_net, float> thrifty;
  for (bool training : {true, false}) {
    whole.pass({.training = training}), thrifty.pass({.training = training});
    CHECK(thrifty.y == whole.y);
    CHECK(thrifty.state() == whole.state());
    CHECK(thrifty.count() == 1);
    CHECK(thrifty.gradient() == whole.gradient());
  }
  STATIC_REQUIRE(program<thrifty_net, input>::training.activations <
                 program<plain_net, input>::training.activations);
}

TEST_CASE("the gradient behind the pooled norm takes the memory of its input", "[state]") {
  using net = seq<conv, batch_norm_pool<activation::relu>>;
  constexpr auto const& p = program<net, shape<1, 16, 16, 16>>::training;
  STATIC_REQUIRE(p.v[1].at == p.v[1].gradient);
  using shared = seq<conv, tap<0>, batch_norm_pool<activation::relu>>;  // somebody else reads x
  constexpr auto const& q = program<shared, shape<1, 16, 16, 16>>::training;
  STATIC_REQUIRE(q.v[1].at != q.v[1].gradient);
}

TEST_CASE("two ranks with parts of the batch are one rank with the whole: outputs, gradients, state",
          "[state]") {
  trial<thrifty_net, double> whole;
  whole.pass({.training = true});
  index_t const size = program<thrifty_net, input>::out.size();
  std::vector<double> gradient(whole.gradient().size()), y(whole.y.size());
  std::vector<double> state[2];
  std::mutex one_at_a_time;
  support::threads_as_ranks ranks(2);
  ranks.run([&](int rank, rank_group const& group) {
    context<cpu> cx(1);
    model<thrifty_net, input, double> m;
    m.initialise(3);
    tape<cpu> t(cx);
    index_t const first = rank == 0 ? 0 : 1, count = rank == 0 ? 1 : 2;
    auto const x =
        constant<input>(t, static_cast<double const*>(whole.x.data()) + first * input::size, count);
    auto const out = apply<thrifty_net>(m.params(), x, {.training = true, .ranks = group}).out;
    auto const g = random_vector<double>(batch * size, 2);
    for (index_t i = 0; i < out.size(); ++i) out.grad[i] += g[std::size_t(first * size + i)];
    std::copy_n(out.value, out.size(), y.begin() + first * size);  // the backward pass uses its memory
    t.backward();
    std::lock_guard const lock(one_at_a_time);
    for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] += m.g()[i];
    state[rank].assign(m.state().values, m.state().values + program<thrifty_net, input>::states);
  });
  CHECK(relative_error(y, whole.y) < 1e-13);
  CHECK(relative_error(gradient, whole.gradient()) < 1e-12);
  CHECK(relative_error(state[0], whole.state()) < 1e-13);
  CHECK(state[1] == state[0]);
}

TEST_CASE("evaluation without a state is refused with advice", "[state]") {
  trial<plain_net, float> a;
  try {
    apply<plain_net>(weights<float>{a.m.w()},
                     constant<input>(a.t, static_cast<float const*>(a.x.data()), batch));
    FAIL("no error");
  } catch (error const& e) {
    CHECK_THAT(e.what(), Catch::Contains("batch_norm_pool: evaluation needs running statistics"));
  }
}
