// SPDX-License-Identifier: Apache-2.0
// The deterministic filler of the golden numbers of 3D-Neuro-SimCLR and its masked autoencoder (docs/papers/neuro_simclr.md).
#pragma once

#include <cstdint>
#include <vector>

#include "insula/base/config.hpp"

namespace support {

/// n values, element i a function of (seed, i) alone, uniform in b +- a, rounded to float.
template <class T = float>
std::vector<T> neuro_fill(std::uint32_t seed, insula::index_t n, double a = 1, double b = 0) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) {
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
