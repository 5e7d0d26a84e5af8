// SPDX-License-Identifier: Apache-2.0
// The settings that decide what a run computes: kept in its checkpoints and compared when it goes on.
#pragma once

#include "insula/io/config.hpp"

namespace insula {

/// All settings but those declared with option_rule::may_change, as JSON text for a checkpoint's state.
inline std::string fixed_settings(config const& c) {
  auto all = nlohmann::ordered_json::object();
  for (auto const& o : c.options())
    if (!o.rule.may_change) all[o.name] = detail::value_of(o);
  return all.dump();
}

/// Compares with what fixed_settings() gave when `where`, the checkpoint, was written. Throws error that names every setting
/// that differs, with both values. A setting that the checkpoint does not know must have its default, and one that only the
/// checkpoint knows is a difference.
inline void require_fixed_settings(config const& c, std::string_view saved, std::string const& where) {
  auto const then = nlohmann::ordered_json::parse(saved, nullptr, false);
  check(then.is_object(), where,
        ": the checkpoint's settings are no JSON object: ", quote(saved.substr(0, 80)),
        "; was it written by another program?");
  std::string differences;
  auto const differs = [&](std::string const& name, std::string const& before, std::string const& now) {
    differences += text("\n  ", name, ": ", before, " in the checkpoint, ", now, " now");
  };
  std::vector<std::string> known;
  for (auto const& o : c.options()) {
    known.push_back(o.name);
    if (o.rule.may_change) continue;
    auto const now = detail::value_of(o);
    auto const at = then.find(o.name);
    auto const& before = at == then.end() ? o.default_value : *at;
    if (before != now) differs(o.name, before.dump() + (at == then.end() ? " (default)" : ""), now.dump());
  }
  for (auto const& [name, value] : then.items())
    if (std::find(known.begin(), known.end(), name) == known.end())
      differs(name, value.dump(), "not a setting");
  if (!differences.empty())
    fail(where, ": this is not the run that the checkpoint belongs to:", differences,
         "\nresume with the settings of the first run, or start another run in a folder of its own");
}

}  // namespace insula
