// SPDX-License-Identifier: Apache-2.0
// The gradient of shifted-window attention on the CPU: everything that the forward pass did not keep is computed again from x and
// the saved log-sum-exp.
#pragma once

#include "insula/kernels/cpu/window_reduced.hpp"

namespace insula {

namespace windowed {

/// What one window holds between the stages. `go` becomes the gradient of the normalised tokens.
template <scalar T>
struct gradient_slot {
  window_rows window;
  T* normed;           // (rows, channels)
  T *own_qkv, *own_o;  // (rows, 3 channels), (rows, channels): computed again, or null
  T const *qkv, *o;    // these or what was kept
  T *gy, *go, *gqkv;   // the same shapes; gy gathered
  T* padding;          // (3 channels) sum of gqkv over padding tokens: they only feed the bias

  gradient_slot(scratch& memory, sizes<T> const& s, bool kept)
      : window(memory, s.tokens, s.used),
        normed(memory.take<T>(s.tokens * s.channels)),
        own_qkv(kept ? nullptr : memory.take<T>(s.tokens * s.channels * 3)),
        own_o(kept ? nullptr : memory.take<T>(s.tokens * s.channels)),
        qkv(own_qkv),
        o(own_o),
        gy(memory.take<T>(s.tokens * s.channels)),
        go(memory.take<T>(s.tokens * s.channels)),
        gqkv(memory.take<T>(s.tokens * s.channels * 3)),
        padding(memory.take<T>(s.channels * 3)) {}
};

/// Where weight gradients are added: the caller's arrays, or the partial sums of a chunk of windows. Null: not wanted.
template <scalar T>
struct weight_sums {
  T *norm_w = nullptr, *norm_b = nullptr, *qkv_w = nullptr, *qkv_b = nullptr, *proj_w = nullptr,
    *proj_b = nullptr;
};

template <scalar T>
class gradient {
 public:
  using arguments = op::window_attention_grad::args<T>;
  using slot_type = gradient_slot<T>;

  gradient(arguments const& args, sizes<T> const& s, reduced_windows<T> const& reduced,
           diagonals<T> const& layout, expanded_table<T> const& bias, T const* qkv_columns,
           T const* proj_columns, kept_rows<T const> const& kept)
      : args_(args),
        s_(s),
        reduced_(reduced),
        layout_(layout),
        bias_(bias),
        qkv_columns_(qkv_columns),
        proj_columns_(proj_columns),
        kept_(kept) {}

  bool kept() const { return bool(kept_); }
  diagonals<T> const& layout() const { return layout_; }

  void gather(slot_type& slot, index_t window) const {
    index_t const c = s_.channels;
    slot.window.locate(s_, window);
    if (kept_) slot.qkv = kept_.qkv + kept_.first[window] * 3 * c, slot.o = kept_.o + kept_.first[window] * c;
    normalise(slot.window, 0, slot.window.rows, c, args_.eps, args_.x, args_.norm_w, args_.norm_b,
              slot.normed);
    for (index_t r = 0; r < slot.window.rows; ++r) {
      ask_for_row(slot.window, r, c, args_.gy);
      T const* from = args_.gy + slot.window.at[r] * c;
      for_packs<T>(c, [&](index_t e, auto n) { store<T>(slot.gy + r * c + e, load<T>(from + e, n), n); });
    }
  }

  void project_in(slot_type& slot, index_t column, index_t columns) const {
    index_t const c = s_.channels;
    simd::multiply<T, false>(slot.window.rows, columns, c, slot.normed, c, 1, args_.qkv_w + column, 3 * c,
                             slot.own_qkv + column, 3 * c);
  }

  void project_out(slot_type& slot, index_t column, index_t columns) const {
    index_t const c = s_.channels;
    simd::multiply<T, false>(slot.window.rows, columns, c, slot.gy, c, 1, proj_columns_ + column, c,
                             slot.go + column, c);
  }

