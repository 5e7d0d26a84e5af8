// SPDX-License-Identifier: Apache-2.0
// Shifted-window attention on the CPU: norm, qkv, scores, softmax, projection and residual of a window in cache.
#pragma once

#include "insula/kernels/cpu/window_reduced.hpp"

namespace insula {

namespace windowed {

/// What one window holds between the stages. The heads' outputs `o` take the place of `normed` unless they are kept.
template <scalar T>
struct forward_slot {
  window_rows window;
  T *normed, *qkv, *o;  // (rows, channels), (rows, 3 channels), (rows, channels)

  forward_slot(scratch& memory, sizes<T> const& s, bool keeps)
      : window(memory, s.tokens, s.used),
        normed(memory.take<T>(s.tokens * s.channels)),
        qkv(keeps ? nullptr : memory.take<T>(s.tokens * 3 * s.channels)),
        o(normed) {}
};

template <scalar T>
class forward {
 public:
  using arguments = op::window_attention::args<T>;

  forward(arguments const& args, sizes<T> const& s, reduced_windows<T> const& reduced,
          expanded_table<T> const& bias, kept_rows<T> const& kept)
      : args_(args), s_(s), reduced_(reduced), bias_(bias), kept_(kept) {}

  bool keeps() const { return bool(kept_); }

  void gather(forward_slot<T>& slot, index_t window) const {
    slot.window.locate(s_, window);
    normalise(slot.window, 0, slot.window.rows, s_.channels, args_.eps, args_.x, args_.norm_w, args_.norm_b,
              slot.normed);
    if (kept_) {
      slot.qkv = kept_.qkv + kept_.first[window] * 3 * s_.channels;
      slot.o = kept_.o + kept_.first[window] * s_.channels;
    }
  }

  void project_in(forward_slot<T>& slot, index_t column, index_t columns) const {
    index_t const c = s_.channels;
    simd::multiply<T, false>(slot.window.rows, columns, c, slot.normed, c, 1, args_.qkv_w + column, 3 * c,
                             slot.qkv + column, 3 * c);
  }

  /// One head of one window. A block of keys and values stays in the L1 cache while all tiles of queries meet it. As a
  /// rule the range of the numbers allows exponentials without a shift, which need no largest score beforehand and
  /// round least; a tile whose sums are out of range is computed again with the largest score of each row taken off.
  void attend(forward_slot<T>& slot, index_t window, index_t head, scratch& memory) const {
    T* lse = args_.lse ? args_.lse + (window * s_.heads + head) * s_.tokens : nullptr;
    window_rows const& all = slot.window;
    if (lse)
      for (index_t p = 0; p < all.paddings; ++p) lse[all.padding[p]] = 0;
    bool const apart = reduced_.takes_apart(memory, all, slot.qkv, args_.qkv_b, head);
    if (!apart && !reduced_.every() && !reduced_.collapse(all, false))
      return attend(slot, s_, all, all, bias_.head(head), head, lse, memory);
    T const* const powers =
        reduced_.meets_padding(all, apart) ? reduced_.sums(memory, all, head, true) : nullptr;
    T* const sums = memory.take<T>(all.rows);
    for (int i = 0; i < (apart ? all.part_count : 1); ++i) {
      window_rows const own = apart ? all.only(all.parts[i]) : all;
      auto const view = reduced_.look(memory, own, head, powers, sums + own.first);
      attend(slot, view.s, own, view.window, view.biases(), head, lse, memory);
    }
  }

  /// y = x + o proj + bias for some columns of the window's tokens.
  void project_out(forward_slot<T> const& slot, index_t column, index_t columns, scratch& memory) const {
    index_t const c = s_.channels;
    T* out = memory.take<T>(slot.window.rows * columns);
    simd::multiply<T, false>(slot.window.rows, columns, c, slot.o, c, 1, args_.proj_w + column, c, out,
                             columns);
    for (index_t r = 0; r < slot.window.rows; ++r) {
      if (columns == c) ask_for_row<true>(slot.window, r, c, args_.y);
      index_t const at = slot.window.at[r] * c + column;
      for_packs<T>(columns, [&](index_t e, auto n) {
        auto sum = load<T>(out + r * columns + e, n) + load<T>(args_.x + at + e, n);
        if (args_.proj_b) sum += load<T>(args_.proj_b + column + e, n);
        store<T>(args_.y + at + e, sum, n);
      });
    }
  }

 private:
  static constexpr index_t key_block = 8 * tile_keys<T>;

