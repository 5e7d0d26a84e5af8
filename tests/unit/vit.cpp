// SPDX-License-Identifier: Apache-2.0
// Vision transformers and masked autoencoders: parameters, names and their order, starts, kept tokens, images.
#include "insula/autograd/apply.hpp"
#include "insula/cpu.hpp"
#include "insula/plain.hpp"
#include "insula/ssl/token_masking.hpp"
#include "insula/testing/compare.hpp"
#include "insula/zoo/mae.hpp"
#include "insula/zoo/published_order.hpp"
#include "support/catch.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

struct counted {
  index_t trained = 0, frozen = 0;
};
template <class Net, class In>
counted count() {
  counted c;
  for (auto const& t : parameters<Net, In>()) (t.frozen ? c.frozen : c.trained) += t.size();
  return c;
}
template <class O>
void check_counts(index_t encoder, index_t trained, index_t frozen, index_t classifier) {
  using in = vit::input<O>;
  CHECK(count<vit::encoder<O>, in>().trained == encoder);
  auto const all = count<mae::autoencoder<mae::options<O>>, in>();
  CHECK(all.trained == trained);
  CHECK(all.frozen == frozen);
  auto const down = count<vit::classifier<O, 1>, in>();
  CHECK(down.trained == classifier);
  CHECK(down.frozen == 0);
  CHECK(count<vit::classifier<O, 1, vit::pooling::class_token>, in>().trained == classifier);
}

using small_net = mae::autoencoder<mae::small>;
using small_in = vit::input<mae::small>;

struct narrow : mae::small {
  static constexpr index_t keep = 10;
};
struct image : vit::options {
  static constexpr int width = 24, depth = 2, heads = 3, channels = 3;
  static constexpr extent volume{1, 28, 42}, patch{1, 14, 14};
  static constexpr bool planar = true;
  static constexpr position_axes axes = position_axes::plane;
};

double spread(tensor_place const& t, std::vector<float> const& w) {
  double s = 0;
  for (index_t i = 0; i < t.size(); ++i) s += std::pow(double(w[std::size_t(t.offset + i)]), 2);
  return std::sqrt(s / double(t.size()));
}

}  // namespace

TEST_CASE("vision transformers have the published numbers of parameters") {
  check_counts<vit::tiny>(6567936, 35170560, 608960, 6734209);
  check_counts<vit::base>(89972736, 118870272, 1107200, 90637825);
  check_counts<vit::large>(308867072, 337895680, 1328640, 309753857);
}

TEST_CASE("tensors of a masked autoencoder have the published names, shapes and order") {
  auto const places = published_order(parameters<small_net, small_in>());
  std::vector<std::string> wanted{"cls_token",
                                  "pos_embed",
                                  "mask_token",
                                  "decoder_pos_embed",
                                  "patch_embed.proj.weight",
                                  "patch_embed.proj.bias"};
  auto const add = [&](std::string const& base, std::initializer_list<char const*> names) {
    for (char const* n : names) wanted.push_back(base + n + ".weight"), wanted.push_back(base + n + ".bias");
  };
  auto const blocks = [&](std::string const& base, int n) {
    for (int i = 0; i < n; ++i)
      add(base + std::to_string(i) + ".", {"norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"});
  };
  blocks("blocks.", 4), add("", {"norm", "decoder_embed"});
  blocks("decoder_blocks.", 2), add("", {"decoder_norm", "decoder_pred"});
  std::vector<std::string> found;
  for (auto const& t : places) found.push_back(t.name);
  CHECK(found == wanted);
  CHECK(places[0].shape == make_dims(1, 1, 96));
  CHECK(places[1].shape == make_dims(1, 101, 96));
  CHECK(places[4].shape == make_dims(96, 1, 8, 8, 8));
  CHECK(places[8].shape == make_dims(288, 96));
  CHECK(places.back().shape == make_dims(512));

  std::vector<std::string> end;
  for (auto const& t : published_order(parameters<vit::classifier<mae::small_encoder, 2>, small_in>()))
    end.push_back(t.name);
  CHECK(std::vector<std::string>(end.end() - 4, end.end()) ==
        std::vector<std::string>{"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"});
}

TEST_CASE("the encoder runs on the first part of the autoencoder's weights") {
  auto const whole = parameters<small_net, small_in>(),
             part = parameters<vit::encoder<mae::small>, small_in>();
  for (std::size_t i = 0; i < part.size(); ++i) {
    CHECK(part[i].name == whole[i].name);
    CHECK(part[i].offset == whole[i].offset);
  }
}

