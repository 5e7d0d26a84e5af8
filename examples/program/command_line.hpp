// SPDX-License-Identifier: Apache-2.0
// What the programs have in common: flags and key=value settings, configurations, --print-config, exit statuses.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "insula/io/fixed_settings.hpp"

namespace program {

/// A flag "--key" that people expect, for a setting; everything else is key=value.
struct flag {
  std::string key;
  std::string value{};
};
/// A flag without a value, short for an assignment.
struct toggle {
  char const *name, *assignment, *meaning;
  bool given = false;
};

struct commands {
  std::string name, about;
  std::vector<flag> flags{};
  std::vector<toggle> toggles{};
  std::vector<std::string> configurations{"small",
                                          "paper"};  ///< words that --config takes besides files: model=word
  std::function<void()>
      complete{};  ///< after all settings are known: defaults that follow from others; throws for wrong use
  std::function<int()> run{};  ///< gives the exit status
};

namespace detail {

/// Fills the config from files, flags and assignments, in this order.
inline void fill(insula::config& c, commands const& p, std::vector<std::string> const& configurations,
                 std::vector<std::string> const& assignments) {
  for (auto const& name : configurations) {
    bool word = false;
    for (auto const& known : p.configurations) word = word || name == known;
    word ? c.set("model=" + name) : c.load(name);
  }
  for (auto const& f : p.flags)
    if (!f.value.empty()) c.set(f.key + "=" + f.value);
  for (auto const& t : p.toggles)
    if (t.given) c.set(t.assignment);
  for (auto const& a : assignments) c.set(a);
}

}  // namespace detail

/// Gives a run's settings what it needs of the config: to write it into the run's folder, and to compare it when the run goes on.
/// Call once all settings are known; `c` and `s` must outlive the run.
template <class Settings>
void record(insula::config const& c, Settings& s) {
  s.save_resolved = [&c, &s] { c.save(s.out); };
  s.fixed = insula::fixed_settings(c);
  s.require_fixed = [&c](std::string const& saved, std::string const& file) {
    insula::require_fixed_settings(c, saved, file);
  };
}

/// Runs a program. Exit status: 0 done; 1 an error; 2 wrong usage; 75 stopped by SIGTERM or SIGUSR1 after saving; 130 by
/// SIGINT (as p.run gives it). Errors are one message on standard error.
inline int main(int argc, char** argv, insula::config& c, commands p) {
  auto const told = [&](std::exception const& e, int status) {
    std::fprintf(stderr, "%s: %s\n", p.name.c_str(), e.what());
    return status;
  };
  p.toggles.push_back({"--resume", "resume=true", "go on from the last checkpoint in --out"});
  p.toggles.push_back({"--quiet", "quiet=true", "only warnings and errors"});
  CLI::App app(p.about + " Every setting can also be given as key=value; --print-config lists them all.");
  for (auto& f : p.flags)
    for (auto const& o : c.options())
      if (o.name == f.key) app.add_option("--" + f.key, f.value, o.doc);
  for (auto& t : p.toggles) app.add_flag(t.name, t.given, t.meaning);
  std::vector<std::string> configurations, assignments;
  bool print = false;
  app.add_option("--config", configurations, "small, paper, or a .toml or .json file of settings")
      ->allow_extra_args(false);  // one for each --config: key=value may follow
  app.add_flag("--print-config", print, "print all settings with their meaning and end");
  app.add_option("settings", assignments, "key=value");
  app.set_version_flag("--version", std::string(insula::version_text));
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  try {
    detail::fill(c, p, configurations, assignments);
    if (print) {
      std::fputs(c.toml().c_str(), stdout);
      return 0;
    }
    c.check_required();
    if (p.complete) p.complete();
  } catch (std::exception const& e) {
    return told(e, 2);
  }
  try {
    return p.run();
  } catch (std::exception const& e) {
    return told(e, 1);
  }
}

}  // namespace program
