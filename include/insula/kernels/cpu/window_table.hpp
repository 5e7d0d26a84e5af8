// SPDX-License-Identifier: Apache-2.0
// The relative-position table of window attention, expanded to the biases of scores.
#pragma once

#include "insula/kernels/cpu/row.hpp"
#include "insula/kernels/cpu/window_stage.hpp"

namespace insula::windowed {

/// Places along the relative-position table: row(i, j) = code(i) - code(j) + centre, and 2 centre is the last row.
struct table_codes {
  extent window;
  constexpr index_t code(index_t t) const {
    index_t const d = t / (window.h * window.w), h = t / window.w % window.h, w = t % window.w;
    return (d * (2 * window.h - 1) + h) * (2 * window.w - 1) + w;
  }
  constexpr index_t centre() const {
    return ((window.d - 1) * (2 * window.h - 1) + window.h - 1) * (2 * window.w - 1) + window.w - 1;
  }
};

/// out (size) = log2(e) times one head of the table, reversed, so that keys along a window row are contiguous in it, and 0 behind.
template <scalar T>
void reverse_table(sizes<T> const& s, T const* table, index_t head, T* out, index_t size) {
  index_t const entries = s.g.table_rows();
  for (index_t r = 0; r < entries; ++r)
    out[r] = table ? log2e<T> * table[(entries - 1 - r) * s.heads + head] : T(0);
  for (index_t r = entries; r < size; ++r) out[r] = 0;
}

/// Biases of one head's scores: those of query `token` begin at data + at[token], or if `at` is null, at data + token * stride; those
/// of the keys from `whole` on, if `last` is given, at last + token * last_stride. What is `ahead` elements further on, if not 0, is the
/// bias of a later query and asked for.
template <scalar T>
struct head_biases {
  T const* data = nullptr;
  index_t stride = 0;
  std::int32_t const* at = nullptr;
  T const* last = nullptr;
  index_t last_stride = 0, whole = 0;
  index_t ahead = 0;

  T const* of(index_t token) const { return data + (at ? index_t(at[token]) : token * stride); }
  /// So that those of key j are at j.
  T const* last_of(index_t token) const { return last ? last + token * last_stride - whole : of(token); }
};

/// log2(e) table[relative_position(i, j)][head] for queries i and keys j; what fills up the keys gets a score that is never chosen.
template <scalar T>
class expanded_table {
 public:
  expanded_table() = default;
  expanded_table(context<cpu>& cx, scratch& all, sizes<T> const& s, T const* table)
      : plane_(biases_by_plane ? s.g.window.h * s.g.window.w : s.tokens),
        planes_(chunk_count(s.tokens, plane_)),
        keys_(s.keys),
        whole_(biases_by_plane ? s.tokens / tile_keys<T> * tile_keys<T> : s.keys),
        rows_(plane_ < s.tokens ? plane_ : s.tokens),
        row_(biases_by_plane ? (2 * planes_ - 1) * plane_ : s.keys),
        tokens_(s.tokens),
        data_(all.take<T>(s.heads * size())),
        at_(all.take<std::int32_t>(tokens_)) {
    for (index_t i = 0; i < tokens_; ++i)
      at_[i] = std::int32_t(i % plane_ * row_ + (planes_ - 1 - i / plane_) * plane_);
    cx.pool.run(s.heads, [&](index_t h, int worker) {
      scratch memory(cx, worker);
      fill(memory, s, table, h);
    });
  }

  head_biases<T> head(index_t h) const {
    T const* const data = data_ + h * size();
    return {.data = data,
            .at = at_,
            .last = whole_ < keys_ ? data + rows_ * row_ : nullptr,
            .last_stride = keys_ - whole_,
            .whole = whole_,
            .ahead = biases_by_plane ? 0 : tile_queries * keys_};
  }

 private:
  index_t size() const { return rows_ * row_ + tokens_ * (keys_ - whole_); }

  void fill(scratch& memory, sizes<T> const& s, T const* table, index_t head) const {
    table_codes const codes{s.g.window};
    index_t const entries = s.g.table_rows(), run = s.g.window.w, up = (2 * s.g.window.h - 1) * (2 * run - 1);
    T* const reversed = memory.take<T>(entries + simd::width<T>);
    reverse_table(s, table, head, reversed, entries + simd::width<T>);
    T* const data = data_ + head * size();
    index_t const filled = (2 * planes_ - 1) * plane_, runs = chunk_count(filled, run);
    index_t* const start = memory.take<index_t>(runs);  // of pieces along a window row
    for (index_t r = 0; r < runs; ++r)
      start[r] = codes.code(r * run % plane_) + (r * run / plane_ - (planes_ - 1)) * up;
    for (index_t i = 0; i < rows_; ++i) {
      T* const to = data + i * row_;
      T const* const from = reversed + codes.centre() - codes.code(i);
      for (index_t r = 0; r < runs; ++r) {
        index_t const j = r * run, length = filled - j < run ? filled - j : run;
        for (index_t e = 0; e < length;
             e += simd::width<T>)  // what is too much is overwritten by the next piece
          if (j + e + simd::width<T> <= row_)
            simd::store(to + j + e, simd::load(from + start[r] + e));
          else
            simd::store(to + j + e, simd::load(from + start[r] + e, int(length - e)), int(length - e));
      }
      for (index_t j = filled; j < row_; ++j) to[j] = no_key<T>;
    }
    index_t const left = keys_ - whole_;
    for (index_t i = 0; left > 0 && i < tokens_; ++i) {
      T* const to = data + rows_ * row_ + i * left;
      for (index_t j = 0; j < left; ++j) to[j] = whole_ + j < tokens_ ? data[at_[i] + whole_ + j] : no_key<T>;
    }
  }

  index_t plane_ = 1, planes_ = 1, keys_ = 0, whole_ = 0, rows_ = 0, row_ = 0, tokens_ = 0;
  T* data_ = nullptr;
  std::int32_t* at_ = nullptr;
};

}  // namespace insula::windowed
