// SPDX-License-Identifier: Apache-2.0
// The micro-batch of contrast and masking: its terms, what it changes, and validation without changes.
#include "insula/ssl/contrastive_masked.hpp"

#include <algorithm>

#include "insula/plain.hpp"
#include "insula/testing/compare.hpp"
#include "insula/zoo/umbra.hpp"
#include "support/catch.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

struct tiny : umbra::paper {
  static constexpr int features = 8, window = 2, norm_groups = 4, decoder_width = 8;
  static constexpr int depths[4] = {2, 2, 2, 2}, heads[4] = {1, 2, 2, 4};
  static constexpr int projection_hidden = 8, projection_width = 4, queue_length = 16;
};
using input = shape<1, 32, 32, 32>;
using system_type = contrastive_masked<umbra::autoencoder<tiny>, umbra::encoder<tiny>,
                                       umbra::projection<tiny>, input, tiny::queue_length, float, plain>;

struct trial {
  context<plain> cx;
  system_type system;
  std::vector<float> a = random_vector<float>(input::size, 1), b = random_vector<float>(input::size, 2);
  std::int64_t patient = 3, session = 1;
  pair_batch<float> pairs{1, a.data(), b.data(), a.data(), b.data(), &patient, &session};
  single_batch<float> singles{1, a.data(), a.data()};

  explicit trial(objectives on = {}) : system(cx, on, {.input = cube(32)}, 1) {
    system.initialise(5);
    fill_queue();
  }
  void fill_queue() {  // keys of patients 7 and 3: the first are negatives, the second never
    if (!system.on().contrastive) return;
    auto keys = random_vector<float>(8 * system_type::width, 3);
    std::vector<std::int64_t> who{7, 7, 3, 7, 7, 3, 3, 7};
    system.keys().push(8, keys.data(), who.data(), who.data());
  }
};

}  // namespace

TEST_CASE("validation gives the losses of the training pass before any update", "[ssl]") {
  trial t;
  auto const expected = t.system.evaluate(t.pairs, t.singles, 0.5, {1, 2});
  t.system.clear_gradients();
  auto const l = t.system.micro_batch(t.pairs, t.singles, 0.5, 1, {1, 2});
  CHECK(std::abs(l.contrastive - expected.contrastive) < 1e-6);
  CHECK(std::abs(l.masked_pairs - expected.masked_pairs) < 1e-6);
  CHECK(std::abs(l.masked_single - expected.masked_single) < 1e-6);
  CHECK(std::abs(l.total - (0.5 * l.contrastive + l.masked_pairs + l.masked_single)) < 1e-12);
  CHECK(l.negatives == 5);
}

TEST_CASE("validation changes neither queue nor momentum copy nor gradients", "[ssl]") {
  trial t;
  t.system.clear_gradients();
  std::vector<float> const momentum(t.system.momentum().data(),
                                    t.system.momentum().data() + t.system.momentum().size());
  (void)t.system.evaluate(t.pairs, t.singles, 1, {1, 2});
  CHECK(t.system.keys().filled() == 8);
  CHECK(std::equal(momentum.begin(), momentum.end(), t.system.momentum().data()));
  CHECK(std::all_of(t.system.g(), t.system.g() + system_type::size, [](float g) { return g == 0; }));
}

TEST_CASE("a micro-batch enqueues both keys and moves the momentum copy", "[ssl]") {
  trial t;
  t.system.w()[0] += 1;
  float const before = t.system.momentum().data()[0];
  (void)t.system.micro_batch(t.pairs, {}, 1, 0.75, {1, 2});
  CHECK(t.system.keys().filled() == 10);
  CHECK(std::abs(t.system.momentum().data()[0] - (before + 0.25f)) < 1e-6f);
}

TEST_CASE("contrast alone leaves decoder, head and mask token without gradient", "[ssl]") {
  trial t({.contrastive = true, .masked = false});
  t.system.clear_gradients();
  auto const l = t.system.micro_batch(t.pairs, {}, 0.1, 0.9, {1, 2});
  CHECK(l.total == l.contrastive);
  for (auto const& place : t.system.autoencoder_places()) {
    bool const reached = !place.name.starts_with("feats_decoder") && !place.name.starts_with("head") &&
                         !place.name.ends_with("mask_token");
    INFO(place.name);
    float const* g = t.system.g() + place.offset;
    bool const any = std::any_of(g, g + place.size(), [](float v) { return v != 0; });
    CHECK(any == reached);
  }
}

TEST_CASE("masking alone needs no queue", "[ssl]") {
  trial t({.contrastive = false, .masked = true});
  t.system.clear_gradients();
  auto const l = t.system.micro_batch({}, t.singles, 1, 1, {1, 2});
  CHECK(l.total == l.masked_single);
  CHECK(std::isnan(l.contrastive));
}
