// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: known answers of Philox, independence of keys, ranges, moments.
#include "insula/base/random.hpp"

#include <set>
#include <vector>

#include "support/catch.hpp"

using namespace insula;

using words = std::array<std::uint32_t, 4>;

TEST_CASE("Philox4x32-10 gives the known answers of Random123") {
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t f = 0xffffffff;
  CHECK(philox({f, f, f, f}, {f, f}) == words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("keys that differ in any field give other numbers") {
  random_key const k{1, 2, 3};
  std::set<words> seen;
  for (auto const& key :
       {k, random_key{2, 2, 3}, {1, 3, 3}, {1, 2, 4}, {1ull << 32 | 1, 2, 3}, {1, 1ull << 32 | 2, 3}})
    for (std::uint32_t i : {0u, 1u}) seen.insert(random_words(key, i));
  CHECK(seen.size() == 12);
}

TEST_CASE("a stream is what its counters give, and a copy replays it") {
  random_stream s({7, 8, 9});
  auto const w = random_words({7, 8, 9}, 0), next = random_words({7, 8, 9}, 1);
  for (int i = 0; i < 4; ++i) CHECK(s.word() == w[std::size_t(i)]);
  auto copy = s;
  CHECK(s.word() == next[0]);
  CHECK(copy.word() == next[0]);
}

TEST_CASE("uniform numbers are in [0, 1) and normal ones have mean 0 and deviation 1") {
  CHECK(to_uniform(0, 0) == 0);
  CHECK(to_uniform(0xffffffff, 0xffffffff) < 1);
  int const n = 40000;
  double sum = 0, normal = 0, square = 0, fourth = 0;
  for (int i = 0; i < n; ++i) {
    double const u = uniform_at({1, 2}, std::uint32_t(i)), z = normal_at({1, 3}, std::uint32_t(i));
    sum += u, normal += z, square += z * z, fourth += z * z * z * z;
  }
  CHECK(std::abs(sum / n - 0.5) < 5 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(normal / n) < 5 / std::sqrt(double(n)));
  CHECK(std::abs(square / n - 1) < 5 * std::sqrt(2.0 / n));
  CHECK(std::abs(fourth / n - 3) < 5 * std::sqrt(96.0 / n));
}

TEST_CASE("whole numbers below n are all reached, evenly") {
  random_stream s({4, 5});
  std::vector<int> count(7);
  for (int i = 0; i < 14000; ++i) ++count[std::size_t(s.below(7))];
  for (int c : count) CHECK(std::abs(c - 2000) < 5 * std::sqrt(2000.0));
  CHECK(s.below(1) == 0);
}
