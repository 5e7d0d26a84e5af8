// SPDX-License-Identifier: Apache-2.0
// Mapping the tensors of a file to those of a model.
#include "insula/io/mapping.hpp"

#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

std::vector<named_shape> const model{{"stem.weight", {32, 1, 3, 3, 3}},
                                     {"stem.bias", {32}},
                                     {"blocks.0.attn.qkv.weight", {96, 32}},
                                     {"head.weight", {2, 32}}};

std::vector<named_shape> prefixed(std::string const& prefix, std::vector<named_shape> v = model) {
  for (auto& t : v) t.name = prefix + t.name;
  return v;
}
mapping_options lenient() { return {.strict = false}; }

}  // namespace

TEST_CASE("equal names match, in any order of the file") {
  auto file = model;
  std::reverse(file.begin(), file.end());
  auto const m = map_names(model, file, "f");
  CHECK(m.complete());
  REQUIRE(m.matched.size() == 4);
  for (auto const& [w, s] : m.matched) CHECK(m.wanted[w].name == m.source[s].name);
  CHECK(m.stripped.empty());
  CHECK(m.report() == "matched 4, missing 0, unexpected 0, wrong shape 0, ambiguous 0\n");
}

TEST_CASE("known prefixes are removed, also several, where that makes names match") {
  for (auto const* prefix : {"module.", "model.", "_orig_mod.", "teacher.backbone.",
                             "state_dict.module.encoder.", "module._orig_mod.model.encoder."}) {
    auto const m = map_names(model, prefixed(prefix), "f");
    CHECK(m.stripped == prefix);
    CHECK(m.matched.size() == 4);
  }
}

TEST_CASE("a prefix that the model itself has stays") {
  auto const m = map_names(prefixed("encoder."), prefixed("module.encoder."), "f");
  CHECK(m.stripped == "module.");
  CHECK(m.complete());
  CHECK(map_names(prefixed("encoder."), prefixed("encoder."), "f").stripped.empty());
}

TEST_CASE("a file of teacher and student gives one of them and reports the other") {
  auto file = prefixed("student.");
  for (auto& t : prefixed("teacher.")) file.push_back(t);
  file.push_back({"teacher.extra", {1}});
  auto options = lenient();
  auto m = map_names(model, file, "f", options);
  CHECK(m.matched.size() == 4);
  CHECK(m.unexpected.size() == 5);
  CHECK((m.stripped == "teacher." || m.stripped == "student."));
  options.renames = {{"teacher.", ""}};
  m = map_names(model, file, "f", options);
  CHECK(m.stripped.empty());
  CHECK(m.matched.size() == 4);
  for (auto const& [w, s] : m.matched) CHECK(m.source[s].name == "teacher." + m.wanted[w].name);
  options.ignored = {"student.", "extra"};
  options.strict = true;
  CHECK(map_names(model, file, "f", options).ignored.size() == 5);
}

TEST_CASE("unknown prefixes stay, and the report shows the nearest names") {
  auto const message = message_of([] { map_names(model, prefixed("trunk."), "weights.safetensors"); });
  CHECK_THAT(message,
             Contains("weights.safetensors does not fit the model: matched 0, missing 4, unexpected 4"));
  CHECK_THAT(message, Contains("'blocks.0.attn.qkv.weight'  [96, 32]") &&
                          Contains("nearest: 'trunk.blocks.0.attn.qkv.weight' [96, 32]"));
  CHECK_THAT(message, Contains("allow an incomplete load"));
  auto const m = map_names(model, prefixed("trunk."), "f", {.renames = {{"trunk.", ""}}});
  CHECK(m.complete());
  CHECK(m.renamed[0] == "stem.weight");
}

TEST_CASE("rename rules apply in order, an empty one adds a prefix, and one that fits nothing is reported") {
  auto const m = map_names(prefixed("a.b."), model, "f", {.renames = {{"", "b."}, {"b.", "a.b."}}});
  CHECK(m.complete());
  CHECK_THAT(message_of([] {
               map_names(model, model, "f", {.renames = {{"sten.", "stem."}}});
             }),
             Contains("'sten.' -> 'stem.' fits no name"));
}

TEST_CASE("wrong shapes, missing and unexpected tensors are told apart") {
  std::vector<named_shape> const file{{"module.stem.weight", {32, 4, 3, 3, 3}},
                                      {"module.stem.bias", {32}},
                                      {"module.blocks.0.attn.qkv.weight", {96, 32}},
                                      {"module.fc.weight", {1000, 32}}};
  auto const m = map_names(model, file, "f", lenient());
  REQUIRE(m.matched.size() == 2);
  REQUIRE(m.wrong_shape.size() == 1);
  CHECK(m.wrong_shape[0].wanted == 0);
  CHECK(m.wrong_shape[0].source == 0);
  REQUIRE(m.missing.size() == 1);
  CHECK(m.missing[0].wanted == 3);
  CHECK(m.missing[0].candidates == std::vector<std::size_t>{3});
  CHECK(m.unexpected == std::vector<std::size_t>{3});
  auto const report = m.report();
  CHECK_THAT(report, Contains("removed the prefix 'module.'"));
  CHECK_THAT(report, Contains("'stem.weight'  model [32, 1, 3, 3, 3]  file [32, 4, 3, 3, 3]  (in the file: "
                              "'module.stem.weight')"));
  CHECK_THAT(
      report,
      Contains("missing in the file (1):\n  'head.weight'  [2, 32]  nearest: 'fc.weight' [1000, 32]\n"));

  auto const fits = map_names(model, {file.begin() + 1, file.end()}, "f",
                              {.ignored = {"fc."}, .optional = {"head.", "stem.weight"}});
  CHECK(fits.complete());
  CHECK(fits.missing.size() == 2);
  CHECK(fits.ignored == std::vector<std::size_t>{2});
  CHECK(map_names(model, {file.begin() + 1, file.end()}, "f",
                  {.ignored_endings = {"fc.weight"}, .optional = {"head.", "stem.weight"}})
            .ignored == std::vector<std::size_t>{2});
}

TEST_CASE("two tensors of the file that become one name are reported, never picked from") {
  std::vector<named_shape> file = prefixed("module.");
  file.push_back({"stem.bias", {32}});
  auto const m = map_names(model, file, "f", lenient());
  REQUIRE(m.ambiguous.size() == 1);
  CHECK(m.ambiguous[0].sources.size() == 2);
  CHECK(m.matched.size() == 3);
  CHECK_THAT(message_of([&] { map_names(model, file, "f"); }),
             Contains("'stem.bias'  could be 'module.stem.bias', 'stem.bias'"));
  CHECK_THAT(message_of([] { map_names({{"a", {}}, {"a", {}}}, {}, "f"); }), Contains("'a' twice"));
}

TEST_CASE("large lists are cut in the report and mapped quickly") {
  std::vector<named_shape> want, have;
  for (int i = 0; i < 1500; ++i) {
    want.push_back({text("layers.", i, ".attention.output.dense.weight"), {i, 3}});
    have.push_back({text("stages.", i, ".attention.output.dense.weight"), {i, 3}});
  }
  auto const m = map_names(want, have, "f", lenient());
  CHECK(m.missing.size() == 1500);
  for (std::size_t i = 0; i < 1500; ++i)
    if (m.missing[i].candidates.front() != i) FAIL("layer " << i << " has another nearest tensor");
  CHECK_THAT(m.report(5), Contains("... and 1495 more"));
}