  /// Whether sums of exponentials lost nothing to the range of the numbers.
  static bool usual(T const (&sum)[tile_queries]) {
    constexpr T least = sizeof(T) == 4 ? T(0x1p-64) : T(0x1p-512),
                most = sizeof(T) == 4 ? T(0x1p64) : T(0x1p512);
    bool all = true;
    for (T s : sum) all = all && s > least && s < most;
    return all;
  }
  /// The same for the rows of `own`, their keys being those of `window`, whose sizes are s.
  void attend(forward_slot<T>& slot, sizes<T> const& s, window_rows const& own, window_rows const& window,
              head_biases<T> const& bias, index_t head, T* lse, scratch& memory) const {
    constexpr int w = simd::width<T>;
    head_values<T> values(memory, s);
    values.pack(s, window, slot.qkv, args_.qkv_b, head);
    T* scores = memory.take<T>(tile_queries * s.keys);
    T* sums = memory.take<T>(s.padded_rows() * s.row);
    T* totals = memory.take<T>(s.padded_rows() * w);
    for (index_t i = 0; i < s.padded_rows() * w; ++i) totals[i] = 0;
    T const* const no_shift = nullptr;
    for (index_t j = 0; j < s.tokens; j += key_block) {
      index_t const end = j + key_block < s.keys ? j + key_block : s.keys;
      for (index_t first = 0; first < window.rows; first += tile_queries) {
        query_tile<T> const tile(s, window, bias, values.mask, first);
        exponentials<score::unshifted>(s, window, tile, values, first, j, end, no_shift, scores,
                                       totals + first * w);
        weighted_sum(s, (end < s.tokens ? end : s.tokens) - j, scores, values.v + j * s.row, j > 0,
                     sums + first * s.row);
      }
    }
    for (index_t first = 0; first < window.rows; first += tile_queries) {
      T sum[tile_queries], shift[tile_queries] = {};
      for (int r = 0; r < tile_queries; ++r) sum[r] = simd::sum<T>(simd::load(totals + (first + r) * w));
      if (!usual(sum)) shifted(s, window, bias, values, first, scores, sum, shift, sums + first * s.row);
      index_t const rows = window.rows - first < tile_queries ? window.rows - first : tile_queries;
      for (index_t r = 0; r < rows; ++r) {
        T* out = slot.o + (own.first + first + r) * s.channels + head * s.width;
        auto const factor = simd::broadcast(1 / sum[r]);
        for_packs<T>(s.width, [&](index_t e, auto n) {
          store<T>(out + e, simd::load(sums + (first + r) * s.row + e) * factor, n);
        });
        if (lse) lse[own.token[first + r]] = shift[r] * ln2<T> + std::log(sum[r]);
      }
    }
  }
  /// The weighted sums of a tile of queries with the largest score of each row as its shift.
  static void shifted(sizes<T> const& s, window_rows const& window, head_biases<T> const& bias,
                      head_values<T> const& values, index_t first, T* scores, T* sum, T* shift, T* sums) {
    query_tile<T> const tile(s, window, bias, values.mask, first);
    largest_scores(s, window, tile, values, first, scores, shift);
    exponentials(s, window, tile, values, first, shift, scores, sum);
    weighted_sum(s, scores, values.v, sums);
  }

  arguments const& args_;
  sizes<T> const& s_;
  reduced_windows<T> const& reduced_;
  expanded_table<T> const& bias_;
  kept_rows<T> const& kept_;
};

}  // namespace windowed

/// Many windows: a task is a group of windows, all stages in a row, everything between the stages in the L2 cache.
/// Few windows: the stages run one after the other, their tasks being windows, panels of columns, or heads.
template <scalar T>
struct kernel<op::window_attention, cpu, T> {
  static void run(context<cpu>& cx, op::window_attention::args<T> const& args) {
    windowed::sizes<T> const s(args.g);
    scratch memory(cx);
    windowed::reduced_windows<T> const reduced(cx, memory, s, args.table);
    windowed::expanded_table<T> bias;
    if (!reduced.every()) bias = {cx, memory, s, args.table};
    windowed::kept_rows<T> const kept(memory, s, args.kept);
    windowed::forward<T> const stages(args, s, reduced, bias, kept);
    index_t const groups = (s.windows + group - 1) / group;
    if (cx.threads() == 1 || groups >= 4 * cx.threads())
      by_group(cx, s, stages, groups);
    else
      by_stage(cx, s, stages, memory);
  }

 private:
  using slot_type = windowed::forward_slot<T>;
  static constexpr index_t group = windowed::group, most_slots = 16;

  static void by_group(context<cpu>& cx, windowed::sizes<T> const& s, windowed::forward<T> const& stages,
                       index_t groups) {
    cx.pool.run(groups, [&](index_t task, int worker) {
      scratch memory(cx, worker);
      index_t const first = task * group, count = s.windows - first < group ? s.windows - first : group;
      slot_type* slots = memory.take<slot_type>(group);
      for (index_t i = 0; i < group; ++i) new (slots + i) slot_type(memory, s, stages.keeps());
      for (index_t i = 0; i < count; ++i) {
        stages.gather(slots[i], first + i);
        stages.project_in(slots[i], 0, 3 * s.channels);
      }
      for (index_t head = 0; head < s.heads; ++head)  // the head's bias stays in cache for the whole group
        for (index_t i = 0; i < count; ++i) {
          scratch inner(cx, worker);
          stages.attend(slots[i], first + i, head, inner);
        }
      for (index_t i = 0; i < count; ++i) {
        scratch inner(cx, worker);
        stages.project_out(slots[i], 0, s.channels, inner);
      }
    });
  }

  static void by_stage(context<cpu>& cx, windowed::sizes<T> const& s, windowed::forward<T> const& stages,
                       scratch& memory) {
    index_t const held = s.windows < most_slots ? s.windows : most_slots;
    slot_type* slots = memory.take<slot_type>(held);
    for (index_t i = 0; i < held; ++i) new (slots + i) slot_type(memory, s, stages.keeps());
    index_t const in = windowed::panels(3 * s.channels), out = windowed::panels(s.channels);
    for (index_t first = 0; first < s.windows; first += held) {
      index_t const count = s.windows - first < held ? s.windows - first : held;
      cx.pool.run(count, [&](index_t i, int) { stages.gather(slots[i], first + i); });
      cx.pool.run(count * in, [&](index_t task, int) {
        stages.project_in(slots[task / in], task % in * windowed::panel,
                          windowed::panel_width(3 * s.channels, task % in));
      });
      cx.pool.run(count * s.heads, [&](index_t task, int worker) {
        scratch inner(cx, worker);
        stages.attend(slots[task % count], first + task % count, task / count, inner);
      });
      cx.pool.run(count * out, [&](index_t task, int worker) {
        scratch inner(cx, worker);
        stages.project_out(slots[task / out], task % out * windowed::panel,
                           windowed::panel_width(s.channels, task % out), inner);
      });
    }
  }
};

}  // namespace insula
