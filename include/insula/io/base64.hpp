// SPDX-License-Identifier: Apache-2.0
// Base64 text of bytes, and data URIs for reports that need no other files.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace insula {

/// RFC 4648, section 4: the standard alphabet with padding.
inline std::string base64(std::span<std::byte const> bytes) {
  constexpr char const* letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string s;
  s.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    auto const at = [&](std::size_t k) { return i + k < bytes.size() ? unsigned(bytes[i + k]) : 0u; };
    unsigned const group = at(0) << 16 | at(1) << 8 | at(2);
    s += letters[group >> 18];
    s += letters[(group >> 12) & 63];
    s += i + 1 < bytes.size() ? letters[(group >> 6) & 63] : '=';
    s += i + 2 < bytes.size() ? letters[group & 63] : '=';
  }
  return s;
}

/// "data:image/png;base64,..."
inline std::string data_uri(std::string_view media_type, std::span<std::byte const> bytes) {
  return "data:" + std::string(media_type) + ";base64," + base64(bytes);
}

}  // namespace insula
