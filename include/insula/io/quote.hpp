// SPDX-License-Identifier: Apache-2.0
// Names and values from files as they appear in messages: in quotes, printable and of bounded length.
#pragma once

#include <string>
#include <string_view>

namespace insula {

/// 'text' in single quotes; control characters become \xNN, and more than `most` characters are cut with
/// "...".
inline std::string quote(std::string_view text, std::size_t most = 120) {
  constexpr char const* digits = "0123456789abcdef";
  std::string s = "'";
  for (char const c : text.substr(0, most)) {
    auto const u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f)
      s += "\\x", s += digits[u >> 4], s += digits[u & 15];
    else
      s += c;
  }
  if (text.size() > most) s += "...";
  return s += "'";
}

}  // namespace insula
