// SPDX-License-Identifier: Apache-2.0
// The micro-batch of a masked autoencoder, its embeddings and pictures; schedules and groups of its training.
#include <algorithm>

#include "insula/optim/layer_decay.hpp"
#include "insula/plain.hpp"
#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/tiny_mae.hpp"

using namespace insula;
using namespace insula::testing;
using support::tiny_volume;
using core = support::tiny_mae_core<plain>;

namespace {

struct trial {
  context<plain> cx;
  core system;
  std::vector<float> x = random_vector<float>(3 * tiny_volume::size, 1);
  explicit trial(masked_autoencoder_options o = {}) : system(cx, 3, o) { system.initialise(5); }
  std::vector<float> gradient(index_t batch, random_key key, double scale = 1) {
    system.clear_gradients();
    (void)system.micro_batch(x.data(), batch, key, scale);
    return {system.g(), system.g() + core::size};
  }
};

std::vector<float> patches_of(float const* volume) {
  context<plain> cx;
  auto y = poisoned<float>(tiny_volume::size);
  run<op::patchify, plain, float>(
      cx, {core::geometry, core::geometry.patches(), nullptr, volume, false, y.data()});
  return y;
}

}  // namespace

TEST_CASE("validation gives the loss of the training pass and no gradients", "[ssl]") {
  for (auto target : {patch_target::raw, patch_target::normalised}) {
    trial t({.target = target});
    double const expected = t.system.evaluate(t.x.data(), 3, {1, 2});
    CHECK(std::all_of(t.system.g(), t.system.g() + core::size, [](float g) { return g == 0; }));
    CHECK(t.system.micro_batch(t.x.data(), 3, {1, 2}) == expected);
    CHECK(std::any_of(t.system.g(), t.system.g() + core::size, [](float g) { return g != 0; }));
  }
}

TEST_CASE("gradients accumulate with their scale; a smaller batch is that batch", "[ssl]") {
  trial t;
  auto const whole = t.gradient(3, {1, 2});
  t.system.clear_gradients();
  (void)t.system.micro_batch(t.x.data(), 3, {1, 2}, 0.25);
  (void)t.system.micro_batch(t.x.data(), 3, {1, 2}, 0.75);
  CHECK(relative_error(std::vector<float>(t.system.g(), t.system.g() + core::size), whole) < 1e-6);

  trial one;
  core alone(one.cx, 1);
  alone.initialise(5);
  alone.clear_gradients();
  (void)alone.micro_batch(one.x.data(), 1, {1, 2});
  CHECK(one.gradient(1, {1, 2}) == std::vector<float>(alone.g(), alone.g() + core::size));
}

TEST_CASE("the tables of positions get no gradient, every other tensor does", "[ssl]") {
  trial t;
  auto const g = t.gradient(3, {1, 2});
  for (auto const& p : core::places()) {
    INFO(p.name);
    bool const any =
        std::any_of(g.begin() + p.offset, g.begin() + p.offset + p.size(), [](float v) { return v != 0; });
    CHECK(any == !p.name.ends_with("pos_embed"));
    CHECK(p.frozen == p.name.ends_with("pos_embed"));
  }
}

TEST_CASE("the loss looks at masked patches only, and the encoder at kept ones only", "[ssl]") {
  trial t;
  double const before = t.system.evaluate(t.x.data(), 1, {1, 2});
  std::vector<std::uint8_t> const mask(t.system.masks().masked(), t.system.masks().masked() + 18);
  auto changed = patches_of(t.x.data());
  for (index_t p = 0; p < 18; ++p)
    for (index_t i = 0; i < 64 && mask[std::size_t(p)]; ++i) changed[std::size_t(64 * p + i)] += 3;
  std::vector<float> volume(tiny_volume::size);
  run<op::unpatchify, plain, float>(t.cx,
                                    {core::geometry, 18, nullptr, changed.data(), false, volume.data()});
  scratch_stack memory;
  auto const seen = [&](float const* x) {  // what the decoder makes of the kept tokens
    std::vector<float> y(tiny_volume::size);
    infer<mae::autoencoder<support::tiny_mae_options>, tiny_volume>(
        t.cx, memory, static_cast<float const*>(t.system.w()), x, 1, y.data(),
        {.order = t.system.masks().order()});
    return y;
  };
  CHECK(t.system.evaluate(volume.data(), 1, {1, 2}) != before);
  CHECK(seen(volume.data()) == seen(t.x.data()));
}

