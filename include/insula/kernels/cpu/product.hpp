// SPDX-License-Identifier: Apache-2.0
// Threaded matrix products: row blocks as tasks, weight gradients with ordered partial sums.
#pragma once

#include "insula/kernels/cpu/block.hpp"
#include "insula/kernels/cpu/erf.hpp"
#include "insula/kernels/cpu/panel.hpp"
#include "insula/kernels/cpu/row.hpp"

namespace insula {

namespace detail {

inline constexpr index_t least_tasks = 16;  // enough for threads to balance; fixed, whatever their number

/// n cut into `count` blocks of nearly equal size, each a multiple of `unit` but the last.
struct even_blocks {
  index_t n, size, count;
  constexpr even_blocks(index_t n_, index_t most, index_t unit) : n(n_), size(0), count(0) {
    index_t const wanted = chunk_count(n, most > 0 ? most : 1);
    if (wanted == 0) return;
    size = (chunk_count(n, wanted) + unit - 1) / unit * unit;
    count = chunk_count(n, size);
  }
  constexpr index_t begin(index_t i) const { return i * size; }
  constexpr index_t end(index_t i) const { return (i + 1) * size < n ? (i + 1) * size : n; }
};

/// How products are cut: a panel of B that deep stays in the L1 cache, or with AVX-512, whose panels are broad and L2 caches large,
/// in the L2 cache; so do block_rows rows of A of that depth.
template <scalar T>
inline constexpr index_t block_depth = (simd::register_count == 32 ? 768 : 384) * 4 / index_t(sizeof(T));
inline constexpr index_t block_rows = 192;

/// Elements from row to row of a copy of `n` columns: an odd number of cache lines, so that no two of 64 rows meet in
/// the same set of a cache.
template <scalar T>
constexpr index_t copied_row(index_t n) {
  constexpr index_t line = index_t(cache_line / sizeof(T));
  return (chunk_count(n, line) | 1) * line;
}

/// Whether rows of n elements are a multiple of so many cache lines long. Multiples of 8 begin in 8 of an L1 cache's 64 sets,
/// multiples of 64 in 16 of an L2 cache's 1024.
template <scalar T>
constexpr bool rows_meet(index_t n, index_t lines) {
  return n * index_t(sizeof(T)) % (lines * index_t(cache_line)) == 0;
}

/// Packs panels [begin, end) of the weights w (depth x n, or n x depth if Transposed).
template <bool Transposed, scalar T>
void pack_some_weights(simd::columns<T> c, index_t begin, index_t end, index_t depth, T const* w, T* packed) {
  if constexpr (Transposed)
    for (index_t p = begin; p < end; ++p)
      simd::pack_panel_transposed(c, p, depth, w, depth, packed + (c.first(p) - c.first(begin)) * depth);
  else
    simd::pack_panels(c, begin, end, depth, w, c.n, packed);
}

/// Packs all weights, some panels per task.
template <bool Transposed, scalar T>
simd::right_operand<T> pack_weights(context<cpu>& cx, index_t depth, simd::columns<T> c, T const* w,
                                    T* packed) {
  even_blocks const groups(c.panels(), 8, 1);
  cx.pool.run(groups.count, [&](index_t g, int) {
    pack_some_weights<Transposed>(c, groups.begin(g), groups.end(g), depth, w,
                                  packed + c.first(groups.begin(g)) * depth);
  });
  return {packed, depth};
}

/// u = start + x W, cut in one of three ways. If y is given, y = gelu(u), of what the cache still holds; y may be u.
template <bool Transposed, scalar T>
class row_products {
 public:
  row_products(index_t rows, index_t n, index_t depth, T const* x, T const* w, simd::product_start<T> start,
               T* u, T* y = nullptr)
      : rows_(rows),
        n_(n),
        depth_(depth),
        x_(x),
        w_(w),
        start_(start),
        u_(u),
        y_(y),
        c_{n},
        k_(depth, block_depth<T>, 1) {}

  void run(context<cpu>& cx) const {
    if (rows_ <= few_rows) return by_columns(cx);
    scratch s(cx);
    auto const b = pack_weights<Transposed>(cx, depth_, c_, w_, s.take<T>(depth_ * c_.padded()));
    if (k_.count == 1 && depth_ * c_.padded() * index_t(sizeof(T)) <= small_weights)
      by_rows(cx, b);
    else
      by_blocks(cx, b);
  }

 private:
  static constexpr index_t few_rows = 256;
  static constexpr index_t small_weights =
      192 * 1024;                       // bytes that stay in the L2 cache beside rows and results
  static constexpr index_t strip = 24;  // rows, whole tiles whatever the instruction set

