// SPDX-License-Identifier: Apache-2.0
// The masked autoencoder against golden numbers in double precision (docs/papers/neuro_simclr.md, masked autoencoder).
#include "insula/zoo/mae.hpp"

#include "insula/autograd/apply.hpp"
#include "insula/cpu.hpp"
#include "insula/loss/masked_patches.hpp"
#include "insula/plain.hpp"
#include "insula/ssl/token_masking.hpp"
#include "support/catch.hpp"
#include "support/fill.hpp"

using namespace insula;
using support::fill;

namespace {

struct narrow_encoder : vit::options {
  static constexpr int width = 24, depth = 2, heads = 3;
  static constexpr extent volume{10, 8, 8}, patch{5, 4, 4};
};
struct narrow : mae::options<narrow_encoder> {
  static constexpr int decoder_width = 16, decoder_depth = 1, decoder_heads = 4;
};
using net = mae::autoencoder<narrow>;
using input = vit::input<narrow>;
constexpr index_t batch = 2;

/// All tensors but the tables, numbered in the order of their names.
template <class T>
void fill_weights(std::vector<tensor_place> places, T* weights) {
  initialise(places, weights, {1, 2});  // the tables
  std::erase_if(places, [](auto const& t) { return t.name.ends_with("pos_embed"); });
  std::sort(places.begin(), places.end(), [](auto const& a, auto const& b) { return a.name < b.name; });
  REQUIRE(places.size() == 48);
  for (std::size_t k = 0; k < places.size(); ++k) {
    auto const& t = places[k];
    bool const token = t.name.ends_with("token"), norm = t.name.find("norm") != std::string::npos;
    double const rows = double(t.shape.n[0]), matrix = std::sqrt(6 / (rows + double(t.size()) / rows));
    double const a = token ? 0.02 : t.shape.rank >= 2 ? matrix : 0.1;
    auto const disk = fill<double>(std::uint32_t(2000 + k), std::size_t(t.size()), a,
                                   norm && t.name.ends_with("weight") ? 1 : 0);
    from_disk(t, disk.data(), weights);
  }
}

token_masks golden_masks() {
  auto const noise = fill<double>(4, 16, 0.5, 0.5);
  token_masks masks(8, tokens_kept(8, 0.75), batch);
  for (index_t n = 0; n < batch; ++n) masks.set(n, noise.data() + 8 * n);
  return masks;
}

struct norm_row {
  char const* name;
  double norm;
};
constexpr norm_row gradients[] = {
    {"cls_token", 0.6759498058},
    {"mask_token", 0.1132624877},
    {"patch_embed.proj.weight", 0.0749636072},
    {"blocks.0.attn.qkv.weight", 0.0892563334},
    {"blocks.1.mlp.fc2.bias", 0.0175360844},
    {"decoder_pred.bias", 0.1325993054},
};

/// `digits` is the tolerance of values that the table gives with nine decimals.
template <class T, class B>
void golden_pass(double digits, double relative) {
  context<B> cx;
  model<net, input, T, B> m;
  fill_weights(m.places(), m.w());
  auto const x = fill<T>(3, batch * input::size);
  auto const masks = golden_masks();

  tape<B> t(cx);
  using encoder = mae::masked_encoder<narrow>;
  auto const latent = apply_without_gradient<encoder>(
      static_cast<T const*>(m.w()), constant<input>(t, x.data(), batch), {.order = masks.order()});
  double const l[] = {-1.611713649, -0.116262061, 1.093722534, -0.560645198};
  for (int i = 0; i < 4; ++i) CHECK(std::abs(double(latent.value[i]) - l[i]) < digits);
  double sum = 0;
  for (index_t i = 0; i < latent.size(); ++i) sum += double(latent.value[i]);
  CHECK(std::abs(sum - 1.182958342) < 10 * digits);
  t.clear();

  auto const volume = constant<input>(t, x.data(), batch);
  auto const y = apply<net>(m.params(), volume, {.order = masks.order()});
  double const p[] = {0.315091110, 0.221661725, 0.319889638};
  for (int i = 0; i < 3; ++i) CHECK(std::abs(double(y.out.value[i]) - p[i]) < digits);
  CHECK(std::abs(double(y.out.value[y.out.size() - 1]) + 0.107610689) < digits);
  sum = 0;
  for (index_t i = 0; i < y.out.size(); ++i) sum += double(y.out.value[i]);
  CHECK(std::abs(sum + 37.039608294) < 10 * digits);

  auto constant_out = y.out;
  constant_out.grad = nullptr;
  double const normalised =
      masked_patches<narrow::patch>(constant_out, volume, masks.masked(), patch_target::normalised);
  CHECK(std::abs(normalised / 1.3271335109 - 1) < relative);
  double const raw = masked_patches<narrow::patch>(y.out, volume, masks.masked());
  CHECK(std::abs(raw / 0.6842206714 - 1) < relative);

  t.backward();
  int found = 0;
  for (auto const& place : m.places())
    for (auto const& row : gradients) {
      if (place.name != row.name) continue;
      ++found;
      double squares = 0;
      for (index_t i = 0; i < place.size(); ++i) squares += std::pow(double(m.g()[place.offset + i]), 2);
      INFO(row.name);
      CHECK(std::abs(std::sqrt(squares) / row.norm - 1) < 3 * relative);
    }
  CHECK(found == 6);
}

}  // namespace

