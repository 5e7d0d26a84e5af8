// SPDX-License-Identifier: Apache-2.0
// Published checkpoints into the networks of the zoo, from torch and safetensors files alike.
#include "insula/train/published_weights.hpp"

#include "insula/net/model.hpp"
#include "insula/zoo/neuro_simclr.hpp"
#include "insula/zoo/published_order.hpp"
#include "insula/zoo/umbra.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/torch_bytes.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

struct tiny : umbra::small {
  static constexpr int window = 3;
  static constexpr int decoder_width = 8;
  static constexpr int crop = 32;
};
using autoencoder = model<umbra::autoencoder<tiny>, umbra::crop<tiny>>;
using encoder = model<umbra::encoder<tiny>, umbra::crop<tiny>>;

/// A torch file in the making: a state dict of named tensors, each with a storage of its own.
struct torch_file {
  support::pickle_writer pickle;
  support::torch_storages storages;

  void value(std::string_view type, std::vector<index_t> const& shape, std::string bytes, index_t count) {
    std::vector<std::int64_t> stride(shape.size());
    index_t dense = 1;
    for (std::size_t a = shape.size(); a-- > 0; dense *= shape[a]) stride[a] = dense;
    auto const key = std::to_string(storages.size());
    pickle.tensor(type, key, count, 0, {shape.begin(), shape.end()}, stride);
    storages.emplace_back(key, std::move(bytes));
  }
  void add(std::string const& name, std::string_view type, std::vector<index_t> const& shape,
           std::string bytes, index_t count) {
    pickle.text(name);
    value(type, shape, std::move(bytes), count);
  }
  /// The tensors of a range in their published names, shapes and layouts.
  void add(std::vector<tensor_place> const& places, float const* range, std::string const& prefix) {
    for (auto const& t : places) {
      std::vector<float> disk(std::size_t(t.size()));
      to_disk(t, range, disk.data());
      add(prefix + t.name, "FloatStorage", shape_of(t), support::raw(disk), t.size());
    }
  }
};

/// What Lightning writes for UMBRA's combined mode: queue, autoencoder, momentum copies, projections, index tables, and
/// around them what a trainer keeps.
std::string lightning(autoencoder& m, encoder& momentum, std::string const& prefix = "model.") {
  torch_file f;
  f.pickle.put("}(")
      .text("epoch")
      .integer(7)
      .text("pytorch-lightning_version")
      .text("2.4.0")
      .text("state_dict");
  f.pickle.begin_ordered_dict();
  f.add("queue", "FloatStorage", {8, 4}, std::string(128, '\0'), 32);
  f.add("queue_ptr", "LongStorage", {1}, std::string(8, '\0'), 1);
  f.add("queue_metadata", "LongStorage", {4, 2}, std::string(64, '\0'), 8);
  f.add(m.places(), m.w(), prefix);
  for (std::string const stage : {"layers1", "layers2"})
    f.add(prefix + "encoder." + stage + ".0.blocks.0.attn.relative_position_index", "LongStorage", {2, 2},
          std::string(32, '\0'), 4);
  auto bare = momentum.places();
  for (auto& t : bare) t.name = t.name.substr(std::string("encoder.").size());
  f.add(bare, momentum.w(), "encoder_m.");
  f.add("encoder_m.layers1.0.blocks.0.attn.relative_position_index", "LongStorage", {2, 2},
        std::string(32, '\0'), 4);
  for (std::string const part : {"projection.2.", "projection_m.2."})
    f.add(part + "bias", "FloatStorage", {2}, std::string(8, '\0'), 2);
  f.pickle.put("u")
      .text("optimizer_states")
      .put("]}")
      .text("state")
      .put("}")
      .integer(0)
      .put("}")
      .text("exp_avg");
  f.value("FloatStorage", {1}, std::string(4, '\0'), 1);
  f.pickle.put("sssa");
  f.pickle.text("callbacks").global("pytorch_lightning.callbacks", "ModelCheckpoint").put(")\x81}b").put("u");
  return support::torch_zip(f.pickle.stop(), f.storages);
}

