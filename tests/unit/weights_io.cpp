// SPDX-License-Identifier: Apache-2.0
// Weights and moments to files and back: published names and layouts, exactness, reports of what does not fit.
#include "insula/train/weights_io.hpp"
#include "insula/kernels/plain/update.hpp"
#include "insula/optim/adamw.hpp"
#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using insula::testing::random_vector;
using support::message_of;

namespace {

/// All four layouts, with gaps between the tensors as alignment leaves them.
std::vector<tensor_place> places() {
  return {{"block.0.norm.weight", make_dims(7), layout::same, start::ones, 1, 0, false},
          {"block.0.linear.weight", make_dims(6, 11), layout::linear, start::zeros, 11, 16, false},
          {"stem.weight", make_dims(5, 3, 2, 3, 4), layout::conv, start::zeros, 72, 96, true},
          {"up.weight", make_dims(4, 5, 2, 2, 3), layout::conv_transpose, start::zeros, 48, 464, false},
          {"token", make_dims(1, 1, 9), layout::same, start::zeros, 1, 704, false}};
}
constexpr index_t total = 720;

template <class T>
void round_trip() {
  support::folder const dir;
  auto const before = random_vector<T>(total, 5);
  safetensors_writer w;
  add_tensors(w, places(), before.data(), "model.");
  w.write(dir / "w.safetensors");

  safetensors_file const file(dir / "w.safetensors");
  for (auto const& t : places()) {
    auto const& info = file.at("model." + t.name);
    CHECK(info.type == dtype_of<T>());
    CHECK(info.shape == shape_of(t));
    std::vector<T> disk(std::size_t(t.size()));
    to_disk(t, before.data(), disk.data());
    INFO(t.name);
    CHECK(file.read<T>("model." + t.name) == disk);
  }
  std::vector<T> after(std::size_t(total), T(-9));
  restore_tensors(file, places(), after.data(), "model.");
  std::vector<bool> covered(std::size_t(total), false);
  for (auto const& t : places())
    for (index_t i = 0; i < t.size(); ++i) covered[std::size_t(t.offset + i)] = true;
  for (std::size_t i = 0; i < after.size(); ++i) REQUIRE(after[i] == (covered[i] ? before[i] : T(-9)));
}

}  // namespace

TEST_CASE("a float range comes back bit by bit, in published names and layouts") { round_trip<float>(); }
TEST_CASE("a double range comes back bit by bit") { round_trip<double>(); }

TEST_CASE("tensors above one chunk of the writer are laid out as a whole") {
  support::folder const dir;
  std::vector<tensor_place> const big{
      {"w", make_dims(701, 1009), layout::linear, start::zeros, 1009, 0, false},
      {"c", make_dims(37, 41, 3, 5, 7), layout::conv, start::zeros, 1, 707312, false}};
  auto const values = random_vector<float>(707312 + 37 * 41 * 105, 6);
  safetensors_writer w;
  add_tensors(w, big, values.data());
  w.write(dir / "w.safetensors");
  safetensors_file const file(dir / "w.safetensors");
  for (auto const& t : big) {
    std::vector<float> disk(std::size_t(t.size()));
    to_disk(t, values.data(), disk.data());
    CHECK(file.read<float>(t.name) == disk);
  }
}

TEST_CASE("a file of another program loads through known prefixes, and tells what it had") {
  support::folder const dir;
  auto const values = random_vector<float>(total, 7);
  safetensors_writer w;
  add_tensors(w, places(), values.data(), "module.");
  w.write(dir / "w.safetensors");
  safetensors_file const file(dir / "w.safetensors");
  std::vector<float> after(total);
  auto const m = load_tensors(file, places(), after.data());
  CHECK(m.complete());
  CHECK(m.stripped == "module.");
  CHECK(m.matched.size() == places().size());
  CHECK(after[100] == values[100]);
  CHECK_THAT(message_of([&] { restore_tensors(file, places(), after.data(), ""); }), Contains("missing 5"));
}

TEST_CASE("what does not fit is reported by name and nothing is written") {
  support::folder const dir;
  auto const values = random_vector<float>(total, 8);
  auto other = places();
  other[0].name = "block.0.norm.wieght";
  other[1].shape = make_dims(11, 6);
  safetensors_writer w;
  add_tensors(w, other, values.data());
  w.write(dir / "w.safetensors");
  safetensors_file const file(dir / "w.safetensors");
  std::vector<float> after(total, -9.f);
  auto const said = message_of([&] { load_tensors(file, places(), after.data()); });
  CHECK_THAT(said, Contains("missing 1") && Contains("unexpected 1") && Contains("wrong shape 1") &&
                       Contains("'block.0.linear.weight'") && Contains("[6, 11]") && Contains("[11, 6]") &&
                       Contains("nearest: 'block.0.norm.wieght'"));
  CHECK(after == std::vector<float>(total, -9.f));
  mapping_options loose;
  loose.strict = false;
  auto const m = load_tensors(file, places(), after.data(), "", loose);
  CHECK(m.matched.size() == 3);
  CHECK(after[0] == -9.f);
  CHECK(after[96] == values[96]);
}

