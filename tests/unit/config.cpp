// SPDX-License-Identifier: Apache-2.0
// Run configuration: files, overrides, messages, printing and saving.
#include "insula/io/fixed_settings.hpp"

#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using Catch::Matchers::Equals;
using support::message_of;

namespace {

struct settings {
  index_t batch = 8;
  int threads = 2;
  std::uint64_t seed = 42;
  double rate = 1e-4;
  float drop = 0.1f;
  bool mixed = true;
  std::string model = "swin", data, note = "a \"quoted\"\n\x7f line";
  std::vector<index_t> crop{96, 96, 96};
  std::vector<double> betas{0.9, 0.999};
  std::vector<std::string> contrasts{"t1", "flair"};

  config declare() {
    config c("pretrain", "Pretrains an encoder.");
    c.add("train.batch", batch, "samples per step", {.at_least = 1, .at_most = 4096});
    c.add("train.threads", threads, "worker threads", {.at_least = 1});
    c.add("seed", seed, "of all random numbers");
    c.add("optim.lr", rate, "peak learning rate", {.above = 0, .at_most = 1});
    c.add("model.drop", drop, "drop path rate", {.at_least = 0, .below = 1});
    c.add("train.mixed", mixed, "bf16 products");
    c.add("model.kind", model, "architecture", {.choices = {"swin", "unet", "vit"}});
    c.add("data.path", data, "manifest", {.required = true});
    c.add("note", note, "free text");
    c.add("data.crop", crop, "crop in voxels", {.at_least = 1, .length = 3});
    c.add("optim.betas", betas, "decay of the moments", {.at_least = 0, .below = 1, .length = 2});
    c.add("data.contrasts", contrasts, "sequences to use");
    return c;
  }
};

config_request run(config& c, std::vector<char const*> args) {
  args.insert(args.begin(), "pretrain");
  return c.arguments(int(args.size()), args.data());
}

}  // namespace

TEST_CASE("a TOML file fills the variables") {
  support::folder const dir;
  write_file(dir / "run.toml",
             "seed = 18446744073709551\nnote = 'x'\n[train]\nbatch = 16\nmixed = false\n"
             "[optim]\nlr = 1\nbetas = [0, 0.95]\n[data]\npath = \"m.tsv\"\ncrop = [64,\n 64, 32]\ncontrasts "
             "= []\n");
  settings s;
  auto c = s.declare();
  c.load(dir / "run.toml");
  CHECK(s.seed == 18446744073709551u);
  CHECK(s.note == "x");
  CHECK(s.batch == 16);
  CHECK_FALSE(s.mixed);
  CHECK(s.rate == 1.0);
  CHECK(s.betas == std::vector<double>{0, 0.95});
  CHECK(s.data == "m.tsv");
  CHECK(s.crop == std::vector<index_t>{64, 64, 32});
  CHECK(s.contrasts.empty());
  CHECK(s.threads == 2);
  CHECK(c.origin("train.batch") == dir / "run.toml:4");
  CHECK(c.origin("train.threads") == "default");
  CHECK(c.get<index_t>("train.batch") == 16);
  CHECK_THAT(message_of([&] { (void)c.get<double>("train.batch"); }),
             Contains("is an integer, not a number"));
  CHECK_THAT(message_of([&] { (void)c.get<double>("train.bach"); }), Contains("did you mean 'train.batch'"));
}

TEST_CASE("a JSON file does the same, with lines") {
  support::folder const dir;
  write_file(dir / "run.json",
             "{\n \"train\": {\n  \"batch\": 1.6e1,\n  \"mixed\": false},\n \"data\": {\"crop\": [1,\n 2,\n "
             "3]}, \"train2\": 1}");
  settings s;
  auto c = s.declare();
  auto const message = message_of([&] { c.load(dir / "run.json"); });
  CHECK_THAT(message, Contains("run.json:7: 'train2' is not a setting; did you mean 'train"));
  CHECK(s.batch == 16);
  CHECK_FALSE(s.mixed);
  CHECK(s.crop == std::vector<index_t>{1, 2, 3});
  CHECK(c.origin("train.batch") == dir / "run.json:3");
  CHECK(c.origin("data.crop") == dir / "run.json:5");
}

