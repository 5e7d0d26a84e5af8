// SPDX-License-Identifier: Apache-2.0
// Windows with fewer pairs of a query and a key. Regions that the mask parts are windows of their own where scores are such
// that nothing comes through the mask. Padding tokens are one key. All of them hold the same key and value, those of the bias,
// so that
//   sum over them of 2^(q k + b_j) v = 2^(q k + B) v   with   B = log2(sum of 2^b_j),
// b_j being an entry of the relative-position table and the mask between regions. What is left of a window are its real tokens
// and one key more. B of all queries are three sums along the axes, and so are the gradients of the table.
#pragma once

#include <cmath>
#include <limits>

#include "insula/kernels/cpu/row.hpp"
#include "insula/kernels/cpu/window_diagonals.hpp"

namespace insula::windowed {

/// What such windows need of the table, for one call: log2(e) times it, and powers of two, reversed, by head.
template <scalar T>
class reduced_windows {
 public:
  reduced_windows(context<cpu>& cx, scratch& memory, sizes<T> const& s, T const* table)
      : s_(s), codes_{s.g.window} {
    bool padded = false, shifted = false;
    for (int i = 0; i < 3; ++i) {
      padded = padded || s.count[i] * s.used[i] > s.g.grid[i];
      shifted = shifted || s.shift[i] > 0;
    }
    padded_ = padded && s.nominal, shifted_ = shifted && s.nominal, every_ = s.few;
    if (!padded_ && !shifted_ && !every_) return;
    constexpr index_t w = simd::width<T>;
    entries_ = round_up(s.g.table_rows() + w, w);  // so that whole registers may be read from any entry
    table_ = memory.take<T>(s.heads * entries_);
    powers_ = memory.take<T>(s.heads * entries_);
    largest_ = memory.take<T>(s.heads), span_ = memory.take<T>(s.heads);
    cx.pool.run(s.heads, [&](index_t h, int) {
      T *const mine = table_ + h * entries_, *const power = powers_ + h * entries_;
      reverse_table(s, table, h, mine, entries_);
      T largest = mine[0], smallest = mine[0];
      for (index_t i = 1; i < s.g.table_rows(); ++i)
        largest = mine[i] > largest ? mine[i] : largest, smallest = mine[i] < smallest ? mine[i] : smallest;
      for (index_t i = 0; i < entries_; i += w)
        simd::store(power + i, simd::exp2<T>(simd::load(mine + i) - simd::broadcast(largest)));
      for (index_t i = s.g.table_rows(); i < entries_; ++i) power[i] = 0;
      largest_[h] = largest, span_[h] = largest - smallest;
    });
  }

  /// Whether there are so few windows that each reads the table itself, reduced or not: none of it need be expanded.
  bool every() const { return every_; }

  /// Whether so many tokens of a window are padding that it pays: a quarter where gradients follow, else three eighths, in
  /// windows that are not small.
  bool collapse(window_rows const& of, bool gradients) const {
    return padded_ && 8 * of.paddings >= (gradients ? 2 : 3) * s_.tokens &&
           of.rows * of.paddings >= least_pairs;
  }

