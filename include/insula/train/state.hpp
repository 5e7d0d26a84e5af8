// SPDX-License-Identifier: Apache-2.0
// The small state of a run beside its tensors: counters and settings as text, kept in a checkpoint's metadata.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "insula/io/csv.hpp"
#include "insula/io/safetensors_read.hpp"

namespace insula {

/// Names and values, both UTF-8. Write numbers with text(): it is exact.
///   state["optimizer.steps"] = text(steps);   index_t steps = state_integer(state, "optimizer.steps");
using state_map = std::map<std::string, std::string>;

/// The text of an entry. Throws error with the nearest name if there is none.
inline std::string const& state_text(state_map const& state, std::string const& name) {
  auto const it = state.find(name);
  if (it != state.end()) return it->second;
  std::vector<std::string> names;
  for (auto const& entry : state) names.push_back(entry.first);
  fail("checkpoint: the state has no entry ", quote(name),
       names.empty() ? "; it is empty" : "; the nearest is ",
       names.empty() ? "" : quote(nearest_word(name, names)), "; was it written by another program?");
}

/// An entry that is an integer. Throws error.
inline index_t state_integer(state_map const& state, std::string const& name) {
  auto const& s = state_text(state, name);
  index_t v = 0;
  auto const r = std::from_chars(s.data(), s.data() + s.size(), v);
  check(!s.empty() && r.ec == std::errc{} && r.ptr == s.data() + s.size(), "checkpoint: the state's entry ",
        quote(name), " is ", quote(s), ", not an integer");
  return v;
}

/// An entry that is a finite number, with every bit that text() wrote. Throws error.
inline double state_number(state_map const& state, std::string const& name) {
  auto const& s = state_text(state, name);
  auto const v = number_in(s);
  check(v.has_value(), "checkpoint: the state's entry ", quote(name), " is ", quote(s),
        ", not a finite number");
  return *v;
}

/// Where a checkpoint keeps its state: the entry of __metadata__ that holds a JSON object of texts.
inline constexpr char const* state_entry = "insula.state";

/// The state as a JSON object. Throws error if a text is not valid UTF-8.
inline std::string pack_state(state_map const& state) {
  try {
    return nlohmann::json(state).dump();
  } catch (nlohmann::json::exception const&) {
    fail("checkpoint: the state holds text that is not valid UTF-8; encode it, for example in base64");
  }
}

/// The state of a checkpoint. Throws error if the file has none or it is damaged.
inline state_map unpack_state(safetensors_file const& file) {
  auto const it = file.metadata().find(state_entry);
  check(it != file.metadata().end(), file.path(),
        ": no state of a run is in this file; it may hold weights only");
  auto const json = nlohmann::json::parse(it->second, nullptr, false);
  check(json.is_object(), file.path(), ": the metadata ", quote(state_entry), " is not a JSON object");
  state_map state;
  for (auto const& [name, value] : json.items()) {
    if (!value.is_string())
      fail(file.path(), ": the entry ", quote(name), " of the metadata ", quote(state_entry),
           " is not a text");
    state[name] = value.get<std::string>();
  }
  return state;
}

}  // namespace insula