TEST_CASE("all problems of a file are reported at once, with lines and suggestions") {
  support::folder const dir;
  write_file(
      dir / "run.toml",
      "sead = 1\n[train]\nbatch = \"many\"\nthreads = 2.5\nmixed = 1\n[optim]\nlr = -1\nbetas = [0.9, 1.0]\n"
      "[model]\nkind = \"unett\"\n[data]\ncrop = [1, 2]\ncontrasts = \"t1\"\n[optm]\n[lr]\nx = 1\n");
  settings s;
  auto c = s.declare();
  auto const message = message_of([&] { c.load(dir / "run.toml"); });
  CHECK_THAT(message, Contains("11 problems in the configuration of pretrain"));
  CHECK_THAT(message, Contains(":1: 'sead' is not a setting; did you mean 'seed'?"));
  CHECK_THAT(message, Contains(":3: 'train.batch': wants an integer, got the string 'many'"));
  CHECK_THAT(message, Contains(":4: 'train.threads': wants an integer, got '2.5'"));
  CHECK_THAT(message, Contains(":5: 'train.mixed': wants true or false, got '1'"));
  CHECK_THAT(message, Contains(":7: 'optim.lr': -1 is not above 0"));
  CHECK_THAT(message, Contains(":8: 'optim.betas': 1 is not below 1"));
  CHECK_THAT(message,
             Contains(":10: 'model.kind': 'unett' is not one of swin, unet, vit; did you mean 'unet'?"));
  CHECK_THAT(message, Contains(":12: 'data.crop': has 2 elements, wanted are 3"));
  CHECK_THAT(message, Contains(":13: 'data.contrasts': wants a list of strings, got the string 't1'"));
  CHECK_THAT(message, Contains(":14: 'optm' is not a setting"));
  CHECK_THAT(message, Contains(":16: 'lr.x' is not a setting"));
  settings const untouched;
  CHECK(s.batch == untouched.batch);
  CHECK(s.betas == untouched.betas);
}