  /// One head of one window. table += gradient of the scores along its diagonals, or null.
  void attend(slot_type& slot, index_t window, index_t head, T* table, scratch& memory) const {
    T const* lse = args_.lse + (window * s_.heads + head) * s_.tokens;
    window_rows const& all = slot.window;
    clear_padding(slot, head);
    T* const along = table ? layout_.begin(memory, table) : nullptr;
    bool const apart = reduced_.takes_apart(memory, all, slot.qkv, args_.qkv_b, head);
    if (!apart && !reduced_.every() && !reduced_.collapse(all, true)) {
      attend(slot, s_, all, all, layout_, bias_.head(head), head, lse, along, nullptr, memory);
      if (along) layout_.end(along, table);
      return;
    }
    T const* const powers =
        reduced_.meets_padding(all, apart) ? reduced_.sums(memory, all, head, true) : nullptr;
    T *const sums = memory.take<T>(all.rows), *const last = memory.take<T>(all.rows + tile_queries);
    for (int i = 0; i < (apart ? all.part_count : 1); ++i) {
      window_rows const own = apart ? all.only(all.parts[i]) : all;
      auto const view = reduced_.look(memory, own, head, powers, sums + own.first);
      diagonals<T> const layout(memory, s_, own, view.s.keys);
      T* const its_last = last + own.first;
      attend(slot, view.s, own, view.window, layout, view.biases(), head, lse, along,
             own.paddings > 0 ? its_last : nullptr, memory);
      if (own.paddings == 0) simd::clear(own.rows, its_last);
    }
    if (along) layout_.end(along, table);
    if (table && powers) reduced_.add_gradient(memory, all, head, sums, last, layout_, table);
  }

  /// Some columns of the gradients of the qkv weights and bias.
  void weights_in(slot_type const& slot, index_t column, index_t columns, weight_sums<T> const& to) const {
    index_t const c = s_.channels;
    if (to.qkv_w)
      simd::multiply<T, true>(c, columns, slot.window.rows, slot.normed, 1, c, slot.gqkv + column, 3 * c,
                              to.qkv_w + column, 3 * c);
    if (to.qkv_b) {
      add_columns(slot.window.rows, columns, slot.gqkv + column, 3 * c, to.qkv_b + column);
      add_columns(1, columns, slot.padding + column, 3 * c, to.qkv_b + column);
    }
  }

  /// Some columns of the gradients of the projection.
  void weights_out(slot_type const& slot, index_t column, index_t columns, weight_sums<T> const& to) const {
    index_t const c = s_.channels;
    if (to.proj_w)
      simd::multiply<T, true>(c, columns, slot.window.rows, slot.o, 1, c, slot.gy + column, c,
                              to.proj_w + column, c);
    if (to.proj_b) add_columns(slot.window.rows, columns, slot.gy + column, c, to.proj_b + column);
  }

  /// Rows [from, to): through the qkv weights and the norm to gx, and the norm's weight gradients.
  void inputs(slot_type& slot, index_t from, index_t to, weight_sums<T> const& sums) const {
    index_t const c = s_.channels;
    if (!args_.gx && !sums.norm_w && !sums.norm_b) return;
    simd::multiply<T, false>(to - from, c, 3 * c, slot.gqkv + from * 3 * c, 3 * c, 1, qkv_columns_, c,
                             slot.go + from * c, c);
    each_moments(slot.window, from, to, c, args_.eps, args_.x,
                 [&](index_t r, T const* x, moments<T> of) { input_row(slot, r, x, of, sums); });
  }

 private:
  static constexpr index_t block_rows = 48;

  struct block_memory {
    T *v_columns, *go, *go_tile;  // (key tiles, width, tile_keys), (padded rows, row)
    T *p, *ga;                    // (block_rows, keys)
    T *sums, *gk, *gv;            // (block_rows, row), (tokens, row), (tokens, row)

    block_memory(scratch& memory, sizes<T> const& s)
        : v_columns(memory.take<T>(s.width * s.keys)),
          go(memory.take<T>(s.padded_rows() * s.row)),
          go_tile(memory.take<T>(tile_queries * s.width)),
          p(memory.take<T>(block_rows * s.keys)),
          ga(memory.take<T>(block_rows * s.keys + diagonals<T>::slack) + diagonals<T>::slack),
          sums(memory.take<T>(block_rows * s.row)),
          gk(memory.take<T>(s.keys * s.row)),
          gv(memory.take<T>(s.keys * s.row)) {}
  };