TEST_CASE("double files load into float only with rounding allowed") {
  support::folder const dir;
  auto const values = random_vector<double>(total, 9);
  safetensors_writer w;
  add_tensors(w, places(), values.data());
  w.write(dir / "w.safetensors");
  safetensors_file const file(dir / "w.safetensors");
  std::vector<float> after(total);
  CHECK_THAT(message_of([&] { load_tensors(file, places(), after.data()); }),
             Contains("without changing it"));
  load_tensors(file, places(), after.data(), "", any_known_prefix(), rounding::nearest);
  CHECK(after[3] == float(values[3]));
}

TEST_CASE("an optimiser goes on exactly where it was") {
  support::folder const dir;
  std::vector<parameter_group> const groups{{0, 400, 0.01, 1}, {400, total - 400, 0, 0.5}};
  context<plain> cx;
  auto const g = random_vector<double>(total, 10);
  auto w1 = random_vector<double>(total, 11);
  adamw<double, plain> first(total, groups);
  for (int i = 0; i < 3; ++i) first.step(cx, g.data(), w1.data(), 0.1);

  safetensors_writer w;
  state_map state;
  add_tensors(w, places(), w1.data(), "model.");
  add_optimizer(w, state, places(), first);
  w.metadata[state_entry] = pack_state(state);
  w.write(dir / "c.safetensors");
  CHECK(state.at("optimizer.steps") == "3,3");

  safetensors_file const file(dir / "c.safetensors");
  CHECK(file.find("optimizer.second_moment.stem.weight") != nullptr);
  auto const loaded = unpack_state(file);
  CHECK(loaded == state);
  adamw<double, plain> second(total, groups);
  std::vector<double> w2(total);
  restore_tensors(file, places(), w2.data(), "model.");
  restore_optimizer(file, loaded, places(), second);
  first.step(cx, g.data(), w1.data(), 0.1), second.step(cx, g.data(), w2.data(), 0.1);
  for (auto const& t : places())
    for (index_t i = t.offset; i < t.offset + t.size(); ++i)
      REQUIRE(w1[std::size_t(i)] == w2[std::size_t(i)]);

  adamw<double, plain> other(total, {groups[0]});
  CHECK_THAT(message_of([&] { restore_optimizer(file, loaded, places(), other); }),
             Contains("2 parameter groups") && Contains("it has 1"));
}

TEST_CASE("other values come back bit by bit, and only into the same type and number") {
  support::folder const dir;
  std::vector<std::int64_t> const ids{-1, std::int64_t(1) << 62, 7};
  safetensors_writer w;
  w.add("ids", {3}, ids.data());
  w.write(dir / "q.safetensors");
  safetensors_file const file(dir / "q.safetensors");
  std::vector<std::int64_t> back(3);
  restore_values<std::int64_t>(file, "ids", back);
  CHECK(back == ids);
  std::vector<std::int64_t> few(2);
  std::vector<double> real(3);
  CHECK_THAT(message_of([&] { restore_values<std::int64_t>(file, "ids", few); }), Contains("wanted are 2"));
  CHECK_THAT(message_of([&] { restore_values<double>(file, "ids", real); }),
             Contains("I64") && Contains("F64"));
}

TEST_CASE("the state keeps numbers exactly and names what is missing or wrong") {
  state_map const state{{"steps", "12"}, {"sum", text(0.1 + 0.2)}, {"name", "\"ü\"\n"}};
  CHECK(state_integer(state, "steps") == 12);
  CHECK(state_number(state, "sum") == 0.1 + 0.2);
  CHECK_THAT(message_of([&] { state_integer(state, "step"); }),
             Contains("'step'") && Contains("nearest is 'steps'"));
  CHECK_THAT(message_of([&] { state_integer(state, "sum"); }), Contains("not an integer"));
  CHECK_THAT(message_of([&] { state_number(state, "name"); }), Contains("not a finite number"));
  CHECK_THAT(message_of([] { pack_state({{"a", "\xff"}}); }), Contains("UTF-8"));

  support::folder const dir;
  safetensors_writer w;
  w.write(dir / "none");
  w.metadata[state_entry] = pack_state(state);
  w.write(dir / "state");
  w.metadata[state_entry] = "[1]";
  w.write(dir / "list");
  w.metadata[state_entry] = R"({"a": 1})";
  w.write(dir / "number");
  CHECK(unpack_state(safetensors_file(dir / "state")) == state);
  CHECK_THAT(message_of([&] { unpack_state(safetensors_file(dir / "none")); }), Contains("weights only"));
  CHECK_THAT(message_of([&] { unpack_state(safetensors_file(dir / "list")); }),
             Contains("not a JSON object"));
  CHECK_THAT(message_of([&] { unpack_state(safetensors_file(dir / "number")); }), Contains("'a'"));
}
