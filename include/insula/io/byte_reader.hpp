// SPDX-License-Identifier: Apache-2.0
// Reading numbers and pieces from bytes in memory, never past their end.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "insula/base/check.hpp"

namespace insula {

/// A position in bytes that someone else owns. Everything that would pass the end throws error: "<where>: it ends inside of
/// <what> ...". `where` names the file, and the part of it that the bytes are.
class byte_reader {
 public:
  byte_reader(std::span<std::byte const> bytes, std::string where)
      : bytes_(bytes), where_(std::move(where)) {}

  std::size_t at() const { return at_; }
  std::size_t left() const { return bytes_.size() - at_; }
  std::string const& where() const { return where_; }

  /// The next n bytes.
  std::span<std::byte const> take(std::uint64_t n, std::string_view what) {
    if (n > left())
      fail(where_, ": ", what, " at byte ", at_, " would have ", n, " bytes, but only ", left(),
           " follow; the file is truncated or damaged: copy or download it again");
    auto const part = bytes_.subspan(at_, std::size_t(n));
    at_ += std::size_t(n);
    return part;
  }
  std::string_view take_text(std::uint64_t n, std::string_view what) {
    auto const part = take(n, what);
    return {reinterpret_cast<char const*>(part.data()), part.size()};
  }
  /// A little-endian number.
  template <class U>
  requires std::is_arithmetic_v<U> U number(std::string_view what) {
    auto const part = take(sizeof(U), what);
    U v;
    std::memcpy(&v, part.data(), sizeof(U));
    return v;
  }
  /// Up to the next newline, without it.
  std::string_view line(std::string_view what) {
    std::string_view const rest(reinterpret_cast<char const*>(bytes_.data()) + at_, left());
    auto const n = rest.find('\n');
    if (n == rest.npos) fail(where_, ": ", what, " at byte ", at_, " does not end; the file is damaged");
    at_ += n + 1;
    return rest.substr(0, n);
  }

 private:
  std::span<std::byte const> bytes_;
  std::string where_;
  std::size_t at_ = 0;
};

/// A little-endian number at a place that is known to be inside.
template <class U>
requires std::is_arithmetic_v<U> U number_at(std::span<std::byte const> bytes, std::size_t at) {
  U v;
  std::memcpy(&v, bytes.data() + at, sizeof(U));
  return v;
}

}  // namespace insula