  /// The same for the rows of `own`, their keys being those of `window`, whose sizes are s. along: where the layout adds, or null;
  /// last (rows): the gradients of the scores of the last key, which is not in the layout, or null.
  void attend(slot_type& slot, sizes<T> const& s, window_rows const& own, window_rows const& window,
              diagonals<T> const& layout, head_biases<T> const& bias, index_t head, T const* lse, T* along,
              T* last, scratch& memory) const {
    head_values<T> values(memory, s);
    values.pack(s, window, slot.qkv, args_.qkv_b, head);
    block_memory m(memory, s);
    head_values<T>::columns(s, values.v, m.v_columns);
    pack_rows(own, head, 0, round_up(own.rows, tile_queries), slot.go, m.go);
    for (index_t i = 0; i < s.keys * s.row; ++i) m.gk[i] = 0, m.gv[i] = 0;
    for (index_t first = 0; first < window.rows; first += block_rows) {
      index_t const left = round_up(window.rows - first, tile_queries);
      index_t const rows = left < block_rows ? left : block_rows;
      T scale[block_rows];
      for (index_t r = 0; r < rows; r += tile_queries) {
        query_tile<T> const tile(s, window, bias, values.mask, first + r);
        probabilities(s, own, window, tile, values, lse, first + r, m.p + r * s.keys, scale + r);
      }
      for (index_t r = 0; r < rows; ++r) scale_row(m.go + (first + r) * s.row, scale[r]);
      if (kept_) {
        pack_rows(own, head, first, rows, slot.o, m.sums);
      } else {
        for (index_t r = 0; r < rows; r += tile_queries)
          weighted_sum(s, m.p + r * s.keys, values.v, m.sums + r * s.row);
        for (index_t r = 0; r < rows; ++r) scale_row(m.sums + r * s.row, scale[r]);
        unpack_rows(own, head, first, rows, m.sums, T(1), slot.own_o, s.channels);
      }
      for (index_t r = 0; r < rows; r += tile_queries) {
        T dots[tile_queries];
        for (index_t i = 0; i < tile_queries; ++i)
          dots[i] = dot(m.sums + (r + i) * s.row, m.go + (first + r + i) * s.row);
        score_gradient(s, m, first + r, dots, m.p + r * s.keys, m.ga + r * s.keys);
      }
      if (along) layout.add(own, first, rows, m.ga, along);
      if (last) take_last(s, rows, m.ga, last + first);
      for (index_t r = 0; r < rows; r += tile_queries)
        weighted_sum(s, m.ga + r * s.keys, values.k, m.sums + r * s.row);
      unpack_rows(own, head, first, rows, m.sums, T(1 / std::sqrt(double(s.width))), slot.gqkv,
                  3 * s.channels);
      add_transposed(s, rows, m.ga, values.q + first * s.row, m.gk);
      add_transposed(s, rows, m.p, m.go + first * s.row, m.gv);
    }
    unpack_keys(slot, window, head, m.gk, ln2<T>, 1);  // q was packed with a factor log2(e)
    unpack_keys(slot, window, head, m.gv, T(1), 2);
  }

  /// out (rows) = what the last of the tokens has in tiled rows.
  static void take_last(sizes<T> const& s, index_t rows, T const* tiles, T* out) {
    index_t const j = s.tokens - 1, in_tile = j % tile_keys<T>;
    for (index_t r = 0; r < rows; ++r)
      out[r] = tiles[r / tile_queries * tile_queries * s.keys + (j - in_tile) * tile_queries +
                     r % tile_queries * tile_keys<T> + in_tile];
  }

  /// Rows [first, first + rows) of one head of a window's matrix (rows, channels), contiguous; 0 beyond its last.
  void pack_rows(window_rows const& own, index_t head, index_t first, index_t rows, T const* matrix,
                 T* to) const {
    T const* const from = matrix + (own.first + first) * s_.channels + head * s_.width;
    for (index_t r = 0; r < rows; ++r)
      for_packs<T>(s_.width, [&](index_t e, auto n) {
        simd::store(to + r * s_.row + e,
                    first + r < own.rows ? load<T>(from + r * s_.channels + e, n) : simd::zero<T>());
      });
  }

  /// Rows [first, first + rows) of a packed head, times a factor, into columns of a matrix of the window.
  void unpack_rows(window_rows const& own, index_t head, index_t first, index_t rows, T const* from, T factor,
                   T* matrix, index_t matrix_row) const {
    auto const f = simd::broadcast(factor);
    for (index_t r = 0; r < rows && first + r < own.rows; ++r)
      for_packs<T>(s_.width, [&](index_t e, auto n) {
        store<T>(matrix + (own.first + first + r) * matrix_row + head * s_.width + e,
                 simd::load(from + r * s_.row + e) * f, n);
      });
  }

