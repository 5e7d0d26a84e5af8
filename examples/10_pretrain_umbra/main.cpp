// SPDX-License-Identifier: Apache-2.0
// Pretrains UMBRA from a folder of brain scans:
//   10_pretrain_umbra --data cohort --out run --mode mcl+mim --config small --steps 200
// Exit status: 0 done; 1 an error; 2 wrong usage; 75 stopped by SIGTERM or SIGUSR1 after saving; 130 by SIGINT.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "declare.hpp"

namespace {

/// Flags that people expect, as settings; everything else is key=value.
struct flag {
  char const *name, *key;
  std::string value{};
};

int usage(std::string const& message) {
  std::fprintf(stderr, "10_pretrain_umbra: %s\n", message.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  insula::config c("10_pretrain_umbra",
                   "Pretrains UMBRA: contrastive learning and masked image modelling of brain MRI.");
  declare(c, s);

  CLI::App app(
      "Pretrains UMBRA from a folder of brain scans. Every setting can also be given as key=value; "
      "--print-config "
      "lists them all.");
  flag flags[] = {{"--data", "data"},   {"--mode", "mode"},       {"--steps", "steps"},
                  {"--batch", "batch"}, {"--threads", "threads"}, {"--seed", "seed"},
                  {"--out", "out"},     {"--compare", "compare"}, {"--also", "also"},
                  {"--cache", "cache"}, {"--init", "init"}};
  for (auto& f : flags) {
    for (auto const& o : c.options())
      if (o.name == f.key) app.add_option(f.name, f.value, o.doc);
  }
  std::vector<std::string> configurations, settings_given;
  bool resume = false, quiet = false, print = false;
  app.add_option("--config", configurations, "small, paper, or a .toml or .json file of settings");
  app.add_flag("--resume", resume, "go on from the last checkpoint in --out");
  app.add_flag("--quiet", quiet, "only warnings and errors");
  app.add_flag("--print-config", print, "print all settings with their meaning and end");
  app.add_option("settings", settings_given, "key=value");
  app.set_version_flag("--version", std::string(insula::version_text));
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  try {
    for (auto const& name : configurations)
      if (name == "small" || name == "paper")
        c.set("model=" + name);
      else
        c.load(name);
    for (auto const& f : flags)
      if (!f.value.empty()) c.set(std::string(f.key) + "=" + f.value);
    for (auto const& given : settings_given) c.set(given);
    if (resume) c.set("resume=true");
    if (quiet) c.set("quiet=true");
    if (print) {
      std::fputs(c.toml().c_str(), stdout);
      return 0;
    }
    c.check_required();
    if (s.steps == 0) c.set(s.model == "paper" ? "steps=200000" : "steps=200");
    insula::check(s.mask_low <= s.mask_high, "ssl.mask_low is ", s.mask_low, ", above ssl.mask_high ",
                  s.mask_high);
  } catch (std::exception const& e) {
    return usage(e.what());
  }
  try {
    s.save_resolved = [&] { c.save(s.out); };
    s.fixed = insula::fixed_settings(c);
    s.require_fixed = [&](std::string const& saved, std::string const& file) {
      insula::require_fixed_settings(c, saved, file);
    };
    return s.model == "paper" ? pretrain_paper(s) : pretrain_small(s);
  } catch (std::exception const& e) {
    std::fprintf(stderr, "10_pretrain_umbra: %s\n", e.what());
    return 1;
  }
}