  /// Few rows: a task is a group of columns and packs its own weights, which so are read once.
  void by_columns(context<cpu>& cx) const {
    even_blocks const g(c_.panels(), group_size(1), 1);
    cx.pool.run(g.count, [&](index_t task, int worker) {
      scratch mine(cx, worker);
      index_t const begin = g.begin(task), end = g.end(task), first = c_.first(begin);
      T* const packed = mine.take<T>((c_.first(end) - first) * depth_);
      pack_some_weights<Transposed>(c_, begin, end, depth_, w_, packed);
      multiply(rows_, begin, end, 0, {packed, depth_, 0, first});
    });
  }

  /// Weights that fit the L2 cache: strips of rows meet all columns. The products of a strip are short, and memory far:
  /// meanwhile the next strip's x and y are asked for.
  void by_rows(context<cpu>& cx, simd::right_operand<T> b) const {
    even_blocks const r(rows_, block_rows, strip);
    cx.pool.run(r.count, [&](index_t task, int) {
      for (index_t row = r.begin(task); row < r.end(task); row += strip) {
        index_t const m = r.end(task) - row < strip ? r.end(task) - row : strip;
        bool const more = row + 2 * strip <= rows_;
        multiply(m, 0, c_.panels(), row, b,
                 {more ? u_ + (row + strip) * n_ : nullptr, more ? x_ + (row + strip) * depth_ : nullptr,
                  strip * depth_});
      }
    });
  }

  /// Blocks of rows times groups of panels. Rows that would meet in the L2 cache are copied to others first, if columns are enough.
  void by_blocks(context<cpu>& cx, simd::right_operand<T> b) const {
    even_blocks const r(rows_, block_rows, strip), g(c_.panels(), group_size(r.count), 1);
    bool const copies = simd::register_count < 32 && rows_meet<T>(depth_, 64) && c_.first(g.size) >= 512;
    cx.pool.run(r.count * g.count, [&](index_t task, int worker) {
      index_t const block = task / g.count, group = task % g.count;
      scratch mine(cx, worker);
      T* const copy = copies ? mine.take<T>(block_rows * copied_row<T>(k_.size)) : nullptr;
      multiply(r.end(block) - r.begin(block), g.begin(group), g.end(group), r.begin(block), b, {}, copy);
    });
  }

  /// Panels per task, so that row blocks x groups are tasks enough.
  index_t group_size(index_t row_blocks) const {
    index_t const size = c_.panels() / chunk_count(least_tasks, row_blocks);
    return size > 1 ? size : 1;
  }
  /// Rows [row, row + m) of panels [begin, end). If `copy` is given, x's rows are copied to it first, block by block.
  void multiply(index_t m, index_t begin, index_t end, index_t row, simd::right_operand<T> b,
                simd::product_ahead<T> ahead = {}, T* copy = nullptr) const {
    for (index_t i = 0; i == 0 || i < k_.count; ++i) {  // of depth 0 there is what the product starts from
      index_t const depth = k_.end(i) - k_.begin(i), copy_row = copied_row<T>(k_.size);
      T const* const x = x_ + row * depth_ + k_.begin(i);
      for (index_t r = 0; copy && r < m; ++r) simd::copy(depth, x + r * depth_, copy + r * copy_row);
      simd::panel_product(m, c_, begin, end, depth, copy ? copy : x, copy ? copy_row : depth_, b, k_.begin(i),
                          i == 0 ? start_ : simd::product_start<T>{nullptr, true}, u_ + row * n_, n_, ahead);
    }
    if (!y_) return;
    index_t const first = c_.first(begin), last = end == c_.panels() ? n_ : c_.first(end);
    index_t const whole = last - first == n_ ? m : 1;  // rows that lie one behind the other
    for (index_t r = row; r < row + m; r += whole)
      simd::gelu_of_row(whole * (last - first), u_ + r * n_ + first, y_ + r * n_ + first);
  }