  /// Gradients of keys (part 1) or values (part 2): real tokens to gqkv, padding tokens to their sum.
  void unpack_keys(slot_type& slot, window_rows const& window, index_t head, T const* from, T factor,
                   index_t part) const {
    auto const f = simd::broadcast(factor);
    index_t const offset = part * s_.channels + head * s_.width;
    for (index_t r = 0; r < window.rows; ++r)
      for_packs<T>(s_.width, [&](index_t e, auto n) {
        store<T>(slot.gqkv + (window.first + r) * 3 * s_.channels + offset + e,
                 simd::load(from + window.token[r] * s_.row + e) * f, n);
      });
    for_packs<T>(s_.width, [&](index_t e, auto n) {
      auto sum = simd::zero<T>();
      for (index_t p = 0; p < window.paddings; ++p) sum += simd::load(from + window.padding[p] * s_.row + e);
      T* const to = slot.padding + offset + e;
      store<T>(to, simd::fma(sum, f, load<T>(to, n)), n);
    });
  }
  /// Padding tokens have no gradient yet; in the end it is that of a key and a value, as they ask nothing.
  void clear_padding(slot_type& slot, index_t head) const {
    for (index_t part = 0; part < 3; ++part)
      for (index_t e = 0; e < s_.width; ++e) slot.padding[part * s_.channels + head * s_.width + e] = 0;
  }

  void scale_row(T* a, T factor) const {
    auto const f = simd::broadcast(factor);
    for (index_t e = 0; e < s_.row; e += simd::width<T>) simd::store(a + e, simd::load(a + e) * f);
  }
  T dot(T const* a, T const* b) const {
    auto s = simd::zero<T>();
    for (index_t e = 0; e < s_.row; e += simd::width<T>)
      s = simd::fma(simd::load(a + e), simd::load(b + e), s);
    return simd::sum<T>(s);
  }

  /// p = 2^(a - lse) for a tile of queries, 0 for rows beyond the last; scale = 1 / sum of the row. Probabilities are
  /// scale p: near 1 as the scale is, without it the rounding of lse would be an error common to the whole row.
  static void probabilities(sizes<T> const& s, window_rows const& own, window_rows const& window,
                            query_tile<T> const& tile, head_values<T> const& values, T const* lse,
                            index_t first, T* p, T* scale) {
    T shift[tile_queries], sum[tile_queries];
    for (index_t r = 0; r < tile_queries; ++r)
      shift[r] = first + r < window.rows ? log2e<T> * lse[own.token[first + r]] : -no_key<T>;
    exponentials(s, window, tile, values, first, shift, p, sum);
    for (index_t r = 0; r < tile_queries; ++r) scale[r] = first + r < window.rows ? 1 / sum[r] : T(0);
  }

  /// ga = p (go v^T - dot) for a tile of queries.
  static void score_gradient(sizes<T> const& s, block_memory const& m, index_t first, T const* dots,
                             T const* p, T* ga) {
    head_values<T>::tile(s, m.go + first * s.row, m.go_tile);
    for (index_t j = 0; j < s.keys; j += tile_keys<T>)
      gradient_tile<T>(s.width, m.go_tile, m.v_columns + j * s.width, dots, p + j * tile_queries,
                       ga + j * tile_queries);
  }