  /// Whether each region of a window may be attended to on its own. Every query is a key of its own region, so that a key j
  /// of another has at most the weight e^(-100 + (a_ij - a_ii)) beside it, a being scores without the mask; and
  ///   a_ij - a_ii <= |q_i| (|k_j - m| + |k_i - m|) / sqrt(width) + (largest - smallest entry of the table),
  /// m being the mean key. What is left out is below the rounding of a sum. Not in windows that are small. qkv (rows, 3 channels)
  /// has no bias yet.
  bool takes_apart(scratch& memory, window_rows const& of, T const* qkv, T const* bias, index_t head) const {
    if (!of.mixed || !shifted_) return false;
    index_t saved = of.rows * s_.tokens;
    for (int i = 0; i < of.part_count; ++i) {
      index_t const rows = of.parts[i].to - of.parts[i].from;
      saved -= rows * rows;
    }
    if (saved < least_pairs) return false;
    constexpr T negligible =
        sizeof(T) == 4 ? T(24) : T(45);  // e^-24 = 4e-11, e^-45 = 3e-20, of hundreds of keys
    T const *const q = qkv + head * s_.width, *const k = q + s_.channels;
    index_t const row = 3 * s_.channels;
    T* const minus_mean = memory.take<T>(s_.width);
    auto const factor = simd::broadcast(T(-1) / T(of.rows));
    for_packs<T>(s_.width, [&](index_t e, auto n) {
      auto sum = simd::zero<T>();
      for (index_t r = 0; r < of.rows; ++r) sum += load<T>(k + r * row + e, n);
      store<T>(minus_mean + e, sum * factor, n);
    });
    auto const square = [&](T const* from, T const* offset) {  // of |from + offset|
      auto sum = simd::zero<T>();
      for_packs<T>(s_.width, [&](index_t e, auto n) {
        auto u = load<T>(from + e, n);
        if (offset) u += load<T>(offset + e, n);
        sum = simd::fma(u, u, sum);
      });
      return simd::sum<T>(sum);
    };
    // the bias is part of all keys, and the key of padding
    T largest_q = 0, largest_k = of.paddings > 0 ? square(minus_mean, nullptr) : T(0);
    bool finite = true;  // what is not reaches every region
    for (index_t r = 0; r < of.rows; ++r) {
      T const of_q = square(q + r * row, bias ? bias + head * s_.width : nullptr),
              of_k = square(k + r * row, minus_mean);
      finite = finite && of_q + of_k < std::numeric_limits<T>::infinity();
      largest_q = of_q > largest_q ? of_q : largest_q, largest_k = of_k > largest_k ? of_k : largest_k;
    }
    T const most = 2 * std::sqrt(largest_q) * std::sqrt(largest_k) / std::sqrt(T(s_.width));
    return finite && most + ln2<T> * span_[head] <= 100 - negligible;
  }

  /// Whether any query meets padding.
  static bool meets_padding(window_rows const& of, bool apart) {
    if (!apart) return of.paddings > 0;
    bool any = false;
    for (int i = 0; i < of.part_count; ++i) any = any || of.parts[i].padding_to > of.parts[i].padding_from;
    return any;
  }

  /// What stands for the sizes, the rows and the bias of a window whose padding is one key.
  struct view {
    sizes<T> s;
    window_rows window;  // token: its own rows; padding: the key behind them, if there is any
    T* bias;             // (rows, keys)

    head_biases<T> biases() const { return {.data = bias, .stride = s.keys, .ahead = tile_queries * s.keys}; }
  };

  /// One head of one window or of its tokens of one region. powers: sums() of the window if any of its queries meets padding. sums
  /// (rows) = those of 2^(b - largest), 0 where they are out of range.
  view look(scratch& memory, window_rows const& of, index_t head, T const* powers, T* sums) const {
    view v{s_, window_rows(memory, of.rows + 1, {}), nullptr};
    index_t const padded = of.paddings > 0;
    v.s.set_tokens(of.rows + padded);
    v.bias = memory.take<T>(of.rows * v.s.keys + simd::width<T>);
    v.window.rows = of.rows, v.window.paddings = padded, v.window.first = of.first;
    v.window.mixed = of.mixed, v.window.at = of.at, v.window.padding[0] = std::int32_t(of.rows);
    for (index_t r = 0; r < of.rows; ++r)
      v.window.token[r] = std::int32_t(r), v.window.region[r] = of.region[of.token[r]];
    v.window.region[of.rows] = window_rows::every_region;
    real_keys(memory, of, head, v);
    if (padded) one_key(memory, of, head, v, powers, sums);
    return v;
  }

  /// Sums (window rows, padded to registers) of the powers between each token and the padding, all of it or that of its region.
  T* sums(scratch& memory, window_rows const& of, index_t head, bool by_region) const {
    axes const a(memory, s_, of, by_region);
    T* const to = memory.take<T>(a.planes * a.row);
    add_up(memory, a, powers_ + head * entries_, to);
    return to;
  }