TEST_CASE("the filler gives the published numbers") {
  auto const a = fill<float>(1, 4), b = fill<float>(7, 3);
  double const first[] = {0.1467952, 0.1767875, 0.4082675, 0.8555259},
               second[] = {-0.05675941, 0.94473535, -0.05637561};
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(a[i] - first[i]) < 1e-7);
  for (std::size_t i = 0; i < 3; ++i) CHECK(std::abs(b[i] - second[i]) < 1e-8);
}

TEST_CASE("masks and orders of tokens are the published ones") {
  auto const masks = golden_masks();
  CHECK(masks.kept() == 2);
  std::string mask;
  for (int i = 0; i < 16; ++i) mask += char('0' + masks.masked()[i]);
  CHECK(mask == "1111001110111110");
  int const restore[] = {2, 4, 6, 3, 1, 0, 7, 5};
  for (int i = 0; i < 8; ++i) CHECK(masks.order().restore[i] == restore[i]);
}

TEST_CASE("tables of positions have the published numbers") {
  auto const near = [](double a, double b, double by) { return std::abs(a - b) < by; };
  auto const small = [](index_t width, index_t row, index_t i) {
    return position_table<cube(2), position_axes::zyx>(make_dims(1, 9, width), row * width + i);
  };
  double const row1[] = {0.841470957, 0.099833414, 0.009999833, 0.001000000};
  for (int i = 0; i < 4; ++i) CHECK(near(small(24, 2, 16 + i), row1[i], 6e-10));
  double const row7[] = {0.841470957, 0.046399225, 0.002154433, 0.540302277, 0.998923004, 0.999997675};
  for (int i = 0; i < 16; ++i) CHECK(near(small(16, 8, i), row7[i % 6], 6e-10));
  for (int i = 0; i < 24; ++i) CHECK(small(24, 0, i) == 0);

  extent const full{6, 12, 12};  // before they are rounded to float
  index_t const token = (3 * 12 + 5) * 12 + 7;
  int const entry[] = {0, 1, 32, 64, 65, 96, 128, 129, 160};
  // entry 129 is sin(7 * 10000^(-1/32)); the list that the others come from has 0.85930347, a misprinted digit
  double const value[] = {0.14112001, 0.77827252, -0.98999250, -0.95892427, -0.57112720,
                          0.28366219, 0.65698660, -0.85931347, 0.75390225};
  for (int i = 0; i < 9; ++i)
    CHECK(near(sine_cosine(full, position_axes::zyx, 192, token, entry[i]), value[i], 6e-9));
  auto const sum = [full](index_t width) {
    double s = 0;
    for (index_t t = 0; t < full.size(); ++t)
      for (index_t c = 0; c < width; ++c) s += sine_cosine(full, position_axes::zyx, width, t, c);
    return s;
  };
  CHECK(near(sum(512), 210603.341330, 1e-6));
  CHECK(near(sum(1024), 425195.898915, 1e-6));
}

TEST_CASE("the masked autoencoder reproduces the golden numbers in double, on both backends") {
  golden_pass<double, plain>(6e-10, 1e-9);
  golden_pass<double, cpu>(6e-10, 1e-9);
}

TEST_CASE("the masked autoencoder reproduces the golden numbers in float") {
  golden_pass<float, cpu>(1e-5, 1e-5);
}