  void input_row(slot_type const& slot, index_t r, T const* x, moments<T> of,
                 weight_sums<T> const& sums) const {
    index_t const c = s_.channels, at = slot.window.at[r] * c;
    T* g = slot.go + r * c;
    ask_for_row(slot.window, r, c, args_.x);
    if (args_.gx) ask_for_row<true>(slot.window, r, c, args_.gx);
    auto const mean = simd::broadcast(of.mean), scale = simd::broadcast(of.scale);
    auto first = simd::zero<T>(), second = simd::zero<T>();
    for_packs<T>(c, [&](index_t e, auto n) {
      auto const hat = (load<T>(x + e, n) - mean) * scale;
      auto u = load<T>(g + e, n);  // 0 beyond the end, so that hat there does not matter
      if (sums.norm_w) store<T>(sums.norm_w + e, load<T>(sums.norm_w + e, n) + u * hat, n);
      if (sums.norm_b) store<T>(sums.norm_b + e, load<T>(sums.norm_b + e, n) + u, n);
      if (args_.norm_w) u *= load<T>(args_.norm_w + e, n);
      first += u, second = simd::fma(u, hat, second);
      store<T>(g + e, u, n);
    });
    if (!args_.gx) return;
    auto const a = simd::broadcast(simd::sum<T>(first) / T(c)),
               b = simd::broadcast(simd::sum<T>(second) / T(c));
    for_packs<T>(c, [&](index_t e, auto n) {
      auto const hat = (load<T>(x + e, n) - mean) * scale;
      auto out = simd::fma(scale, load<T>(g + e, n) - a - hat * b, load<T>(slot.gy + r * c + e, n));
      if (args_.adds) out += load<T>(args_.gx + at + e, n);
      store<T>(args_.gx + at + e, out, n);
    });
  }

  arguments const& args_;
  sizes<T> const& s_;
  reduced_windows<T> const& reduced_;
  diagonals<T> const& layout_;
  expanded_table<T> const& bias_;
  T const *qkv_columns_, *proj_columns_;
  kept_rows<T const> const& kept_;
};

}  // namespace windowed

/// Many windows: a task is a chunk of windows with weight gradients of its own, added in order at the end. Few
/// windows: the stages one after the other; weight gradients are split by columns and add windows in order. Which of
/// the two, and the chunks, depend on the geometry alone, so the result does not depend on the number of threads.
template <scalar T>
struct kernel<op::window_attention_grad, cpu, T> {
  using arguments = op::window_attention_grad::args<T>;

  static void run(context<cpu>& cx, arguments const& args) {
    sizes const s(args.g);
    index_t const c = s.channels;
    scratch memory(cx);
    windowed::diagonals<T> const layout(memory, s);
    windowed::reduced_windows<T> const reduced(cx, memory, s, args.table);
    windowed::expanded_table<T> bias;
    if (!reduced.every()) bias = {cx, memory, s, args.table};
    T *qkv_columns = memory.take<T>(3 * c * c), *proj_columns = memory.take<T>(c * c);
    constexpr index_t piece = 64;  // rows
    cx.pool.run((c + piece - 1) / piece, [&](index_t task, int) {
      index_t const r = task * piece, rows = c - r < piece ? c - r : piece;
      simd::transpose(rows, 3 * c, args.qkv_w + r * 3 * c, 3 * c, qkv_columns + r, c);
      simd::transpose(rows, c, args.proj_w + r * c, c, proj_columns + r, c);
    });
    windowed::kept_rows<T const> const kept(memory, s, args.kept);
    windowed::gradient<T> const stages(args, s, reduced, layout, bias, qkv_columns, proj_columns, kept);
    s.windows >= many_windows ? by_chunk(cx, args, s, stages, memory) : by_stage(cx, args, s, stages, memory);
  }

 private:
  using sizes = windowed::sizes<T>;
  using stages_type = windowed::gradient<T>;
  using slot_type = windowed::gradient_slot<T>;
  static constexpr index_t many_windows = 64, least_chunks = 16, most_chunks = 64, most_slots = 4;
  static constexpr index_t sums_bytes = 8 << 20;  // of the weight gradients of all chunks
  static constexpr index_t group = windowed::group;

  static windowed::weight_sums<T> targets(arguments const& a) {
    return {a.gnorm_w, a.gnorm_b, a.gqkv_w, a.gqkv_b, a.gproj_w, a.gproj_b};
  }

  /// Offsets of the weight gradients in the partial sums of one chunk; the tables come last, by head.
  struct partial {
    index_t norm_w = 0, norm_b, qkv_w, qkv_b, proj_w, proj_b, table, size;

    partial(sizes const& s, index_t table_size)
        : norm_b(s.channels),
          qkv_w(norm_b + s.channels),
          qkv_b(qkv_w + 3 * s.channels * s.channels),
          proj_w(qkv_b + 3 * s.channels),
          proj_b(proj_w + s.channels * s.channels),
          table(windowed::round_up(proj_b + s.channels, cache_line / index_t(sizeof(T)))),
          size(table + s.heads * table_size) {}
  };

