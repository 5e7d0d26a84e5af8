// SPDX-License-Identifier: Apache-2.0
// Preprocessing pipelines to and from JSON text.
#pragma once

#include <nlohmann/json.hpp>

#include "insula/data/pipeline.hpp"

namespace insula {

namespace detail {

using json = nlohmann::ordered_json;

template <class Step>
json step_to_json(Step const& s) {
  json j = {{"step", Step::name}};
  Step::fields(s, [&](char const* key, auto const& value) {
    if constexpr (std::same_as<std::remove_cvref_t<decltype(value)>, voxels_over>)
      j[key] = std::string(word(value));
    else
      j[key] = value;
  });
  return j;
}

/// Sets one parameter from JSON; the kind must fit.
inline void set_field(json const& j, std::string const& where, std::string& to) {
  check(j.is_string(), where, " is ", j.dump(), ", a string is needed");
  to = j.get<std::string>();
}
inline void set_field(json const& j, std::string const& where, double& to) {
  check(j.is_number(), where, " is ", j.dump(), ", a number is needed");
  to = j.get<double>();
}
inline void set_field(json const& j, std::string const& where, index_t& to) {
  bool const fits =
      j.is_number_integer() && (!j.is_number_unsigned() || j.get<std::uint64_t>() < std::uint64_t{1} << 62);
  check(fits, where, " is ", j.dump(), ", a whole number is needed");
  to = j.get<index_t>();
}
inline void set_field(json const& j, std::string const& where, voxels_over& to) {
  check(j == "all" || j == "nonzero", where, " is ", j.dump(), ", \"all\" or \"nonzero\" is needed");
  to = j == "all" ? voxels_over::all : voxels_over::nonzero;
}

template <class Step>
preprocess::step step_from_json(json const& j, std::string const& where) {
  Step s;
  std::vector<std::string> known{"step"};
  Step::fields(s, [&](char const* key, auto& value) {
    known.push_back(key);
    if (j.contains(key)) set_field(j[key], text(where, " (", Step::name, "): ", key), value);
  });
  for (auto const& item : j.items())
    check(std::find(known.begin(), known.end(), item.key()) != known.end(), where, " (", Step::name, "): '",
          item.key(), "' is no parameter; did you mean '", nearest_word(item.key(), known), "'?");
  return s;
}

/// Tries the steps in the order of the variant.
template <std::size_t I = 0>
preprocess::step any_step_from_json(json const& j, std::string const& name, std::string const& where,
                                    std::vector<std::string>& known) {
  if constexpr (I < std::variant_size_v<preprocess::step>) {
    using candidate = std::variant_alternative_t<I, preprocess::step>;
    if (name == candidate::name) return step_from_json<candidate>(j, where);
    known.push_back(candidate::name);
    return any_step_from_json<I + 1>(j, name, where, known);
  } else {
    fail(where, ": '", name, "' is no step; did you mean '", nearest_word(name, known), "'?");
  }
}

}  // namespace detail

/// [{"step":"reorient","letters":"RAS"},{"step":"clip","low":0.5,"high":99.5,"over":"nonzero"}]; numbers survive exactly.
inline std::string to_json(pipeline const& p) {
  detail::json j = detail::json::array();
  for (auto const& s : p.steps)
    j.push_back(std::visit([](auto const& x) { return detail::step_to_json(x); }, s));
  try {
    return j.dump();
  } catch (nlohmann::json::exception const& e) {
    fail("pipeline: a text parameter is not valid UTF-8 (", e.what(), ")");
  }
}

/// The pipeline of such a text; parameters that are absent take their default. Throws error for anything else than a list of
/// known steps with known parameters of the right kind, and suggests the nearest name.
inline pipeline pipeline_from_json(std::string_view json_text) {
  detail::json j;
  try {
    j = detail::json::parse(json_text);
  } catch (nlohmann::json::exception const& e) {
    fail("pipeline: this is no valid JSON (", e.what(), ")");
  }
  check(j.is_array(), "pipeline: the JSON is no list; write [{\"step\":\"reorient\"}, ...]");
  pipeline p;
  for (std::size_t i = 0; i < j.size(); ++i) {
    std::string const where = text("pipeline step ", i + 1);
    check(j[i].is_object() && j[i].contains("step") && j[i]["step"].is_string(), where,
          " is no object with a \"step\" name; write {\"step\":\"reorient\"}");
    std::vector<std::string> known;
    p.steps.push_back(detail::any_step_from_json(j[i], j[i]["step"].get<std::string>(), where, known));
  }
  return p;
}

}  // namespace insula