  index_t rows_, n_, depth_;
  T const *x_, *w_;
  simd::product_start<T> start_;
  T *u_, *y_;
  simd::columns<T> c_;
  even_blocks k_;
};

/// y (rows x n) = start + x (rows x depth) W, W being w (depth x n), or its transpose (w is n x depth) if Transposed.
template <bool Transposed, scalar T>
void row_product(context<cpu>& cx, index_t rows, index_t n, index_t depth, T const* x, T const* w,
                 simd::product_start<T> start, T* y) {
  row_products<Transposed, T>(rows, n, depth, x, w, start, y).run(cx);
}

/// acc[0 .. V registers) += column sums of a packed panel of that width.
template <int V, scalar T>
void add_column_sums(index_t depth, T const* panel, T* acc) {
  constexpr int w = simd::width<T>;
  simd::pack<T> even[V]{}, odd[V]{};  // two chains each hide the latency of the additions
  index_t k = 0;
  for (; k + 2 <= depth; k += 2, panel += 2 * V * w)
    for (int v = 0; v < V; ++v)
      even[v] += simd::load(panel + v * w), odd[v] += simd::load(panel + (V + v) * w);
  for (int v = 0; v < V; ++v) {
    if (k < depth) even[v] += simd::load(panel + v * w);
    simd::store(acc + v * w, simd::load(acc + v * w) + (even[v] + odd[v]));
  }
}
template <scalar T>
void add_column_sums(index_t depth, int size, T const* panel, T* acc) {
  if (size == simd::width<T>) return add_column_sums<1>(depth, panel, acc);
  if (size == 2 * simd::width<T>) return add_column_sums<2>(depth, panel, acc);
  add_column_sums<3>(depth, panel, acc);
}

/// target[i] += partial[i] + partial[stride + i] + ... in this order, `count` of them, which may be none.
template <scalar T>
void add_partials(context<cpu>& cx, index_t n, index_t count, index_t stride, T const* partial, T* target) {
  if (count == 0) return;
  run_chunks(cx, n, 4096, [&](index_t begin, index_t end, index_t, int) {
    simd::each_register<T>(end - begin, [&](index_t i, auto lanes) {
      T const* from = partial + begin + i;
      auto sum = simd::load(from, lanes);
      for (index_t c = 1; c < count; ++c) sum += simd::load(from += stride, lanes);
      simd::store(target + begin + i, simd::load(target + begin + i, lanes) + sum, lanes);
    });
  });
}

/// gw += x^T gy, gb += column sums of gy; either may be null. Tasks are blocks of gw and, if those are few, chunks of
/// rows with partial sums of their own, added in order.
template <scalar T>
class weight_gradient {
 public:
  weight_gradient(index_t rows, index_t in, index_t out, T const* x, T const* gy, T* gw, T* gb)
      : in_(in),
        x_(x),
        gy_(gy),
        gw_(gw),
        gb_(gb),
        c_{out},
        inputs_(gw ? in : 1, 384, 8),
        outputs_(c_.panels(), (wide(rows) ? 2 : 1) * half_block, 1),
        chunks_(rows, chunk_size(rows, inputs_.count * outputs_.count), block_rows) {}

  void run(context<cpu>& cx) const {
    if (chunks_.count == 0 || c_.n == 0 || (!gw_ && !gb_)) return;
    index_t const tiles = inputs_.count * outputs_.count, stride = (gw_ ? in_ * c_.n : 0) + c_.n;
    bool const split = chunks_.count > 1;
    scratch s(cx);
    T* const partial = split ? s.take<T>(chunks_.count * stride) : nullptr;
    cx.pool.run(chunks_.count * tiles, [&](index_t task, int worker) {
      index_t const chunk = task / tiles, tile = task % tiles;
      T* const mine = split ? partial + chunk * stride : nullptr;
      T* const gb = split ? mine + (gw_ ? in_ * c_.n : 0) : gb_;
      add_tile(cx, worker, chunk, tile / outputs_.count, tile % outputs_.count, split ? mine : gw_, gb,
               !split);
    });
    if (!split) return;
    if (gw_) add_partials(cx, in_ * c_.n, chunks_.count, stride, partial, gw_);
    if (gb_) add_partials(cx, c_.n, chunks_.count, stride, partial + (gw_ ? in_ * c_.n : 0), gb_);
  }

 private:
  static constexpr index_t panel_columns = simd::panel_registers * simd::width<T>;
  static constexpr index_t half_block = panel_columns < 96 ? 96 / panel_columns : 1;  // panels
  static constexpr index_t chunk_size(index_t rows, index_t tiles) {
    index_t const wanted = tiles >= least_tasks ? 1 : 2 * least_tasks / (tiles > 0 ? tiles : 1);
    index_t const most = chunk_count(rows, wanted);
    return most < 2 * block_rows ? 2 * block_rows : most;
  }

  /// Rows enough for chunks, or blocks of gw enough for tasks, if blocks are twice as wide.
  bool wide(index_t rows) const {
    return rows >= 4 * least_tasks * block_rows ||
           inputs_.count * c_.panels() >= 2 * half_block * least_tasks;
  }
  /// First row of a chunk, or of none.
  index_t begin_of(index_t chunk) const { return chunk < chunks_.count ? chunks_.begin(chunk) : chunks_.n; }

