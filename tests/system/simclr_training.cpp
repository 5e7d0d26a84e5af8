// SPDX-License-Identifier: Apache-2.0
// Training SimCLR: the loss falls, runs do not depend on threads or interruptions, and the encoder goes on with a new head.
#include "insula/io/weights_file.hpp"
#include "insula/train/run.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/tiny_simclr.hpp"

using namespace insula;
using support::tiny_simclr;
using support::tiny_simclr_core;

namespace {

run_options options_of(std::string const& out, index_t steps) {
  run_options o;
  o.out = out;
  o.loop.steps = steps, o.loop.checkpoint_every = 2, o.loop.log_every = 1, o.loop.log_times = false;
  o.events = false, o.console.quiet = true;
  return o;
}
int train(std::string const& out, int threads, index_t steps) {
  tiny_simclr s(threads);
  return run_training(s, options_of(out, steps));
}
std::string final_bytes(std::string const& out) { return read_file(out + "/checkpoints/last.safetensors"); }

pair_batch<float> views(pretraining_batch& b, index_t i) {
  support::make_views(i, b);
  return {b.pairs, b.view1.data(), b.view2.data()};
}

struct wider : support::tiny_simclr_options {
  static constexpr int widths[4] = {4, 8, 8, 24};
};

}  // namespace

TEST_CASE("NT-Xent learns to tell subjects apart", "[system]") {
  tiny_simclr s(2);
  double first = 0, last = 0;
  for (index_t t = 0; t < 40; ++t) {
    double const loss = s.train_step(t).find("train/loss")->value;
    if (t < 4) first += loss / 4;
    if (t >= 36) last += loss / 4;
  }
  CHECK(last < 0.6 * first);
}

TEST_CASE("1, 2 and 3 threads give the same SimCLR run, bit for bit", "[system]") {
  std::vector<float> one;
  for (int threads = 1; threads <= 3; ++threads) {
    tiny_simclr s(threads);
    for (index_t t = 0; t < 3; ++t) s.train_step(t);
    if (threads == 1) one = s.numbers();
    CHECK(s.numbers() == one);
  }
}

TEST_CASE("a step moves the state twice per micro-batch, evaluation and embedding never", "[system]") {
  tiny_simclr s(1, 3);
  s.train_step(0);
  CHECK(s.core().state().counters[0] == 6);
  auto const before = s.numbers();
  pretraining_batch b;
  double const a = s.core().evaluate(views(b, 5));
  CHECK(a == s.core().evaluate(views(b, 5)));
  std::vector<float> h(std::size_t(3 * tiny_simclr_core::embedding_width));
  s.core().embed(b.view1.data(), 3, h.data());
  CHECK(std::isfinite(h[0]));
  CHECK(s.numbers() == before);
}

TEST_CASE("gradients of micro-batches add up with their scale", "[system]") {
  tiny_simclr s;
  pretraining_batch b;
  auto const gradient = [&](double scale) {
    s.core().clear_gradients();
    s.core().micro_batch(views(b, 1), scale);
    return std::vector<float>(s.core().g(), s.core().g() + tiny_simclr_core::size);
  };
  auto const whole = gradient(1), half = gradient(0.5);
  for (std::size_t i = 0; i < whole.size(); ++i) REQUIRE(half[i] == 0.5f * whole[i]);
}

TEST_CASE("a resumed SimCLR run is bit-identical: weights, running statistics, counters, moments",
          "[system]") {
  support::folder const dir;
  REQUIRE(train(dir.path() + "/whole", 1, 5) == 0);
  REQUIRE(train(dir.path() + "/halves", 2, 3) == 0);
  REQUIRE(train(dir.path() + "/halves", 1, 5) == 0);
  CHECK(final_bytes(dir.path() + "/whole") == final_bytes(dir.path() + "/halves"));
  safetensors_file const file(dir.path() + "/whole/checkpoints/last.safetensors");
  CHECK(file.at("encoder.layer2.0.downsample.1.num_batches_tracked").type == dtype::i64);
  CHECK(file.at("encoder.layer2.0.downsample.1.num_batches_tracked").shape.empty());
  CHECK(file.read<float>("encoder.bn1.running_var").size() == 4);
  CHECK(file.at("projector.2.weight").shape == std::vector<index_t>{8, 16});
}

TEST_CASE("a pretrained encoder, state included, goes on with a new head", "[system]") {
  support::folder const dir;
  REQUIRE(train(dir.path() + "/run", 1, 2) == 0);
  safetensors_file const file(dir.path() + "/run/checkpoints/last.safetensors");
  using net = neuro_simclr::downstream<support::tiny_simclr_options>;
  model<net, support::tiny_simclr_volume> m;
  m.initialise(8);
  std::vector<float> const head(m.w() + m.size - 32, m.w() + m.size);
  auto const r = load_network(file, m.all_places(), m.w(), m.state(), "", pretrained_encoder());
  CHECK(r.matched.size() == m.all_places().size() - 2);
  CHECK(std::equal(head.begin(), head.end(), m.w() + m.size - 32));
  CHECK(m.state().counters[0] == 4);
  weights_file const either(file.path());  // files of torch.save come this way
  model<net, support::tiny_simclr_volume> again;
  (void)load_network(either, again.all_places(), again.w(), again.state(), "", pretrained_encoder());
  CHECK(std::equal(again.w(), again.w() + again.size - 32, m.w()));
  CHECK(again.state().counters[0] == 4);
  auto const mean = file.read<float>("encoder.bn1.running_mean");
  CHECK(std::equal(mean.begin(), mean.end(), m.state().values));

  model<neuro_simclr::downstream<wider>, support::tiny_simclr_volume> other;
  CHECK_THROWS_WITH(
      load_network(file, other.all_places(), other.w(), other.state(), "", pretrained_encoder()),
      Catch::Contains("encoder.layer4.0.bn1.running_mean"));
}