TEST_CASE("pictures keep what was seen; normalised predictions come back in the patch's own scale", "[ssl]") {
  for (auto target : {patch_target::raw, patch_target::normalised}) {
    trial t({.target = target});
    for (auto& v : t.x) v = 100 + 10 * v;
    std::vector<float> out(std::size_t(3 * tiny_volume::size));
    t.system.reconstruct(t.x.data(), 3, {1, 2}, out.data());
    for (index_t n = 0; n < 3; ++n) {
      auto const a = patches_of(t.x.data() + n * tiny_volume::size),
                 b = patches_of(out.data() + n * tiny_volume::size);
      for (std::size_t p = 0; p < 18; ++p) {
        bool const same =
            std::equal(a.begin() + long(64 * p), a.begin() + long(64 * (p + 1)), b.begin() + long(64 * p));
        CHECK(same == (t.system.masks().masked()[std::size_t(n) * 18 + p] == 0));
        double mean = 0;
        for (std::size_t i = 0; i < 64; ++i) mean += double(b[64 * p + i]) / 64;
        if (target == patch_target::normalised) CHECK(std::abs(mean - 100) < 30);
      }
    }
  }
}

TEST_CASE("an embedding is the class token or the mean of the patch tokens of a whole volume", "[ssl]") {
  trial t;
  using encoder = vit::encoder<support::tiny_mae_options>;
  index_t const width = core::embedding_width, all = 19;
  std::vector<float> f(std::size_t(3 * all * width)), a(std::size_t(3 * width)), b(a.size());
  scratch_stack memory;
  infer<encoder, tiny_volume>(t.cx, memory, static_cast<float const*>(t.system.w()), t.x.data(), 3, f.data());
  t.system.embed(t.x.data(), 3, a.data());
  t.system.embed(t.x.data(), 3, b.data(), token_feature::mean);
  for (index_t n = 0; n < 3; ++n)
    for (index_t c = 0; c < width; ++c) {
      double mean = 0;
      for (index_t p = 1; p < all; ++p) mean += double(f[std::size_t((n * all + p) * width + c)]) / 18;
      CHECK(a[std::size_t(n * width + c)] == f[std::size_t(n * all * width + c)]);
      CHECK(std::abs(double(b[std::size_t(n * width + c)]) - mean) < 1e-6);
    }
}

TEST_CASE("wrong settings of a masked autoencoder are told", "[ssl]") {
  context<plain> cx;
  CHECK_THROWS_WITH(core(cx, 2, {.mask_ratio = 0.5}), Catch::Contains("mask_ratio 0.5") &&
                                                          Catch::Contains("9 of 18") &&
                                                          Catch::Contains("at most 6"));
  CHECK_THROWS_WITH(core(cx, 2, {.mask_ratio = 1}), Catch::Contains("mask_ratio is 1"));
  CHECK_THROWS_WITH(core(cx, 2, {.mask_ratio = 0.99}), Catch::Contains("0 of 18"));
  trial t;
  CHECK_THROWS_WITH(t.system.micro_batch(t.x.data(), 4, {1, 2}), Catch::Contains("4 samples"));
  support::tiny_mae s(1, 2);
  auto const wrong = [&](masked_autoencoder_training o) {
    masked_autoencoder_trainer<support::tiny_mae_core<>>(s.core(), o, {});
  };
  CHECK_THROWS_WITH(wrong({.accumulate = 0}), Catch::Contains("accumulate is 0"));
  CHECK_THROWS_WITH(wrong({.rate = {.peak = 1, .warm_up = 40, .epochs = 20}}), Catch::Contains("warm_up 40"));
}