  /// table (diagonals) += the gradients ga (rows) of the scores of the one key, by entry; sums (rows) as look() leaves them.
  void add_gradient(scratch& memory, window_rows const& of, index_t head, T const* sums, T const* ga,
                    diagonals<T> const& layout, T* table) const {
    axes const a(memory, s_, of, true);
    // what the entries of a query's row get, over 2^(b - largest)
    T* const share = memory.take<T>(a.planes * a.row);
    simd::clear(a.planes * a.row, share);
    for (index_t r = 0; r < of.rows; ++r) {
      if (ga[r] == 0) continue;
      if (sums[r] > 0)
        share[of.token[r] / a.w * a.row + of.token[r] % a.w] = ga[r] / sums[r];
      else
        add_exactly(of, of.token[r], head, ga[r], layout, table);
    }
    spread(memory, a, share, powers_ + head * entries_, layout.row, table);
  }

 private:
  static constexpr index_t least_pairs = 4096;                            // that a window must save
  static constexpr T least = sizeof(T) == 4 ? T(0x1p-100) : T(0x1p-900);  // of sums in which little was lost

  /// How tokens lie along the axes, and which keys of an axis are of the region of a query.
  struct axes {
    index_t d, h, w, row, planes, distances;  // planes: rows of tokens; distances: rows of the table
    window_rows const& of;
    /// (2 w - 1, row) by distance and query along w: 1 where the key is of its region; where it is padding, too.
    T *any, *pad;
    bool masked;  // keys of other regions do not count

    axes(scratch& memory, sizes<T> const& s, window_rows const& window, bool by_region)
        : d(s.used.d),
          h(s.used.h),
          w(s.used.w),
          row(round_up(w, simd::width<T>)),
          planes(d * h),
          distances((2 * d - 1) * (2 * h - 1)),
          of(window),
          any(memory.take<T>((2 * w - 1) * row)),
          pad(memory.take<T>((2 * w - 1) * row)),
          masked(by_region) {
      simd::clear((2 * w - 1) * row, any), simd::clear((2 * w - 1) * row, pad);
      for (index_t i = 0; i < w; ++i)
        for (index_t j = 0; j < w; ++j) {
          index_t const at = (j - i + w - 1) * row + i;
          any[at] = together(2, i, j), pad[at] = together(2, i, j) && padding(2, j);
        }
    }
    bool padding(int axis, index_t i) const { return of.axis[axis].padding[i] != 0; }
    bool together(int axis, index_t i, index_t j) const {
      return !masked || of.axis[axis].beyond[i] == of.axis[axis].beyond[j];
    }
  };

  /// The table's entries between the real tokens; what fills up the keys gets a score that is never chosen.
  void real_keys(scratch& memory, window_rows const& of, index_t head, view const& v) const {
    constexpr index_t w = simd::width<T>;
    struct run {  // of keys along a window row
      std::int32_t from, length;
    };
    run* const runs = memory.take<run>(of.rows);
    index_t count = 0;
    for (index_t r = 0; r < of.rows; ++r)
      if (r > 0 && of.token[r] == of.token[r - 1] + 1 && of.token[r] % s_.used.w != 0)
        ++runs[count - 1].length;
      else
        runs[count++] = {std::int32_t(codes_.code(of.token[r])), 1};
    auto const fill = [&](auto copy) {  // what a run copies too much is overwritten by the next
      for (index_t r = 0; r < of.rows; ++r) {
        T* to = v.bias + r * v.s.keys;
        T const* const from = table_ + head * entries_ + codes_.centre() - codes_.code(of.token[r]);
        for (run const* i = runs; i < runs + count; to += i->length, ++i) copy(to, from + i->from, i->length);
        for (index_t j = v.s.tokens; j < v.s.keys; ++j) v.bias[r * v.s.keys + j] = no_key<T>;
      }
    };
    if (s_.used.w <= w)
      fill([](T* to, T const* from, index_t) { simd::store(to, simd::load(from)); });
    else
      fill([](T* to, T const* from, index_t length) {
        for (index_t e = 0; e < length; e += w) simd::store(to + e, simd::load(from + e));
      });
  }

