// SPDX-License-Identifier: Apache-2.0
// The members of a tar file in memory.
#pragma once

#include <array>
#include <limits>
#include <optional>
#include <vector>

#include "insula/io/byte_reader.hpp"
#include "insula/io/quote.hpp"

namespace insula {

/// A regular file in a tar file: its bytes are [begin, begin + size).
struct tar_member {
  std::string name;
  std::size_t begin = 0, size = 0;
};

namespace detail {

inline constexpr std::size_t tar_block = 512;  // bytes

/// A number of a tar header: octal digits, or base 256 if the highest bit is set (GNU). Nothing if it is neither.
inline std::optional<std::uint64_t> tar_number(std::string_view field) {
  std::uint64_t v = 0;
  if (!field.empty() && (static_cast<unsigned char>(field[0]) & 0x80u)) {
    v = static_cast<unsigned char>(field[0]) & 0x7fu;
    for (char const c : field.substr(1)) {
      if (v >> 55) return {};
      v = v << 8 | static_cast<unsigned char>(c);
    }
    return v;
  }
  while (field.starts_with(' ')) field.remove_prefix(1);
  for (char const c : field.substr(0, field.find_first_of(std::string_view(" \0", 2)))) {
    if (c < '0' || c > '7') return {};
    v = v << 3 | std::uint64_t(c - '0');
  }
  return v;
}

/// The value of "path" in pax records "<length> <key>=<value>\n"; "" if there is none.
inline std::string pax_path(std::string_view records) {
  while (!records.empty()) {
    std::size_t n = 0, digits = 0;
    while (digits < records.size() && records[digits] >= '0' && records[digits] <= '9' && n < records.size())
      n = n * 10 + std::size_t(records[digits++] - '0');
    if (digits == 0 || n <= digits + 1 || n > records.size() || records[digits] != ' ') return "";
    auto const record = records.substr(digits + 1, n - digits - 2);
    if (record.starts_with("path=")) return std::string(record.substr(5));
    records.remove_prefix(n);
  }
  return "";
}

}  // namespace detail

/// True if the bytes begin with a POSIX or GNU tar header.
inline bool looks_like_tar(std::span<std::byte const> bytes) {
  return bytes.size() >= detail::tar_block && std::memcmp(bytes.data() + 257, "ustar", 5) == 0;
}

/// The regular files of an uncompressed tar file that lies in memory as a whole (POSIX.1-2017, pax, "ustar Interchange
/// Format"; long names of pax and GNU); `file` is its name in messages. Throws error if a header's checksum is wrong or a
/// member passes the end.
inline std::vector<tar_member> read_tar(std::span<std::byte const> bytes, std::string_view file) {
  std::vector<tar_member> members;
  std::string long_name;
  byte_reader r(bytes, std::string(file));
  while (r.left() >= detail::tar_block) {
    std::size_t const at = r.at();
    auto const header = r.take_text(detail::tar_block, "a tar header");
    if (header.find_first_not_of('\0') == header.npos) break;  // the end
    auto const field = [&](std::size_t first, std::size_t n) { return header.substr(first, n); };
    auto const string = [&](std::size_t first, std::size_t n) {
      auto const f = field(first, n);
      return std::string(f.substr(0, f.find('\0')));
    };
    std::uint64_t sum = 8 * ' ';  // the checksum's own field counts as spaces
    for (std::size_t i = 0; i < header.size(); ++i)
      if (i < 148 || i >= 156) sum += static_cast<unsigned char>(header[i]);
    auto const wanted = detail::tar_number(field(148, 8)), size = detail::tar_number(field(124, 12));
    if (wanted != sum || !size)
      fail(file, ": the tar header at byte ", at, " is damaged; copy or download the file again");
    std::size_t const begin = r.at();
    auto const content = r.take_text(*size, "a tar member");
    (void)r.take(
        std::min<std::size_t>((detail::tar_block - *size % detail::tar_block) % detail::tar_block, r.left()),
        "padding");
    char const kind = header[156];
    if (kind == 'x') {
      if (auto path = detail::pax_path(content); !path.empty()) long_name = std::move(path);
    } else if (kind == 'L') {
      long_name = std::string(content.substr(0, content.find('\0')));
    } else {
      auto const prefix = string(345, 155), name = string(0, 100);
      if (kind == '0' || kind == '\0' || kind == '7')
        members.push_back({!long_name.empty() ? long_name
                           : prefix.empty() || field(257, 6) != std::string_view("ustar\0", 6)
                               ? name
                               : prefix + '/' + name,
                           begin, std::size_t(*size)});
      long_name.clear();
    }
  }
  return members;
}

}  // namespace insula
