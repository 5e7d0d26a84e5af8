// SPDX-License-Identifier: Apache-2.0
// Messages: joining values into one string, and the nearest known word for a misspelt one.
#pragma once

#include <array>
#include <charconv>
#include <concepts>
#include <string>
#include <string_view>
#include <vector>

#include "insula/base/dims.hpp"

namespace insula {

namespace detail {
inline void append(std::string& s, std::string_view v) { s += v; }
inline void append(std::string& s, std::same_as<bool> auto v) { s += v ? "true" : "false"; }
inline void append(std::string& s, char v) { s += v; }
template <class T>
requires((std::integral<T> || std::floating_point<T>)&&!std::same_as<T, bool> &&
         !std::same_as<T, char>) void append(std::string& s, T v) {
  std::array<char, 64> b;
  auto const r = std::to_chars(b.data(), b.data() + b.size(), v);
  s.append(b.data(), r.ptr);
}
inline void append(std::string& s, extent const& e) {
  append(s, e.d), s += 'x', append(s, e.h), s += 'x', append(s, e.w);
}
inline void append(std::string& s, dims const& v) {
  for (int i = 0; i < v.rank; ++i) {
    if (i) s += 'x';
    append(s, v.n[i]);
  }
}
}  // namespace detail

/// text("grid ", extent{2, 3, 4}, " of ", 5) == "grid 2x3x4 of 5". Numbers print in their shortest exact form.
template <class... A>
std::string text(A const&... a) {
  std::string s;
  (detail::append(s, a), ...);
  return s;
}

/// Smallest number of single-character edits (Levenshtein) that turns a into b.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t const above = row[j];
      std::size_t const shorter = row[j] < row[j - 1] ? row[j] : row[j - 1];
      std::size_t const changed = diagonal + (a[i - 1] != b[j - 1]);
      row[j] = shorter < changed ? shorter + 1 : changed;
      diagonal = above;
    }
  }
  return row[b.size()];
}

/// The candidate with the smallest edit distance to word; "" if there is none.
template <class Range>
std::string nearest_word(std::string_view word, Range const& candidates) {
  std::string best;
  std::size_t least = std::string::npos;
  for (auto const& c : candidates)
    if (auto const d = edit_distance(word, c); d < least) least = d, best = std::string(c);
  return best;
}

}  // namespace insula