  /// One block of gw over one chunk of rows: `=` unless adds.
  void add_tile(context<cpu>& cx, int worker, index_t chunk, index_t input, index_t output, T* gw, T* gb,
                bool adds) const {
    index_t const p0 = outputs_.begin(output), p1 = outputs_.end(output), first = c_.first(p0);
    index_t const i0 = inputs_.begin(input), size = c_.first(p1) - first;
    index_t const inputs = inputs_.end(input) - i0, valid = c_.n - first < size ? c_.n - first : size;
    bool const sums = gb_ && input == 0;
    scratch s(cx, worker);
    T* const slab = s.take<T>(block_rows * size);
    T* const sum = s.take<T>(size);
    bool const copies = gw_ && outputs_.count > 2 && outputs_.size > half_block && rows_meet<T>(in_, 8);
    index_t const x_row = copies ? copied_row<T>(inputs) : in_;
    T* const copy = copies ? s.take<T>(block_rows * x_row) : nullptr;
    for (index_t j = 0; j < size; ++j) sum[j] = T(0);
    for (index_t row = chunks_.begin(chunk); row < chunks_.end(chunk); row += block_rows) {
      index_t const left = chunks_.end(chunk) - row, depth = left < block_rows ? left : block_rows;
      for (index_t p = p0; p < p1; ++p) {
        T* const panel = slab + (c_.first(p) - first) * depth;
        simd::pack_panel(c_, p, depth, gy_ + row * c_.n, c_.n, panel);
        if (sums) add_column_sums(depth, c_.width_of(p), panel, sum + c_.first(p) - first);
      }
      if (!gw_) continue;
      T const* const x = x_ + row * in_ + i0;
      for (index_t r = 0; copies && r < depth; ++r) simd::copy(inputs, x + r * in_, copy + r * x_row);
      // What the next block of rows reads is asked for meanwhile. If tiles share most of it: x by the first panel, shares of gy by
      // the others; else this tile's columns alone.
      index_t const later = left > block_rows ? row + block_rows : begin_of(chunk + cx.pool.size());
      bool const more = later + block_rows <= chunks_.n, all = more && outputs_.count <= 2;
      simd::rows_ahead<T> mine[2];
      if (more && !all) {
        index_t const tiles =
            (p1 - p0) * chunk_count(inputs, simd::detail::panel_tile_rows<simd::panel_registers>);
        mine[0] = {x_ + later * in_ + i0, block_rows, inputs, in_, tiles};
        mine[1] = {gy_ + later * c_.n + first, block_rows, valid, c_.n, tiles};
      }
      index_t const share = block_rows * c_.n / (p1 - p0 > 1 ? p1 - p0 - 1 : 1);
      T const* next = all && inputs_.count == 1 ? x_ + later * in_ : nullptr;
      index_t count = block_rows * in_;
      for (index_t p = p0; p < p1; ++p) {
        simd::panel_product<true>(inputs, c_, p, p + 1, depth, copies ? copy : x, x_row,
                                  simd::right_operand<T>{slab, depth, 0, first}, 0,
                                  {nullptr, adds || row > chunks_.begin(chunk)}, gw + i0 * c_.n, c_.n,
                                  {nullptr, next, count, false, mine});
        next = all ? gy_ + later * c_.n + (p - p0) * share : nullptr, count = share;
      }
    }
    if (!sums) return;
    for (index_t j = 0; j < valid; ++j) gb[first + j] = adds ? gb[first + j] + sum[j] : sum[j];
  }

  index_t in_;
  T const *x_, *gy_;
  T *gw_, *gb_;
  simd::columns<T> c_;
  even_blocks inputs_, outputs_, chunks_;
};

/// y (n x m) += transpose of x (m x n).
template <scalar T>
void add_transpose(context<cpu>& cx, index_t m, index_t n, T const* x, T* y) {
  index_t const rows = simd::width<T>;
  run_chunks(cx, n, rows, [&](index_t begin, index_t end, index_t, int worker) {
    scratch s(cx, worker);
    T* const turned = s.take<T>((end - begin) * m);
    simd::transpose(m, end - begin, x + begin, n, turned, m);
    simd::accumulate((end - begin) * m, turned, y + begin * m);
  });
}

/// gw += x^T gy, gb += column sums of gy; either may be null. The right operand of the product is packed: if x is much narrower, that is
/// x, and the result is turned. Sums of gy's columns come from packed panels of gy.
template <scalar T>
void add_weight_gradient(context<cpu>& cx, index_t rows, index_t in, index_t out, T const* x, T const* gy,
                         T* gw, T* gb) {
  bool const exchanged = gw && !gb && 2 * in <= out && rows >= 4 * (in + out);
  if (!exchanged) return weight_gradient<T>(rows, in, out, x, gy, gw, gb).run(cx);
  scratch s(cx);
  T* const turned = s.take<T>(in * out);
  simd::clear(in * out, turned);
  weight_gradient<T>(rows, out, in, gy, x, turned, nullptr).run(cx);
  add_transpose(cx, out, in, turned, gw);
}

}  // namespace detail

}  // namespace insula