TEST_CASE("a masked autoencoder starts by Xavier's rule, a network from scratch by timm's") {
  auto const near = [](double a, double b) { return std::abs(a / b - 1) < 0.1; };
  model<small_net, small_in> m(false);
  m.initialise(7);
  std::vector<float> w(m.w(), m.w() + m.size);
  for (auto const& t : m.places()) {
    INFO(t.name);
    double const rms = spread(t, w);
    bool const norm = t.name.find("norm") != std::string::npos, bias = t.name.ends_with("bias");
    if (t.name.ends_with("pos_embed"))  // sine and cosine of one angle: 1/2 each, less the empty row
      CHECK(near(rms, std::sqrt(0.5)));
    else if (t.name.ends_with("token"))
      CHECK(std::abs(rms / 0.02 - 1) < 0.3);
    else if (t.name == "patch_embed.proj.bias")
      CHECK(std::abs(rms * std::sqrt(512.0 * 3) - 1) < 0.2);
    else if (norm || bias)
      CHECK(rms == (norm && !bias ? 1.0 : 0.0));
    else
      CHECK(near(rms, std::sqrt(2.0 / double(t.shape.n[0] + t.size() / t.shape.n[0]))));
  }
  CHECK(w[std::size_t(m.places()[3].offset)] == 0.0f);  // the class token has no position

  using scratch_net = vit::classifier<mae::small_encoder, 1>;
  auto const places = vit::timm_start(parameters<scratch_net, small_in>());
  w.assign(std::size_t(program<scratch_net, small_in>::weights), -1.0f);
  initialise(places, w.data(), {7, 1});
  for (auto const& t : places) {
    INFO(t.name);
    double const rms = spread(t, w);
    bool const norm = t.name.find("norm") != std::string::npos, bias = t.name.ends_with("bias");
    if (t.name.find("patch_embed") != std::string::npos)
      CHECK(std::abs(rms * std::sqrt(512.0 * 3) - 1) < 0.2);
    else if (norm || bias)
      CHECK(rms == (norm && !bias ? 1.0 : 0.0));
    else
      CHECK(std::abs(rms / 0.02 - 1) < 0.3);
  }
}

TEST_CASE("keeping fewer tokens than there is room for is the network with less room") {
  context<cpu> cx(2);
  tape<cpu> t(cx);
  model<small_net, small_in> roomy;
  model<mae::autoencoder<narrow>, small_in> tight;
  roomy.initialise(3), tight.initialise(3);
  auto const x = random_vector<float>(2 * small_in::size, 5);
  token_masks masks(100, 10, 2);
  masks.draw({1, 2, 3}, 2);
  auto const step = [&](auto& m) {
    using net = typename std::remove_reference_t<decltype(m)>::net;
    t.clear();
    auto const y = apply<net>(m.params(), constant<small_in>(t, x.data(), 2), {.order = masks.order()}).out;
    for (index_t i = 0; i < y.size(); ++i) y.grad[i] = y.value[i];
    std::vector<float> out(y.value, y.value + y.size());
    t.backward();
    out.insert(out.end(), m.g(), m.g() + m.size);
    std::vector<float> other(std::size_t(y.size()));
    infer<net, small_in>(cx, t.memory(), static_cast<float const*>(m.w()), x.data(), 2, other.data(),
                         {.order = masks.order()});
    out.insert(out.end(), other.begin(), other.end());
    return out;
  };
  CHECK(step(roomy) == step(tight));

  token_masks many(100, 30, 2);
  many.draw({1, 2, 3}, 2);
  t.clear();
  CHECK_THROWS_WITH(
      apply<small_net>(roomy.params(), constant<small_in>(t, x.data(), 2), {.order = many.order()}),
      Catch::Contains("30 tokens") && Catch::Contains("at most 25"));
  t.clear();
  CHECK_THROWS_WITH(
      apply<mae::masked_encoder<mae::small>>(weights<float>{roomy.w()}, constant<small_in>(t, x.data(), 2),
                                             {.order = masks.order()}),
      Catch::Contains("layer_norm") && Catch::Contains("26 tokens"));
  t.clear();
  CHECK_THROWS_WITH(apply<small_net>(roomy.params(), constant<small_in>(t, x.data(), 2)),
                    Catch::Contains("pass_options::order"));
}

TEST_CASE("the same transformer takes images") {
  auto const places = parameters<vit::encoder<image>, vit::input<image>>();
  CHECK(places[0].shape == make_dims(24, 3, 14, 14));
  CHECK(program<vit::encoder<image>, vit::input<image>>::out == make_dims(7, 24));
  // column first: token 1 lies right of token 0, its first half is [sin 1 ...], its second [0 ...]
  CHECK(std::abs(sine_cosine({1, 2, 3}, position_axes::plane, 24, 1, 0) - std::sin(1.0)) < 1e-15);
  CHECK(sine_cosine({1, 2, 3}, position_axes::plane, 24, 1, 12) == 0);
  CHECK(std::abs(sine_cosine({1, 2, 3}, position_axes::plane, 24, 3, 12) - std::sin(1.0)) < 1e-15);
  // MONAI: y, z, x
  CHECK(std::abs(sine_cosine({2, 3, 4}, position_axes::yzx, 12, 4, 0) - std::sin(1.0)) < 1e-15);
  CHECK(std::abs(sine_cosine({2, 3, 4}, position_axes::yzx, 12, 12, 4) - std::sin(1.0)) < 1e-15);
  CHECK(std::abs(sine_cosine({2, 3, 4}, position_axes::yzx, 12, 3, 8) - std::sin(3.0)) < 1e-15);

  context<cpu> cx(1);
  tape<cpu> t(cx);
  model<vit::encoder<image>, vit::input<image>> m;
  m.initialise(1);
  auto const x = random_vector<float>(vit::input<image>::size, 2);
  auto const y = apply<vit::encoder<image>>(m.params(), constant<vit::input<image>>(t, x.data(), 1)).out;
  double sum = 0, squares = 0;  // normalised tokens
  for (index_t i = 0; i < y.size(); ++i) sum += y.value[i], squares += std::pow(y.value[i], 2);
  CHECK(std::abs(sum) < 1e-3);
  CHECK(std::abs(squares / double(y.size()) - 1) < 1e-3);
}

