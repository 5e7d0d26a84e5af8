// SPDX-License-Identifier: Apache-2.0
// Options by name: aggregates that list their fields can be written as JSON text and changed from configurations.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "insula/base/check.hpp"

namespace insula {

/// An aggregate whose static function fields(self, f) calls f(name, member) for every field.
template <class T>
concept has_fields = requires(T& t) {
  T::fields(t, [](char const*, auto&) {});
};

/// {"crop": 96, "flip": 0.5, ...}: numbers in their shortest exact form, so that text -> value -> text is stable.
template <has_fields T>
std::string json_text(T const& t) {
  std::string s = "{";
  T::fields(t, [&](char const* name, auto const& v) {
    if (s.size() > 1) s += ", ";
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(v)>, std::string>)
      s += text('"', name, "\": \"", v, '"');
    else
      s += text('"', name, "\": ", v);
  });
  return s + "}";
}

/// Sets t.name = value (numbers and truth values). Throws for an unknown name, naming the nearest one.
template <has_fields T, class V>
void set_field(T& t, std::string_view name, V const& value) {
  bool found = false;
  std::vector<std::string> names;
  T::fields(t, [&](char const* n, auto& v) {
    names.emplace_back(n);
    if (name != n) return;
    using member = std::remove_cvref_t<decltype(v)>;
    if constexpr (std::is_convertible_v<V, member>) {
      v = static_cast<member>(value);
      if constexpr (std::is_arithmetic_v<V> && std::is_integral_v<member>)
        check(V(v) == value, "option \"", name, "\" is a whole number and cannot be ", value);
      found = true;
    } else {
      fail("option \"", name, "\" has another type than the value given");
    }
  });
  check(found, "there is no option \"", name, "\"; did you mean \"", nearest_word(name, names), "\"?");
}

/// For JSON libraries that look up to_json and from_json (nlohmann::json does): fields become members of an object;
/// reading changes only what the object names and throws for unknown names.
template <class Json, has_fields T>
void to_json(Json& j, T const& t) {
  T::fields(t, [&](char const* name, auto const& v) { j[name] = v; });
}
template <class Json, has_fields T>
void from_json(Json const& j, T& t) {
  for (auto const& item : j.items()) {
    bool found = false;
    std::vector<std::string> names;
    T::fields(t, [&](char const* n, auto& v) {
      names.emplace_back(n);
      if (item.key() == n) v = item.value().template get<std::remove_cvref_t<decltype(v)>>(), found = true;
    });
    check(found, "there is no option \"", item.key(), "\"; did you mean \"", nearest_word(item.key(), names),
          "\"?");
  }
}

}  // namespace insula
