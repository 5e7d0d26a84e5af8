// SPDX-License-Identifier: Apache-2.0
// Splits of subjects into parts, among them the exact splits of published runs; no subject is ever in two parts.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/random.hpp"

namespace insula {

namespace detail {
/// A seed sequence that hands std::mt19937 the state that the reference init_by_array({key}) makes.
/// Matsumoto and Nishimura, mt19937ar.c.
struct init_by_array {
  std::uint32_t key;

  using result_type = std::uint32_t;
  template <class It>
  void generate(It begin, It end) const {
    constexpr std::uint32_t n = 624;
    check(end - begin == n, "init_by_array: the engine asks for ", end - begin, " words of state, not 624");
    std::vector<std::uint32_t> mt(n);
    mt[0] = 19650218u;
    for (std::uint32_t j = 1; j < n; ++j) mt[j] = 1812433253u * (mt[j - 1] ^ (mt[j - 1] >> 30)) + j;
    std::uint32_t i = 1;
    auto const step = [&] {
      if (++i >= n) mt[0] = mt[n - 1], i = 1;
    };
    for (std::uint32_t k = 0; k < n; ++k, step())
      mt[i] = (mt[i] ^ ((mt[i - 1] ^ (mt[i - 1] >> 30)) * 1664525u)) + key;
    for (std::uint32_t k = 0; k < n - 1; ++k, step())
      mt[i] = (mt[i] ^ ((mt[i - 1] ^ (mt[i - 1] >> 30)) * 1566083941u)) - i;
    mt[0] = 0x80000000u;
    std::copy(mt.begin(), mt.end(), begin);
  }
};

inline std::vector<index_t> counting(index_t n) {
  check(n >= 0 && n <= (index_t{1} << 31), "split: the number of items is ", n, ", it must be 0 to 2^31");
  std::vector<index_t> v(static_cast<std::size_t>(n));
  std::iota(v.begin(), v.end(), index_t{0});
  return v;
}
}  // namespace detail

/// NumPy's RandomState(seed).permutation(n): for i = n-1 .. 1 draw v = word & mask until v <= i, mask the smallest
/// 2^b - 1 >= i; swap i and v.
inline std::vector<index_t> numpy_permutation(std::uint32_t seed, index_t n) {
  std::mt19937 words(seed);
  auto order = detail::counting(n);
  for (index_t i = n - 1; i > 0; --i) {
    std::uint32_t const mask = std::uint32_t((std::uint64_t{1} << std::bit_width(std::uint64_t(i))) - 1);
    std::uint32_t v;
    do v = std::uint32_t(words()) & mask;
    while (index_t(v) > i);
    std::swap(order[std::size_t(i)], order[std::size_t(v)]);
  }
  return order;
}

/// The order that Python's random.Random(seed).shuffle gives 0 .. n-1: for i = n-1 .. 1 draw
/// v = word >> (32 - bits of (i + 1)) until v <= i; swap i and v.
inline std::vector<index_t> python_shuffle(std::uint32_t seed, index_t n) {
  detail::init_by_array state{seed};
  std::mt19937 words(state);
  auto order = detail::counting(n);
  for (index_t i = n - 1; i > 0; --i) {
    int const bits = int(std::bit_width(std::uint64_t(i + 1)));
    std::uint32_t v;
    do v = std::uint32_t(words()) >> (32 - bits);
    while (index_t(v) > i);
    std::swap(order[std::size_t(i)], order[std::size_t(v)]);
  }
  return order;
}

/// Subjects by part. Made by the functions below, or by hand and then checked with check_no_overlap().
struct subject_split {
  std::vector<std::string> train, validation, test;
};

/// Throws error naming the first subject that is in two parts, or twice in one.
inline void check_no_overlap(subject_split const& s) {
  std::map<std::string, char const*> part_of;
  auto const add = [&](char const* part, std::vector<std::string> const& subjects) {
    for (auto const& subject : subjects) {
      auto const [at, fresh] = part_of.emplace(subject, part);
      check(fresh, "subject_split: subject \"", subject, "\" is in ", at->second, " and in ", part,
            ": the parts would leak; put every subject into one part");
    }
  };
  add("train", s.train), add("validation", s.validation), add("test", s.test);
}

/// Each subject once, in the order of strings.
inline std::vector<std::string> unique_subjects(std::vector<std::string> subjects) {
  std::sort(subjects.begin(), subjects.end());
  subjects.erase(std::unique(subjects.begin(), subjects.end()), subjects.end());
  return subjects;
}

/// UMBRA's split of patients: sorted as strings, P = numpy_permutation(seed, n), the first ceil(fraction n) are for
/// validation, the others, in the order of P, for training. Repeated ids count once. 0 <= fraction <= 1.
inline subject_split patient_split(std::vector<std::string> ids, double fraction = 0.02,
                                   std::uint32_t seed = 42) {
  check(fraction >= 0 && fraction <= 1, "patient_split: the validation fraction is ", fraction,
        ", it must be 0 to 1");
  ids = unique_subjects(std::move(ids));
  auto const order = numpy_permutation(seed, index_t(ids.size()));
  auto const held = std::size_t(std::ceil(fraction * double(ids.size())));
  subject_split s;
  for (std::size_t i = 0; i < order.size(); ++i)
    (i < held ? s.validation : s.train).push_back(ids[std::size_t(order[i])]);
  return s;
}

/// UMBRA's few-shot subset: sorted as strings, python_shuffle(seed), the first int(n fraction); all of them, sorted, if
/// the fraction is 1. 0 <= fraction <= 1.
inline std::vector<std::string> few_shot_subset(std::vector<std::string> ids, double fraction,
                                                std::uint32_t seed = 42) {
  check(fraction >= 0 && fraction <= 1, "few_shot_subset: the fraction is ", fraction, ", it must be 0 to 1");
  std::sort(ids.begin(), ids.end());
  if (fraction == 1) return ids;
  auto const order = python_shuffle(seed, index_t(ids.size()));
  std::vector<std::string> subset;
  for (std::size_t i = 0; i < std::size_t(double(ids.size()) * fraction); ++i)
    subset.push_back(ids[std::size_t(order[i])]);
  return subset;
}

/// A split by fractions, the rest being for training: subjects (each counted once, whatever their order in `ids`) are
/// ranked by a Philox draw of (key, place in string order). round(fraction n) subjects per held-out part.
inline subject_split random_split(std::vector<std::string> ids, double validation, double test,
                                  random_key key) {
  check(validation >= 0 && test >= 0 && validation + test <= 1, "random_split: validation ", validation,
        " and test ", test, " must not be negative nor add up to more than 1");
  ids = unique_subjects(std::move(ids));
  std::vector<std::pair<double, std::size_t>> rank;
  for (std::size_t i = 0; i < ids.size(); ++i) rank.emplace_back(uniform_at(key, std::uint32_t(i)), i);
  std::sort(rank.begin(), rank.end());
  auto const n = double(ids.size());
  auto const first = std::size_t(std::lround(validation * n)),
             second = first + std::size_t(std::lround(test * n));
  subject_split s;
  for (std::size_t i = 0; i < rank.size(); ++i)
    (i < first ? s.validation : i < second ? s.test : s.train).push_back(ids[rank[i].second]);
  for (auto* part : {&s.train, &s.validation, &s.test}) std::sort(part->begin(), part->end());
  return s;
}

enum class split_part { train, validation, test };

/// The part of each item, given the subject that each item (scan, session, pair) belongs to. Throws error if a subject is
/// in two parts or in none.
inline std::vector<split_part> part_of_items(subject_split const& s,
                                             std::vector<std::string> const& subject_of_item) {
  check_no_overlap(s);
  std::map<std::string, split_part> part;
  for (auto const& id : s.train) part[id] = split_part::train;
  for (auto const& id : s.validation) part[id] = split_part::validation;
  for (auto const& id : s.test) part[id] = split_part::test;
  std::vector<split_part> parts;
  for (auto const& id : subject_of_item) {
    auto const at = part.find(id);
    check(at != part.end(), "part_of_items: subject \"", id, "\" is in no part of the split");
    parts.push_back(at->second);
  }
  return parts;
}

}  // namespace insula