TEST_CASE("a probe learns its head alone, plain or behind a batch norm without weights") {
  context<cpu> cx(1);
  tape<cpu> t(cx);
  auto const x = random_vector<float>(4 * small_in::size, 2);
  auto const learn = [&]<class Net>(Net, std::vector<std::string> const& head) {
    model<Net, small_in> m;
    m.initialise(3);
    std::vector<std::string> learning;
    t.clear();
    auto const y = apply<Net>(m.params(), constant<small_in>(t, x.data(), 4), {.training = true}).out;
    for (index_t i = 0; i < y.size(); ++i) y.grad[i] = float(1 + i % 3);
    t.backward();
    for (auto const& p : m.places()) {
      bool const any =
          std::any_of(m.g() + p.offset, m.g() + p.offset + p.size(), [](float g) { return g != 0; });
      CHECK(any == !p.frozen);
      if (any) learning.push_back(p.name);
    }
    CHECK(learning == head);
    return m.places();
  };
  learn(vit::linear_probe<mae::small_encoder, 2>{}, {"head.weight", "head.bias"});
  auto const places = learn(vit::normalised_probe<mae::small_encoder, 2>{}, {"head.1.weight", "head.1.bias"});
  std::vector<std::string> state;
  for (auto const& p : tensors<vit::normalised_probe<mae::small_encoder, 2>, small_in>())
    if (p.kind != tensor_kind::weight) state.push_back(p.name);
  CHECK(state ==
        std::vector<std::string>{"head.0.running_mean", "head.0.running_var", "head.0.num_batches_tracked"});

  std::vector<float> w(std::size_t(places.back().offset + 64), -1.0f);
  auto const& head = *(places.end() - 2);
  initialise_normal(head, w.data(), 0.01, {1, 2, 3});
  CHECK(std::abs(spread(head, w) / 0.01 - 1) < 0.2);
}

TEST_CASE("drop path rises with depth and only while training") {
  context<plain> cx;
  tape<plain> t(cx);
  using net = vit::classifier<mae::small_encoder, 3>;
  model<net, small_in, float, plain> m(false);
  insula::initialise(vit::timm_start(m.places()), m.w(), {5, 5});
  auto const x = random_vector<float>(small_in::size, 2);
  auto const run = [&](pass_options with) {
    std::vector<float> y(3);
    infer<net, small_in>(cx, t.memory(), static_cast<float const*>(m.w()), x.data(), 1, y.data(), with);
    return y;
  };
  auto const still = run({});
  CHECK(run({.key = {1, 2, 3}, .drop_path = 0.9}) == still);
  CHECK(run({.training = true, .key = {1, 2, 3}}) == still);
  CHECK(run({.training = true, .key = {1, 2, 3}, .drop_path = 0.9}) != still);
  CHECK_THROWS_WITH(run({.training = true, .drop_path = 1.5}), Catch::Contains("drop_path is 1.5"));
}

TEST_CASE("random token masks are functions of key and sample, and permutations") {
  token_masks a(50, 12, 3), b(50, 12, 3);
  a.draw({1, 2, 3}, 3), b.draw({1, 2, 3}, 2);
  CHECK(std::equal(a.masked(), a.masked() + 100, b.masked()));
  CHECK(!std::equal(a.masked(), a.masked() + 50, a.masked() + 50));
  for (int n = 0; n < 3; ++n) {
    int kept = 0;
    for (int l = 0; l < 50; ++l) {
      auto const r = a.order().restore[50 * n + l];
      CHECK(a.order().shuffle[50 * n + r] == l);
      CHECK(a.masked()[50 * n + l] == (r >= 12));
      kept += a.masked()[50 * n + l] == 0;
    }
    CHECK(kept == 12);
  }
  double const ties[] = {0.5, 0.25, 0.5, 0.25};
  token_masks c(4, 3, 1);
  c.set(0, ties);
  std::int32_t const order[] = {1, 3, 0, 2};
  CHECK(std::equal(order, order + 4, c.order().shuffle));
  CHECK(tokens_kept(864, 0.75) == 216);
  CHECK(tokens_kept(864, 0.9) == 86);
  CHECK_THROWS_WITH(token_masks(8, 0, 1), Catch::Contains("0 of 8"));
  CHECK_THROWS_WITH(a.draw({1, 2, 3}, 4), Catch::Contains("4 samples"));
}
