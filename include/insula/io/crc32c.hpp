// SPDX-License-Identifier: Apache-2.0
// The CRC-32C checksum (Castagnoli polynomial) of TFRecord files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace insula {

namespace detail {
inline constexpr std::array<std::uint32_t, 256> crc32c_table = [] {
  std::array<std::uint32_t, 256> t{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = (c >> 1) ^ (c & 1 ? 0x82F63B78u : 0u);
    t[i] = c;
  }
  return t;
}();
}  // namespace detail

/// RFC 3720, appendix B.4: crc32c("123456789") == 0xE3069283.
constexpr std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t c = ~std::uint32_t{0};
  for (char const b : bytes) c = detail::crc32c_table[(c ^ static_cast<unsigned char>(b)) & 255u] ^ (c >> 8);
  return ~c;
}

/// The checksum as TFRecord stores it, so that a checksum of data with checksums in it does not degenerate.
constexpr std::uint32_t masked_crc32c(std::string_view bytes) {
  std::uint32_t const c = crc32c(bytes);
  return ((c >> 15) | (c << 17)) + 0xa282ead8u;
}

}  // namespace insula