  static void by_chunk(context<cpu>& cx, arguments const& args, sizes const& s, stages_type const& stages,
                       scratch& memory) {
    partial const at(s, stages.layout().size);
    index_t const fit = sums_bytes / (at.size * index_t(sizeof(T)));
    index_t const most = fit < least_chunks ? least_chunks : fit < most_chunks ? fit : most_chunks;
    index_t const per = windowed::round_up((s.windows + most - 1) / most, group);
    index_t const chunks = (s.windows + per - 1) / per;
    T* sums = memory.take<T>(chunks * at.size);
    cx.pool.run(chunks, [&](index_t task, int worker) {
      scratch inner(cx, worker);
      T* mine = sums + task * at.size;
      for (index_t i = 0; i < at.size; ++i) mine[i] = 0;
      auto const wanted = [&](T* target, index_t offset) { return target ? mine + offset : nullptr; };
      windowed::weight_sums<T> const to{wanted(args.gnorm_w, at.norm_w), wanted(args.gnorm_b, at.norm_b),
                                        wanted(args.gqkv_w, at.qkv_w),   wanted(args.gqkv_b, at.qkv_b),
                                        wanted(args.gproj_w, at.proj_w), wanted(args.gproj_b, at.proj_b)};
      slot_type* slots = inner.take<slot_type>(group);
      for (index_t i = 0; i < group; ++i) new (slots + i) slot_type(inner, s, stages.kept());
      index_t const end = (task + 1) * per < s.windows ? (task + 1) * per : s.windows;
      for (index_t first = task * per; first < end; first += group)
        chunk_group(cx, worker, s, stages, slots, first, end - first < group ? end - first : group, to,
                    wanted(args.gtable, at.table));
    });
    add_partials(cx, args, s, stages, at, sums, chunks);
  }

  static void chunk_group(context<cpu>& cx, int worker, sizes const& s, stages_type const& stages,
                          slot_type* slots, index_t first, index_t count, windowed::weight_sums<T> const& to,
                          T* tables) {
    index_t const c = s.channels;
    for (index_t i = 0; i < count; ++i) {
      stages.gather(slots[i], first + i);
      if (!stages.kept()) stages.project_in(slots[i], 0, 3 * c);
      stages.project_out(slots[i], 0, c);
    }
    for (index_t head = 0; head < s.heads; ++head)  // the head's bias stays in cache for the whole group
      for (index_t i = 0; i < count; ++i) {
        scratch inner(cx, worker);
        stages.attend(slots[i], first + i, head, tables ? tables + head * stages.layout().size : nullptr,
                      inner);
      }
    for (index_t i = 0; i < count; ++i) {
      stages.weights_in(slots[i], 0, 3 * c, to);
      stages.weights_out(slots[i], 0, c, to);
      stages.inputs(slots[i], 0, slots[i].window.rows, to);
    }
  }

  static void add_partials(context<cpu>& cx, arguments const& args, sizes const& s, stages_type const& stages,
                           partial const& at, T const* sums, index_t chunks) {
    constexpr index_t piece = 2048;  // elements
    auto const add = [&](T* to, index_t offset, index_t n) {
      if (!to) return;
      cx.pool.run((n + piece - 1) / piece, [&](index_t task, int) {
        index_t const begin = task * piece, count = n - begin < piece ? n - begin : piece;
        for (index_t chunk = 0; chunk < chunks; ++chunk)
          windowed::add_columns(1, count, sums + chunk * at.size + offset + begin, 0, to + begin);
      });
    };
    index_t const c = s.channels;
    add(args.gnorm_w, at.norm_w, c), add(args.gnorm_b, at.norm_b, c);
    add(args.gqkv_w, at.qkv_w, 3 * c * c), add(args.gqkv_b, at.qkv_b, 3 * c);
    add(args.gproj_w, at.proj_w, c * c), add(args.gproj_b, at.proj_b, c);
    if (args.gtable) add_tables(cx, args, s, stages.layout(), sums + at.table, at.size, chunks);
  }

  /// gtable += `count` sets of tables, one of each head, that lie `stride` apart.
  static void add_tables(context<cpu>& cx, arguments const& args, sizes const& s,
                         windowed::diagonals<T> const& layout, T const* tables, index_t stride,
                         index_t count) {
    cx.pool.run(s.heads, [&](index_t head, int worker) {
      scratch memory(cx, worker);
      layout.finish(tables + head * layout.size, stride, count, memory.take<T>(layout.size), args.gtable,
                    head, s.heads);
    });
  }

