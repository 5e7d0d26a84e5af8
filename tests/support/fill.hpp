// SPDX-License-Identifier: Apache-2.0
// The deterministic fill of the golden numbers of 3D-Neuro-SimCLR.
#pragma once

#include <cstdint>
#include <vector>

namespace support {

/// Element i in [b - a, b + a), rounded to float and then widened: a hash of i + seed * 0x9E3779B9.
template <class T = double>
std::vector<T> fill(std::uint32_t seed, std::size_t n, double a = 1, double b = 0) {
  std::vector<T> v(n);
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t h = std::uint32_t(i) + seed * 0x9E3779B9u;
    h ^= h >> 16;
    h *= 0x85EBCA6Bu;
    h ^= h >> 13;
    h *= 0xC2B2AE35u;
    h ^= h >> 16;
    v[i] = T(float((2.0 * double(h) / 4294967296.0 - 1.0) * a + b));
  }
  return v;
}

}  // namespace support
