// SPDX-License-Identifier: Apache-2.0
// Rules that rename tensors, one a line, in a text file.
#pragma once

#include "insula/io/file.hpp"
#include "insula/io/mapping.hpp"

namespace insula {

/// Reads rules "from -> to", one a line, in the order in which they apply (apply_renames). Either side may be empty: "x. ->"
/// removes a prefix, "-> x." puts one in front of every name. Spaces around both sides, empty lines, and lines that begin with
/// '#' do not count. Throws error with the line.
inline std::vector<rename_rule> read_rename_rules(std::string const& path) {
  constexpr std::size_t most = std::size_t{1} << 24;  // bytes
  auto const trimmed = [](std::string_view s) {
    auto const first = s.find_first_not_of(" \t\r");
    if (first == s.npos) return std::string();
    return std::string(s.substr(first, s.find_last_not_of(" \t\r") - first + 1));
  };
  std::vector<rename_rule> rules;
  std::string const all = read_file(path, most);
  std::string_view rest = all;
  for (int line = 1; !rest.empty(); ++line) {
    auto const end = std::min(rest.find('\n'), rest.size());
    auto const now = trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (now.empty() || now.starts_with('#')) continue;
    auto const arrow = now.find("->");
    if (arrow == now.npos || now.find("->", arrow + 2) != now.npos)
      fail(path, ":", line, ": ", quote(now), " is not a rule; write: old prefix -> new prefix");
    rules.push_back(
        {trimmed(std::string_view(now).substr(0, arrow)), trimmed(std::string_view(now).substr(arrow + 2))});
    if (rules.back().from == rules.back().to)
      fail(path, ":", line, ": the rule ", quote(now), " changes nothing");
  }
  return rules;
}

}  // namespace insula
