// SPDX-License-Identifier: Apache-2.0
// A fast 64-bit checksum that tells whether stored voxels are still what was written.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace insula {

/// XXH64 with seed 0, after the published description of xxHash: fingerprint("abc") == 0x44bc2cf5ad770999. Finds accidents,
/// not forgeries. About as fast as memory is read.
inline std::uint64_t fingerprint(void const* data, std::size_t size) {
  constexpr std::uint64_t p1 = 0x9e3779b185ebca87u, p2 = 0xc2b2ae3d27d4eb4fu, p3 = 0x165667b19e3779f9u,
                          p4 = 0x85ebca77c2b2ae63u, p5 = 0x27d4eb2f165667c5u;
  auto const* at = static_cast<unsigned char const*>(data);
  auto const load = [&]<class T>(T word) {
    std::memcpy(&word, at, sizeof word);
    return std::uint64_t(word);
  };
  auto const round = [](std::uint64_t lane, std::uint64_t word) {
    return std::rotl(lane + word * p2, 31) * p1;
  };
  std::size_t left = size;
  std::uint64_t h = p5;
  if (size >= 32) {
    std::uint64_t lane[4] = {p1 + p2, p2, 0, 0 - p1};
    for (; left >= 32; left -= 32)
      for (auto& l : lane) l = round(l, load(std::uint64_t{})), at += 8;
    h = std::rotl(lane[0], 1) + std::rotl(lane[1], 7) + std::rotl(lane[2], 12) + std::rotl(lane[3], 18);
    for (auto const l : lane) h = (h ^ round(0, l)) * p1 + p4;
  }
  h += size;
  for (; left >= 8; left -= 8, at += 8) h = std::rotl(h ^ round(0, load(std::uint64_t{})), 27) * p1 + p4;
  if (left >= 4) h = std::rotl(h ^ (load(std::uint32_t{}) * p1), 23) * p2 + p3, at += 4, left -= 4;
  for (; left > 0; --left, ++at) h = std::rotl(h ^ (*at * p5), 11) * p1;
  h = (h ^ (h >> 33)) * p2;
  h = (h ^ (h >> 29)) * p3;
  return h ^ (h >> 32);
}
inline std::uint64_t fingerprint(std::string_view bytes) { return fingerprint(bytes.data(), bytes.size()); }

/// Sixteen hexadecimal digits.
inline std::string hexadecimal(std::uint64_t x) {
  std::string s(16, '0');
  for (std::size_t i = 16; i-- > 0; x >>= 4) s[i] = "0123456789abcdef"[x & 15];
  return s;
}

}  // namespace insula