  static void by_stage(context<cpu>& cx, arguments const& args, sizes const& s, stages_type const& stages,
                       scratch& memory) {
    index_t const held = s.windows < most_slots ? s.windows : most_slots;
    slot_type* slots = memory.take<slot_type>(held);
    for (index_t i = 0; i < held; ++i) new (slots + i) slot_type(memory, s, stages.kept());
    for (index_t first = 0; first < s.windows; first += held) {
      index_t const count = s.windows - first < held ? s.windows - first : held;
      stage_values(cx, s, stages, slots, first, count);
      stage_attention(cx, args, s, stages, slots, first, count);
      stage_weights(cx, args, s, stages, slots, count);
    }
  }

  static void stage_values(context<cpu>& cx, sizes const& s, stages_type const& stages, slot_type* slots,
                           index_t first, index_t count) {
    index_t const in = stages.kept() ? 0 : windowed::panels(3 * s.channels);
    index_t const all = in + windowed::panels(s.channels);
    cx.pool.run(count, [&](index_t i, int) { stages.gather(slots[i], first + i); });
    cx.pool.run(count * all, [&](index_t task, int) {
      index_t const p = task % all;
      if (p < in)
        stages.project_in(slots[task / all], p * windowed::panel, windowed::panel_width(3 * s.channels, p));
      else
        stages.project_out(slots[task / all], (p - in) * windowed::panel,
                           windowed::panel_width(s.channels, p - in));
    });
  }

  static void stage_attention(context<cpu>& cx, arguments const& args, sizes const& s,
                              stages_type const& stages, slot_type* slots, index_t first, index_t count) {
    auto const& layout = stages.layout();
    scratch memory(cx);
    T* tables = args.gtable ? memory.take<T>(count * s.heads * layout.size) : nullptr;
    cx.pool.run(count * s.heads,
                [&](index_t task, int worker) {  // windows of the same head follow each other
                  scratch inner(cx, worker);
                  index_t const head = task / count, i = task % count;
                  T* table = tables ? tables + (i * s.heads + head) * layout.size : nullptr;
                  if (table)
                    for (index_t e = 0; e < layout.size; ++e) table[e] = 0;
                  stages.attend(slots[i], first + i, head, table, inner);
                });
    if (tables) add_tables(cx, args, s, layout, tables, s.heads * layout.size, count);
  }

  static void stage_weights(context<cpu>& cx, arguments const& args, sizes const& s,
                            stages_type const& stages, slot_type* slots, index_t count) {
    constexpr index_t rows = 96;
    index_t const c = s.channels, in = windowed::panels(3 * c), out = windowed::panels(c);
    index_t const pieces = (s.tokens + rows - 1) / rows;
    windowed::weight_sums<T> const to = targets(args);
    scratch memory(cx);
    T* norm_sums = memory.take<T>(count * pieces * 2 * c);
    for (index_t i = 0; i < count * pieces * 2 * c; ++i) norm_sums[i] = 0;
    cx.pool.run(in + out + count * pieces, [&](index_t task, int) {
      if (task < in) {
        for (index_t i = 0; i < count; ++i)
          stages.weights_in(slots[i], task * windowed::panel, windowed::panel_width(3 * c, task), to);
      } else if (task < in + out) {
        for (index_t i = 0; i < count; ++i)
          stages.weights_out(slots[i], (task - in) * windowed::panel, windowed::panel_width(c, task - in),
                             to);
      } else {
        index_t const piece = task - in - out, from = piece % pieces * rows;
        slot_type& slot = slots[piece / pieces];
        index_t const end = from + rows < slot.window.rows ? from + rows : slot.window.rows;
        T* mine = norm_sums + piece * 2 * c;
        if (from < end)
          stages.inputs(slot, from, end, {to.norm_w ? mine : nullptr, to.norm_b ? mine + c : nullptr});
      }
    });
    if (to.norm_w) windowed::add_columns(count * pieces, c, norm_sums, 2 * c, to.norm_w);
    if (to.norm_b) windowed::add_columns(count * pieces, c, norm_sums + c, 2 * c, to.norm_b);
  }
};

}  // namespace insula
