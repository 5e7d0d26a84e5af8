// SPDX-License-Identifier: Apache-2.0
// One setting of a program: its name, the variable it fills, what it means and which values it may take.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/io/quote.hpp"

namespace insula {

/// What a setting may be. Numbers of a list are checked one by one.
struct option_rule {
  double at_least = -std::numeric_limits<double>::infinity(),
         above = -std::numeric_limits<double>::infinity();
  double at_most = std::numeric_limits<double>::infinity(), below = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices{};  ///< of strings; empty: any
  std::size_t length = 0;              ///< of lists; 0: any
  bool required = false;               ///< must be set by a file or an override
  bool may_change = false;  ///< when a run is resumed: it changes no number (see fixed_settings.hpp)
};

/// The variable behind a setting; its type is the setting's type, its value at declaration the default.
using option_target = std::variant<bool*, int*, index_t*, std::uint64_t*, float*, double*, std::string*,
                                   std::vector<index_t>*, std::vector<double>*, std::vector<std::string>*>;

struct option {
  std::string name;  // "optim.lr"
  option_target target;
  std::string doc;
  option_rule rule{};
  nlohmann::ordered_json default_value{};
  std::string origin = "default";  // "default", "run.toml:12" or "command line"
};

namespace detail {

using json = nlohmann::ordered_json;

template <class T>
constexpr std::string_view kind_of() {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) return "an integer";
  if constexpr (std::is_floating_point_v<T>) return "a number";
  if constexpr (std::is_same_v<T, std::string>) return "a string";
  if constexpr (std::is_same_v<T, std::vector<index_t>>) return "a list of integers";
  if constexpr (std::is_same_v<T, std::vector<double>>) return "a list of numbers";
  if constexpr (std::is_same_v<T, std::vector<std::string>>) return "a list of strings";
}

inline std::string kind_of(option const& o) {
  return std::visit([](auto* p) { return std::string(kind_of<std::remove_pointer_t<decltype(p)>>()); },
                    o.target);
}

inline std::string shown(json const& v) {
  if (v.is_string()) return "the string " + quote(v.get_ref<std::string const&>());
  if (v.is_object()) return "a table";
  return quote(v.dump(-1, ' ', false, json::error_handler_t::replace));
}

/// The value as a T, nothing if it is of another type or does not fit it. Integers may be written 1e6,
/// numbers may be integers.
template <class T>
std::optional<T> value_as(json const& v) {
  if constexpr (std::is_same_v<T, bool>) {
    if (v.is_boolean()) return v.get<bool>();
  } else if constexpr (std::is_integral_v<T>) {
    if (v.is_number_unsigned()) {
      auto const u = v.get<std::uint64_t>();
      if (u <= std::uint64_t(std::numeric_limits<T>::max())) return T(u);
    } else if (v.is_number_integer()) {
      auto const i = v.get<std::int64_t>();
      bool const fits = i < 0 ? std::is_signed_v<T> && i >= std::int64_t(std::numeric_limits<T>::min())
                              : std::uint64_t(i) <= std::uint64_t(std::numeric_limits<T>::max());
      if (fits) return T(i);
    } else if (v.is_number_float()) {
      auto const d = v.get<double>();
      if (d == std::floor(d) && std::fabs(d) < 0x1p53) return value_as<T>(json(std::int64_t(d)));
    }
  } else if constexpr (std::is_floating_point_v<T>) {
    if (v.is_number() && std::isfinite(v.get<double>()) && std::isfinite(T(v.get<double>())))
      return T(v.get<double>());
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (v.is_string()) return v.get<std::string>();
  } else {
    if (!v.is_array()) return {};
    T list;
    for (auto const& e : v) {
      auto const element = value_as<typename T::value_type>(e);
      if (!element) return {};
      list.push_back(*element);
    }
    return list;
  }
  return {};
}

/// What is wrong with a value under a rule; "" if nothing is.
template <class T>
std::string violation(T const& v, option_rule const& rule) {
  if constexpr (std::is_same_v<T, bool>) {
    return "";
  } else if constexpr (std::is_arithmetic_v<T>) {
    auto const d = double(v);
    if (d < rule.at_least) return text(v, " is below the least value ", rule.at_least);
    if (d > rule.at_most) return text(v, " is above the greatest value ", rule.at_most);
    if (!(d > rule.above)) return text(v, " is not above ", rule.above);
    if (!(d < rule.below)) return text(v, " is not below ", rule.below);
    return "";
  } else if constexpr (std::is_same_v<T, std::string>) {
    auto const& c = rule.choices;
    try {
      (void)json(v).dump();
    } catch (json::type_error const&) {
      return quote(v) + " is not valid UTF-8";
    }
    if (c.empty() || std::find(c.begin(), c.end(), v) != c.end()) return "";
    std::string all;
    for (auto const& s : c) all += (all.empty() ? "" : ", ") + s;
    return quote(v) + " is not one of " + all + "; did you mean " + quote(nearest_word(v, c)) + "?";
  } else {
    if (rule.length && v.size() != rule.length)
      return text("has ", v.size(), " elements, wanted are ", rule.length);
    for (auto const& e : v)
      if (auto const w = violation(e, rule); !w.empty()) return w;
    return "";
  }
}

inline json value_of(option const& o) {
  return std::visit(
      [](auto* p) {
        if constexpr (std::is_same_v<decltype(p),
                                     float*>)  // the shortest text of the float, not of its double
          return json::parse(text(*p));
        else
          return json(*p);
      },
      o.target);
}

/// Sets the variable. Gives what is wrong, "" if nothing; then the variable is unchanged.
inline std::string assign(option& o, json const& v) {
  return std::visit(
      [&](auto* p) -> std::string {
        using value_type = std::remove_pointer_t<decltype(p)>;
        auto made = value_as<value_type>(v);
        if (!made) return text("wants ", kind_of<value_type>(), ", got ", shown(v));
        auto wrong = violation(*made, o.rule);
        if (wrong.empty()) *p = std::move(*made);
        return wrong;
      },
      o.target);
}

/// Text of a command line to a value of T's kind; a string if it cannot be one, so that the message can show
/// it.
template <class T>
json value_from(std::string_view s) {
  if constexpr (std::is_same_v<T, bool>) {
    if (s == "true" || s == "1") return true;
    if (s == "false" || s == "0") return false;
    return std::string(s);
  } else if constexpr (std::is_arithmetic_v<T>) {
    if (s.starts_with('+') && !s.starts_with("+-")) s.remove_prefix(1);
    auto const parse = [&](auto v) -> std::optional<json> {
      auto const r = std::from_chars(s.data(), s.data() + s.size(), v);
      if (r.ec != std::errc{} || r.ptr != s.data() + s.size()) return {};
      return json(v);
    };
    auto v = parse(std::int64_t{});
    if (!v) v = parse(std::uint64_t{});
    if (!v) v = parse(double{});
    return v ? *v : json(std::string(s));
  } else if constexpr (std::is_same_v<T, std::string>) {
    auto const j = s.starts_with('"') ? json::parse(s, nullptr, false) : json(nullptr);
    return j.is_string() ? j : json(std::string(s));
  } else {
    if (auto j = s.starts_with('[') ? json::parse(s, nullptr, false) : json(nullptr); j.is_array()) return j;
    if (s.starts_with('[') && s.ends_with(']')) s = s.substr(1, s.size() - 2);
    json list = json::array();
    while (!s.empty()) {
      auto const comma = std::min(s.find(','), s.size());
      auto part = s.substr(0, comma);
      while (part.starts_with(' ')) part.remove_prefix(1);
      while (part.ends_with(' ')) part.remove_suffix(1);
      list.push_back(value_from<typename T::value_type>(part));
      s.remove_prefix(std::min(comma + 1, s.size()));
    }
    return list;
  }
}

inline json value_from(option const& o, std::string_view s) {
  return std::visit([&](auto* p) { return value_from<std::remove_pointer_t<decltype(p)>>(s); }, o.target);
}

}  // namespace detail

}  // namespace insula