TEST_CASE("broken and unsuitable files are refused with their line") {
  support::folder const dir;
  auto const problem = [&](std::string const& name, std::string const& source) {
    write_file(dir / name, source);
    settings s;
    auto c = s.declare();
    return message_of([&] { c.load(dir / name); });
  };
  CHECK_THAT(problem("a.toml", "seed = 1\nnote = \n"), Contains("a.toml:2: not valid TOML"));
  CHECK_THAT(problem("b.toml", "seed = 1\nseed = 2\n"), Contains("b.toml:2"));
  CHECK_THAT(problem("c.toml", "note = 2024-01-01\n"), Contains("c.toml:1") && Contains("date"));
  CHECK_THAT(problem("d.toml", "[data]\ncrop = [[1], [2]]\n"), Contains("d.toml:2") && Contains("not lists"));
  CHECK_THAT(problem("e.toml", "[[data]]\npath = 'x'\n"), Contains("not tables"));
  CHECK_THAT(problem("f.toml", "\"train.batch\" = 1\n[train]\nbatch = 2\n"), Contains("set twice"));
  CHECK_THAT(problem("g.toml", "[optim]\nlr = nan\n"), Contains("wants a number"));
  CHECK_THAT(problem("a.json", "{\n\"seed\": 1,\n}"), Contains("a.json:3: not valid JSON"));
  CHECK_THAT(problem("b.json", "{\"seed\": 1,\n\"seed\": 2}"),
             Contains("b.json:2: the key 'seed' occurs twice"));
  CHECK_THAT(problem("c.json", "{\"seed\": null}"), Contains("c.json:1: 'seed' is null"));
  CHECK_THAT(problem("d.json", "[1]"), Contains("d.json:1: the file must hold an object"));
  CHECK_THAT(problem("e.json", "3"), Contains("e.json:1: the file must hold an object"));
  CHECK_THAT(problem("f.json", "{\"data\": {\"crop\": [1, [2]]}}"), Contains("'data.crop': lists hold"));
  CHECK_THAT(problem("g.json", "{\"data\": {\"crop\": [{}]}}"), Contains("'data.crop': lists hold"));
  CHECK_THAT(problem("h.json", "{\"train\": {\"threads\": 3000000000}}"),
             Contains("wants an integer, got '3000000000'"));
  CHECK_THAT(problem("i.json", "{\"seed\": -1}"), Contains("wants an integer, got '-1'"));
  CHECK_THAT(problem("j.json", "{\"train\": 3}"), Contains("'train' is a group"));
  CHECK_THAT(problem("k.json", "{\"seed\": {\"x\": 3}}"),
             Contains("'seed' is an integer and has no setting 'seed.x'"));
  CHECK(problem("l.json", "{\"train\": {}}").empty());
  std::string deep;
  for (int i = 0; i < 10'000; ++i) deep += "{\"a\":";
  CHECK_THAT(problem("m.json", deep), Contains("32 deep"));
  CHECK_THAT(problem("run.yaml", "seed: 1"), Contains("named .toml or .json"));
  settings s;
  auto c = s.declare();
  CHECK_THAT(message_of([&] { c.load(dir / "none.toml"); }), Contains("No such file"));
}

TEST_CASE("overrides are read by the type of their setting and win over files") {
  support::folder const dir;
  write_file(dir / "run.toml", "[optim]\nlr = 0.5\n[train]\nbatch = 2\n");
  settings s;
  auto c = s.declare();
  auto const file = dir / "run.toml";
  CHECK(run(c, {"optim.lr=+3e-4", "--config", file.c_str(), "--data.path=/data/my set=1.tsv",
                "data.crop=[8, 9,10]", "train.mixed=false", "data.contrasts=t1, dwi", "optim.betas=0.5,0.25",
                "seed=18446744073709551615", "note=01"}) == config_request::run);
  CHECK(s.rate == 3e-4);
  CHECK(s.batch == 2);
  CHECK(s.data == "/data/my set=1.tsv");
  CHECK(s.crop == std::vector<index_t>{8, 9, 10});
  CHECK_FALSE(s.mixed);
  CHECK(s.contrasts == std::vector<std::string>{"t1", "dwi"});
  CHECK(s.betas == std::vector<double>{0.5, 0.25});
  CHECK(s.seed == ~std::uint64_t{0});
  CHECK(s.note == "01");
  CHECK(c.origin("optim.lr") == "command line");
  c.set("note=\"tab\\there\"");
  CHECK(s.note == "tab\there");
  c.set("data.contrasts=[\"a,b\", \"c\"]");
  CHECK(s.contrasts == std::vector<std::string>{"a,b", "c"});
  c.set("data.contrasts=");
  CHECK(s.contrasts.empty());
  c.set("train.batch=1e2");
  CHECK(s.batch == 100);
}

TEST_CASE("wrong overrides name the key and what is meant") {
  settings s;
  auto c = s.declare();
  auto const wrong = [&](char const* o) { return message_of([&] { c.set(o); }); };
  CHECK_THAT(wrong("lr=1"), Equals("command line: 'lr' is not a setting; did you mean 'optim.lr'?"));
  CHECK_THAT(wrong("optim.rl=1"), Contains("did you mean 'optim.lr'"));
  CHECK_THAT(wrong("optim=1"), Contains("'optim' is a group"));
  CHECK_THAT(wrong("optim.lr=2"), Contains("2 is above the greatest value 1"));
  CHECK_THAT(wrong("train.batch=0"), Contains("0 is below the least value 1"));
  CHECK_THAT(wrong("train.batch=8 9"), Contains("wants an integer, got the string '8 9'"));
  CHECK_THAT(wrong("train.batch="), Contains("wants an integer, got the string ''"));
  CHECK_THAT(wrong("optim.lr=inf"), Contains("wants a number"));
  CHECK_THAT(wrong("model.drop=1e-50x"), Contains("wants a number"));
  CHECK_THAT(wrong("train.mixed=maybe"), Contains("wants true or false"));
  CHECK_THAT(wrong("data.crop=1,x,3"), Contains("wants a list of integers"));
  CHECK_THAT(wrong("data.crop=1,2,0"), Contains("0 is below"));
  CHECK_THAT(wrong("note=\xff"), Contains("UTF-8"));
  CHECK_THAT(wrong("batch"), Contains("not of the form key=value"));
  CHECK_THAT(message_of([&] { run(c, {"--verbose"}); }),
             Contains("'--verbose' is not known") && Contains("--help"));
  CHECK_THAT(message_of([&] { run(c, {"--config"}); }), Contains("needs a file name"));
  CHECK(s.batch == 8);
}

TEST_CASE("required settings must be given before a run, not for help or printing") {
  settings s;
  auto c = s.declare();
  CHECK_THAT(message_of([&] { run(c, {}); }), Contains("'data.path' (manifest) must be given"));
  CHECK(run(c, {"--help", "nonsense"}) == config_request::help);
  CHECK(run(c, {"--print-config", "train.batch=3"}) == config_request::print);
  CHECK(s.batch == 3);
  CHECK(run(c, {"data.path="}) == config_request::run);
}

TEST_CASE("the help lists every setting with default, kind and range") {
  settings s;
  auto const help = s.declare().help();
  CHECK_THAT(help, Contains("usage: pretrain [--config FILE]") && Contains("Pretrains an encoder."));
  CHECK_THAT(help, Contains("train.batch = 8\n      samples per step [an integer, >= 1, <= 4096]"));
  CHECK_THAT(help, Contains("model.kind = \"swin\"\n      architecture [a string: swin | unet | vit]"));
  CHECK_THAT(help, Contains("data.path = (required)"));
  CHECK_THAT(help, Contains("optim.lr = 0.0001") && Contains("> 0, <= 1"));
}

TEST_CASE("the resolved configuration loads back to the same values, as TOML and as JSON") {
  support::folder const dir;
  settings s;
  auto c = s.declare();
  c.set("optim.lr=0.30000000000000004");
  c.set("model.drop=0.3");
  c.set("data.path=\"gr\u00fc\u00dfe \\\\ 'x' \\u0001\"");
  c.set("data.contrasts=[\"a,b\", \"]\"]");
  c.set("seed=9223372036854775807");
  c.save(dir.path());
  CHECK(dir.list() == std::vector<std::string>{"config.resolved.json", "config.resolved.toml"});
  CHECK(read_file(dir / "config.resolved.toml") == c.toml());
  for (auto const* name : {"config.resolved.json", "config.resolved.toml"}) {
    INFO(name);
    settings t;
    t.note = t.data = "other", t.contrasts = {}, t.crop = {1, 1, 1};
    auto d = t.declare();
    d.load(dir / name);
    CHECK(d.json() == c.json());
    CHECK(t.rate == s.rate);
    CHECK(t.drop == s.drop);
    CHECK(t.note == s.note);
    CHECK(t.data == s.data);
    CHECK(t.seed == s.seed);
    CHECK(t.contrasts == s.contrasts);
  }
  CHECK_THAT(c.toml(), Contains("# peak learning rate (command line)\nlr = 0.30000000000000004\n"));
  CHECK_THAT(c.toml(), Contains("drop = 0.3"));
}

TEST_CASE("a resumed run is held to every setting that changes its numbers, and to no other") {
  struct run_settings {
    double rate = 1e-4, decay = 0.01;
    index_t steps = 10, log_every = 5;
    std::vector<index_t> crop{96, 96, 96};
    std::string model = "small";
    config declare() {
      config c("pretrain");
      c.add("optim.rate", rate, "peak learning rate");
      c.add("optim.decay", decay, "weight decay");
      c.add("steps", steps, "optimiser steps");
      c.add("log_every", log_every, "steps between rows", {.may_change = true});
      c.add("crop", crop, "voxels");
      c.add("model", model, "network");
      return c;
    }
  };
  run_settings s;
  auto const saved = fixed_settings(s.declare());
  auto const message = [&](run_settings now, std::string const& then) {
    auto const c = now.declare();
    return message_of([&] { require_fixed_settings(c, then, "run/step-7.safetensors"); });
  };
  CHECK(message(s, saved) == "");
  CHECK(message({.log_every = 1}, saved) == "");
  CHECK_THAT(
      message({.rate = 0.001}, saved),
      Contains("run/step-7.safetensors") && Contains("\n  optim.rate: 0.0001 in the checkpoint, 0.001 now"));
  auto const several = message({.decay = 0, .steps = 20, .crop = {96, 96, 48}, .model = "paper"}, saved);
  CHECK_THAT(several, Contains("optim.decay: 0.01 in the checkpoint, 0.0 now") &&
                          Contains("steps: 10 in the checkpoint, 20 now") &&
                          Contains("crop: [96,96,96] in the checkpoint, [96,96,48] now") &&
                          Contains("model: \"small\" in the checkpoint, \"paper\" now"));
  CHECK_THAT(several, !Contains("optim.rate"));
  std::string const older = R"({"optim.rate": 0.0001, "steps": 10, "crop": [96, 96, 96], "model": "small"})";
  CHECK(message(s, older) == "");  // a setting that is newer than the checkpoint, at its default
  auto c = s.declare();
  c.set("optim.decay=0.1");
  CHECK_THAT(message_of([&] { require_fixed_settings(c, older, "run"); }),
             Contains("optim.decay: 0.01 (default) in the checkpoint, 0.1 now"));
  CHECK_THAT(message(s, R"({"optim.rate": 0.0001, "steps": 10, "dropout": 0.5})"),
             Contains("dropout: 0.5 in the checkpoint, not a setting now"));
  CHECK_THAT(message(s, "{"), Contains("no JSON object"));
}

TEST_CASE("mistakes in the declaration are found when the program starts") {
  config c("p");
  int n = 5;
  c.add("a.b", n, "");
  CHECK_THAT(message_of([&] { c.add("a.b", n, ""); }), Contains("'a.b'") && Contains("exclude each other"));
  CHECK_THAT(message_of([&] { c.add("a", n, ""); }), Contains("exclude each other"));
  CHECK_THAT(message_of([&] { c.add("a.b.c", n, ""); }), Contains("exclude each other"));
  CHECK_THAT(message_of([&] { c.add("x..y", n, ""); }), Contains("joined by dots"));
  CHECK_THAT(message_of([&] { c.add("X", n, ""); }), Contains("lower-case"));
  CHECK_THAT(message_of([&] { c.add("x", n, "", {.at_most = 4}); }),
             Contains("the default of 'x': 5 is above"));
}
