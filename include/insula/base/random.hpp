// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: every draw is a pure function of (seed, stream, counter).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "insula/base/config.hpp"

namespace insula {

/// Philox4x32-10: four 32-bit words from a 128-bit counter and a 64-bit key.
/// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 4.3.
constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c,
                                              std::array<std::uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    std::uint64_t const a = std::uint64_t{0xD2511F53u} * c[0], b = std::uint64_t{0xCD9E8D57u} * c[2];
    c = {std::uint32_t(b >> 32) ^ c[1] ^ k[0], std::uint32_t(b), std::uint32_t(a >> 32) ^ c[3] ^ k[1],
         std::uint32_t(a)};
    k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
  }
  return c;
}

/// A named place in the space of random numbers. Two keys that differ in any field give independent streams.
/// Convention: seed = the run's seed; stream = what it is for (a sample, a step, a layer); sub = a part of it.
struct random_key {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  std::uint32_t sub = 0;

  constexpr random_key with(std::uint32_t s) const { return {seed, stream, s}; }
};

/// The i-th block of four words of a key. i < 2^32.
constexpr std::array<std::uint32_t, 4> random_words(random_key k, std::uint32_t i) {
  return philox({i, k.sub, std::uint32_t(k.stream), std::uint32_t(k.stream >> 32)},
                {std::uint32_t(k.seed), std::uint32_t(k.seed >> 32)});
}

/// Uniform in [0, 1) with 53 random bits.
constexpr double to_uniform(std::uint32_t high, std::uint32_t low) {
  return double(((std::uint64_t{high} << 32) | low) >> 11) * 0x1p-53;
}

/// Mixes two words into a stream number (SplitMix64 finaliser), for example (epoch, sample).
constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t z = a * 0x9E3779B97F4A7C15u + b + 0x632BE59BD9B4E019u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/// A cursor over one key: draws in sequence, 16 bytes of state. Copy it to replay.
class random_stream {
 public:
  constexpr explicit random_stream(random_key k) : key_(k) {}

  constexpr std::uint32_t word() {
    if (used_ == 4) words_ = random_words(key_, next_++), used_ = 0;
    return words_[std::size_t(used_++)];
  }
  /// Uniform in [0, 1).
  constexpr double uniform() {
    auto const high = word(), low = word();
    return to_uniform(high, low);
  }
  /// Uniform in [low, high).
  constexpr double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Uniform integer in [0, n), unbiased (rejection). n >= 1.
  constexpr index_t below(index_t n) {
    auto const m = std::uint64_t(n), limit = ~std::uint64_t{0} - (~std::uint64_t{0} % m + 1) % m;
    for (;;) {
      std::uint64_t const high = word(), v = (high << 32) | word();
      if (v <= limit) return index_t(v % m);
    }
  }
  /// Standard normal (Box-Muller, one of the pair).
  double normal() {
    double const u = 1.0 - uniform(), v = uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
  }
  /// True with probability p.
  constexpr bool coin(double p) { return uniform() < p; }

 private:
  random_key key_;
  std::uint32_t next_ = 0;
  int used_ = 4;
  std::array<std::uint32_t, 4> words_{};
};

/// The i-th standard normal of a key, without a cursor: order of evaluation does not matter.
inline double normal_at(random_key k, std::uint32_t i) {
  auto const w = random_words(k, i);
  return std::sqrt(-2.0 * std::log(1.0 - to_uniform(w[0], w[1]))) *
         std::cos(2.0 * std::numbers::pi * to_uniform(w[2], w[3]));
}
/// The i-th uniform [0, 1) of a key.
constexpr double uniform_at(random_key k, std::uint32_t i) {
  auto const w = random_words(k, i);
  return to_uniform(w[0], w[1]);
}

}  // namespace insula