TEST_CASE("training follows the published schedule by epochs", "[optim]") {
  masked_autoencoder_training o;
  o.steps_per_epoch = 146;
  CHECK(o.steps() == 21900);
  CHECK(o.rate.at_step(0, 146) == 0);
  CHECK(std::abs(o.rate.at_step(73, 146) - 0.5 * 1.875e-6) < 1e-20);
  CHECK(std::abs(o.rate.at_step(146 * 149, 146) / 1.52927689e-8 - 1) < 5e-9);
  CHECK(std::abs(rate_of_batch(1.5e-4, 128) / o.rate.peak - 1) < 1e-15);
}

TEST_CASE("decay spares vectors and biases but not class and mask token; rates fall with depth", "[optim]") {
  auto const settings = [](std::vector<parameter_group> const& groups, tensor_place const& t) {
    for (auto const& g : groups)
      if (t.offset >= g.offset && t.offset + t.size() <= g.offset + g.size)
        return group_settings{g.decay, g.rate_scale};
    return group_settings{-1, -1};
  };
  auto const pretraining = decay_matrices(core::places(), 0.05);
  for (auto const& t : core::places()) {
    INFO(t.name);
    double const decay = settings(pretraining, t).decay;
    CHECK(decay == (t.name.ends_with("pos_embed") ? -1 : t.shape.rank > 1 ? 0.05 : 0));
  }
  using net = vit::classifier<support::tiny_encoder, 1>;
  auto const places = parameters<net, tiny_volume>();
  auto const tuning = layer_decay(places, 2, 0.75, 0.05);
  int seen = 0;
  for (auto const& t : places) {
    auto const s = settings(tuning, t);
    bool const start = t.name == "cls_token" || t.name == "pos_embed" || t.name.starts_with("patch_embed");
    double const scale = start                             ? 0.421875
                         : t.name.starts_with("blocks.0.") ? 0.5625
                         : t.name.starts_with("blocks.1.") ? 0.75
                                                           : 1;
    INFO(t.name);
    CHECK(std::abs(s.rate_scale - scale) < 1e-15);
    CHECK(s.decay == (t.shape.rank == 1 || t.name == "cls_token" || t.name == "pos_embed" ? 0 : 0.05));
    ++seen;
  }
  CHECK(seen == 32);
  CHECK_THROWS_WITH(layer_decay(places, 1, 0.75, 0.05),
                    Catch::Contains("blocks.1.") && Catch::Contains("1 blocks"));
}

TEST_CASE("a checkpoint fills a classifier and a probed encoder", "[train]") {
  support::folder const dir;
  support::tiny_mae s(1, 2);
  safetensors_writer w;
  state_map state;
  s.save(w, state);
  auto const path = dir / "mae.safetensors";
  w.write(path);
  safetensors_file const file(path);
  using net = vit::classifier<support::tiny_encoder, 1>;
  using probe = vit::class_feature<support::tiny_encoder>;
  auto const check_filled = [&](auto places, index_t size, token_feature feature, std::size_t fresh) {
    std::vector<float> weights(std::size_t(size), 7.0f);
    auto const m = load_tensors(file, places, weights.data(), "model.", from_masked_autoencoder(feature));
    CHECK(m.complete());
    CHECK(m.missing.size() == fresh);
    auto const own = support::tiny_mae_core<>::places();
    for (auto const& t : places) {
      auto const from = std::find_if(own.begin(), own.end(), [&](auto const& o) { return o.name == t.name; });
      bool const kept = from != own.end() && t.name.find("fc_norm") == std::string::npos;
      INFO(t.name);
      if (kept)
        CHECK(std::equal(weights.begin() + t.offset, weights.begin() + t.offset + t.size(),
                         s.core().w() + from->offset));
      else
        CHECK(weights[std::size_t(t.offset)] == 7.0f);
    }
  };
  check_filled(parameters<net, tiny_volume>(), program<net, tiny_volume>::weights, token_feature::mean, 4);
  check_filled(parameters<probe, tiny_volume>(), program<probe, tiny_volume>::weights,
               token_feature::class_token, 0);
}