/// A checkpoint of 3D-Neuro-SimCLR: model_state_dict of encoder and projector, Adam's state by number, the epoch.
template <class Network>
std::string simclr(Network& m, std::string const& prefix) {
  torch_file f;
  f.pickle.put("}(").text("epoch").integer(100).text("model_state_dict").begin_ordered_dict();
  for (auto const& t : published_order(m.all_places())) {
    if (t.kind == tensor_kind::weight)
      f.add({t}, m.w(), prefix);
    else if (t.kind == tensor_kind::state)
      f.add({t}, m.state().values, prefix);
    else
      f.add(prefix + t.name, "LongStorage", {}, support::raw(m.state().counters[t.offset]), 1);
  }
  f.pickle.put("u")
      .text("optimizer_state_dict")
      .put("}")
      .text("state")
      .put("}")
      .integer(0)
      .put("}")
      .text("exp_avg");
  f.value("FloatStorage", {1}, std::string(4, '\0'), 1);
  f.pickle.put("sssu");
  return support::torch_zip(f.pickle.stop(), f.storages);
}

/// Every tensor of `places` is the same in two ranges.
void check_equal(std::vector<tensor_place> const& places, float const* got, float const* wanted) {
  for (auto const& t : places)
    for (index_t i = t.offset; i < t.offset + t.size(); ++i)
      if (got[i] != wanted[i]) FAIL(t.name << " differs at " << i - t.offset);
}

}  // namespace

TEST_CASE(
    "a checkpoint of UMBRA fills the autoencoder, its encoder, and the momentum copy, from torch and "
    "safetensors") {
  support::folder const dir;
  autoencoder published;
  encoder momentum;
  published.initialise(1), momentum.initialise(2);
  write_file(dir / "umbra.ckpt", lightning(published, momentum));
  {
    weights_file const torch(dir / "umbra.ckpt");
    safetensors_writer w;
    for (auto const& t : torch.tensors()) add_copy(w, torch, t, t.name);
    w.write(dir / "umbra.safetensors");
  }
  std::string reports[2];
  int k = 0;
  for (auto const* name : {"umbra.ckpt", "umbra.safetensors"}) {
    weights_file const file(dir / name);
    autoencoder whole;
    auto const m = load_tensors(file, whole.places(), whole.w(), "", umbra_checkpoint());
    CHECK(m.complete());
    CHECK(m.stripped == "model.");
    CHECK(m.matched.size() == whole.places().size());
    check_equal(whole.places(), whole.w(), published.w());

    encoder alone;
    auto const part = load_tensors(file, alone.places(), alone.w(), "", umbra_checkpoint());
    CHECK(part.matched.size() == alone.places().size());
    check_equal(alone.places(), alone.w(), published.w());

    encoder copy;
    load_tensors(file, copy.places(), copy.w(), "encoder_m.", umbra_momentum_encoder());
    check_equal(copy.places(), copy.w(), momentum.w());

    mapping_options everything = umbra_checkpoint();
    everything.ignored.clear(), everything.strict = false;
    autoencoder again;
    reports[k++] = load_tensors(file, again.places(), again.w(), "", everything).summary();
  }
  CHECK(reports[0] == reports[1]);
  CHECK_THAT(reports[0], Contains("missing 0"));
}

TEST_CASE("what a checkpoint of UMBRA lacks is reported, and nothing is written") {
  support::folder const dir;
  autoencoder published, fresh;
  encoder momentum;
  published.initialise(1), momentum.initialise(2), fresh.initialise(3);
  auto const before = std::vector<float>(fresh.w(), fresh.w() + autoencoder::size);
  auto bytes = lightning(published, momentum);
  std::string const name = "model.encoder.layers1.0.blocks.0.norm1.weight";
  bytes.replace(bytes.find(name), name.size(), "model.encoder.layers1.0.blocks.0.morn1.weight");
  write_file(dir / "other.ckpt", bytes);
  weights_file const file(dir / "other.ckpt");
  auto const said =
      message_of([&] { load_tensors(file, fresh.places(), fresh.w(), "", umbra_checkpoint()); });
  CHECK_THAT(said, Contains("other.ckpt") && Contains("missing 1, unexpected 1") &&
                       Contains("nearest: 'encoder.layers1.0.blocks.0.morn1.weight'"));
  CHECK(std::vector<float>(fresh.w(), fresh.w() + autoencoder::size) == before);
}