  /// The scores' bias of the one key.
  void one_key(scratch& memory, window_rows const& of, index_t head, view const& v, T const* mine,
               T* sums_of_rows) const {
    T const* const all = of.mixed ? sums(memory, of, head, false) : mine;
    for (index_t r = 0; r < of.rows; ++r) {
      index_t const token = of.token[r],
                    at = token / s_.used.w * round_up(s_.used.w, simd::width<T>) + token % s_.used.w;
      sums_of_rows[r] = mine[at] > least ? mine[at] : T(0);
      T& to = v.bias[r * v.s.keys + of.rows];
      if (mine[at] > least)
        to = largest_[head] + std::log2(mine[at]);
      else if (mine[at] == 0 && all[at] > least)  // the mask lies between the query and all padding
        to = largest_[head] + std::log2(all[at]) + masked_score<T>;
      else
        to = log_of_sum(of, token, head);
    }
  }

  /// sums (planes, row) of the powers between each query and the padding of its region: along w, then h, then d.
  void add_up(scratch& memory, axes const& a, T const* power, T* sums) const {
    constexpr index_t w = simd::width<T>;
    index_t const row = a.row, hs = 2 * a.h - 1, ds = 2 * a.d - 1;
    T *const any = memory.take<T>(a.distances * row), *const pad = memory.take<T>(a.distances * row);
    index_t p = 0;
    for (; p + 4 <= a.distances; p += 4) along_w<4>(a, power, p, any, pad);
    for (; p < a.distances; ++p) along_w<1>(a, power, p, any, pad);
    T *const all_h = memory.take<T>(ds * a.h * row), *const pad_h = memory.take<T>(ds * a.h * row);
    for (index_t d = 0; d < ds; ++d)
      for (index_t i = 0; i < a.h; ++i)
        for (index_t e = 0; e < row; e += w) {
          auto x = simd::zero<T>(), y = simd::zero<T>();
          for (index_t j = 0; j < a.h; ++j) {
            if (!a.together(1, i, j)) continue;
            index_t const from = (d * hs + j - i + a.h - 1) * row + e;
            x += simd::load(any + from), y += simd::load((a.padding(1, j) ? any : pad) + from);
          }
          index_t const to = (d * a.h + i) * row + e;
          simd::store(all_h + to, x), simd::store(pad_h + to, y);
        }
    index_t const plane = a.h * row;
    for (index_t i = 0; i < a.d; ++i)
      for (index_t e = 0; e < plane; e += w) {
        auto x = simd::zero<T>();
        for (index_t j = 0; j < a.d; ++j)
          if (a.together(0, i, j))
            x += simd::load((a.padding(0, j) ? all_h : pad_h) + (j - i + a.d - 1) * plane + e);
        simd::store(sums + i * plane + e, x);
      }
  }
  /// N rows of the table from row p on.
  template <int N>
  static void along_w(axes const& a, T const* power, index_t p, T* any, T* pad) {
    index_t const row = a.row, length = 2 * a.w - 1;
    for (index_t e = 0; e < row; e += simd::width<T>) {
      simd::pack<T> x[N]{}, y[N]{};
      for (index_t l = 0; l < length; ++l) {
        auto const of_any = simd::load(a.any + l * row + e), of_pad = simd::load(a.pad + l * row + e);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
          auto const u = simd::broadcast(power[(p + n) * length + l]);
          x[n] = simd::fma(u, of_any, x[n]), y[n] = simd::fma(u, of_pad, y[n]);
        }
      }
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n)
        simd::store(any + (p + n) * row + e, x[n]), simd::store(pad + (p + n) * row + e, y[n]);
    }
  }

  /// The transpose: what the queries share out, to the table's entries.
  void spread(scratch& memory, axes const& a, T const* share, T const* power, index_t table_row,
              T* table) const {
    constexpr index_t w = simd::width<T>;
    index_t const row = a.row, hs = 2 * a.h - 1, ds = 2 * a.d - 1, plane = a.h * row;
    T *const all_h = memory.take<T>(ds * plane), *const pad_h = memory.take<T>(ds * plane);
    for (index_t d = 0; d < ds; ++d)
      for (index_t e = 0; e < plane; e += w) {
        auto x = simd::zero<T>(), y = simd::zero<T>();
        for (index_t i = 0; i < a.d; ++i) {
          index_t const j = i + d - a.d + 1;
          if (j < 0 || j >= a.d || !a.together(0, i, j)) continue;
          auto const u = simd::load(share + i * plane + e);
          a.padding(0, j) ? x += u : y += u;
        }
        simd::store(all_h + d * plane + e, x), simd::store(pad_h + d * plane + e, y);
      }
    T *const any = memory.take<T>(a.distances * row), *const pad = memory.take<T>(a.distances * row);
    for (index_t d = 0; d < ds; ++d)
      for (index_t h = 0; h < hs; ++h)
        for (index_t e = 0; e < row; e += w) {
          auto x = simd::zero<T>(), y = simd::zero<T>();
          for (index_t i = 0; i < a.h; ++i) {
            index_t const j = i + h - a.h + 1, from = (d * a.h + i) * row + e;
            if (j < 0 || j >= a.h || !a.together(1, i, j)) continue;
            auto const u = simd::load(pad_h + from);
            x += simd::load(all_h + from);
            a.padding(1, j) ? x += u : y += u;
          }
          simd::store(any + (d * hs + h) * row + e, x), simd::store(pad + (d * hs + h) * row + e, y);
        }
    T *const any_of = memory.take<T>(a.w * table_row), *const pad_of = memory.take<T>(a.w * table_row);
    for (index_t i = 0; i < a.w; ++i)
      for (index_t l = 0; l < table_row; ++l) {
        bool const inside = l < 2 * a.w - 1;
        any_of[i * table_row + l] = inside ? a.any[l * row + i] : T(0);
        pad_of[i * table_row + l] = inside ? a.pad[l * row + i] : T(0);
      }
    for (index_t p = 0; p < a.distances; ++p) {  // distances run from key to query there
      T* const to = table + (a.distances - 1 - p) * table_row;
      for (index_t l = 0; l < table_row; l += w) {
        auto x = simd::zero<T>(), y = simd::zero<T>();
        for (index_t i = 0; i < a.w; ++i) {
          x = simd::fma(simd::load(any_of + i * table_row + l), simd::broadcast(any[p * row + i]), x);
          y = simd::fma(simd::load(pad_of + i * table_row + l), simd::broadcast(pad[p * row + i]), y);
        }
        auto const u = simd::load(power + p * (2 * a.w - 1) + l);
        simd::store(to + l, simd::fma(u, x + y, simd::load(to + l)));
      }
    }
  }

  /// log2 of the sum where it is out of range.
  T log_of_sum(window_rows const& of, index_t query, index_t head) const {
    double largest = -INFINITY, sum = 0;
    each_score(of, query, head, [&](index_t, double b) { largest = b > largest ? b : largest; });
    each_score(of, query, head, [&](index_t, double b) { sum += std::exp2(b - largest); });
    return T(largest + std::log2(sum));
  }
  /// The share of one query in the table's gradient where its sum is out of range.
  void add_exactly(window_rows const& of, index_t query, index_t head, T ga, diagonals<T> const& layout,
                   T* table) const {
    double const all = double(log_of_sum(of, query, head));
    each_score(of, query, head, [&](index_t key, double b) {
      T* const to = table + (layout.place(query) - layout.back(key)) * layout.row;
      to[s_.used.w - 1 - query % s_.used.w + key % s_.used.w] += T(double(ga) * std::exp2(b - all));
    });
  }
  /// f(key, bias of its score, with the mask) for the padding.
  template <class F>
  void each_score(window_rows const& of, index_t query, index_t head, F f) const {
    T const* const from = table_ + head * entries_ + codes_.centre() - codes_.code(query);
    for (index_t p = 0; p < of.paddings; ++p) {
      index_t const key = of.padding[p];
      f(key,
        double(from[codes_.code(key)]) + (of.region[key] == of.region[query] ? 0 : double(masked_score<T>)));
    }
  }

  sizes<T> const& s_;
  table_codes codes_;
  bool padded_, shifted_, every_;
  index_t entries_ = 0;
  T *table_ = nullptr, *powers_ = nullptr, *largest_ = nullptr, *span_ = nullptr;
};

}  // namespace insula::windowed