TEST_CASE("distributed and compiled training put known prefixes in front") {
  support::folder const dir;
  autoencoder published;
  encoder momentum;
  published.initialise(1), momentum.initialise(2);
  for (std::string const prefix : {"module.model.", "model._orig_mod."}) {
    write_file(dir / "x.ckpt", lightning(published, momentum, prefix));
    weights_file const file(dir / "x.ckpt");
    encoder alone;
    auto options = umbra_checkpoint();
    auto const m = load_tensors(file, alone.places(), alone.w(), "", options);
    CHECK(m.stripped == prefix);
    check_equal(alone.places(), alone.w(), published.w());
  }
}

TEST_CASE("a checkpoint of 3D-Neuro-SimCLR fills the encoder's 123 tensors, statistics and counters too") {
  using options = neuro_simclr::small;
  using volume = neuro_simclr::volume<options>;
  model<neuro_simclr::network<options>, volume> published(false);
  published.initialise(1);
  for (auto const& t : published.all_places()) {
    if (t.kind == tensor_kind::counter) published.state().counters[t.offset] = 1000 + t.offset;
    if (t.kind != tensor_kind::state) continue;
    for (index_t i = 0; i < t.size(); ++i) published.state().values[t.offset + i] = float(t.offset + i) / 64;
  }
  support::folder const dir;
  auto const distributed = simclr(published, "module.");
  write_file(dir / "checkpoint_100.tar", distributed);
  write_file(dir / "release.tar",
             support::tar_bytes({{"release/", ""}, {"release/checkpoint_100.tar", distributed}}));
  write_file(dir / "plain.pt", simclr(published, ""));
  mapping_options const names{.prefixes = {"module."}, .ignored = {"projector."}};
  auto const without = [&](std::vector<std::string> endings) {
    auto n = names;
    n.ignored_endings = std::move(endings);
    return n;
  };
  model<neuro_simclr::encoder<options>, volume> encoder(false);
  auto const all = encoder.all_places();
  std::vector<named_shape> wanted;
  for (auto const& t : all) wanted.push_back({t.name, shape_of(t)});
  for (auto const* name : {"checkpoint_100.tar", "release.tar", "plain.pt"}) {
    INFO(name);
    weights_file const file(dir / name);
    CHECK(file.pytorch()->section() == "model_state_dict");
    auto const m = map_names(wanted, named_shapes(file.tensors()), file.path(), names);
    CHECK(m.complete());
    CHECK(m.matched.size() == 123);
    CHECK(m.ignored.size() == 2);

    encoder.initialise(9);
    auto const trained = tensors_of(all, tensor_kind::weight), kept = tensors_of(all, tensor_kind::state);
    load_tensors(file, trained, encoder.w(), "",
                 without({"running_mean", "running_var", "num_batches_tracked"}));
    load_tensors(file, kept, encoder.state().values, "",
                 without({".weight", ".bias", "num_batches_tracked"}));
    for (auto const& t : tensors_of(all, tensor_kind::counter))
      restore_values(file, m.stripped + t.name,
                     std::span<std::int64_t>(encoder.state().counters + t.offset, 1));
    check_equal(trained, encoder.w(), published.w());
    check_equal(kept, encoder.state().values, published.state().values);
    for (auto const& t : tensors_of(all, tensor_kind::counter))
      CHECK(encoder.state().counters[t.offset] == 1000 + t.offset);
  }
  auto cut = distributed;
  std::string const gone = "module.encoder.conv1.weight";
  cut.replace(cut.find(gone), gone.size(), "module.encoder.conv0.weight");
  write_file(dir / "cut.tar", cut);
  weights_file const lacking(dir / "cut.tar");
  CHECK_THAT(message_of([&] { map_names(wanted, named_shapes(lacking.tensors()), lacking.path(), names); }),
             Contains("missing 1, unexpected 1") && Contains("'encoder.conv1.weight'"));
}
