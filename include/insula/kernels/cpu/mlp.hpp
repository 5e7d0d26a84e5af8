// SPDX-License-Identifier: Apache-2.0
// CPU kernels of mlp and mlp_grad: layer norm, two products and GELU per block of rows, the hidden layer in the cache.
#pragma once

#include "insula/kernels/cpu/erf.hpp"
#include "insula/kernels/cpu/norm_row.hpp"
#include "insula/kernels/cpu/product.hpp"
#include "insula/op/gemm.hpp"

namespace insula {

namespace detail {

/// The hidden layer is worked on in blocks of 192 columns (float): as many rows of the second weights fit the L1 cache
/// as a panel, and partial results are read and written seldom.
template <scalar T>
struct hidden_blocks {
  static constexpr index_t size = 768 / index_t(sizeof(T));
  static_assert(size % (simd::panel_registers * simd::width<T>) == 0);
  index_t hidden;
  constexpr index_t count() const { return chunk_count(hidden, size); }
  constexpr index_t first(index_t i) const { return i * size; }
  constexpr simd::columns<T> columns(index_t i) const {
    return {hidden - i * size < size ? hidden - i * size : size};
  }
  /// The same columns with the last register counted in full.
  constexpr simd::columns<T> padded(index_t i) const { return {columns(i).padded()}; }
  /// Elements of a packed operand of `depth` rows.
  constexpr index_t packed(index_t depth) const { return depth * simd::columns<T>{hidden}.padded(); }
};

/// W (width x hidden), or its transpose (hidden x width) if Transposed, packed block by block as depth = width.
template <bool Transposed, scalar T>
void pack_hidden(context<cpu>& cx, hidden_blocks<T> h, index_t width, T const* w, T* packed) {
  cx.pool.run(h.count(), [&](index_t i, int) {
    auto const c = h.columns(i);
    T* const to = packed + h.first(i) * width;
    for (index_t p = 0; p < c.panels(); ++p)
      if constexpr (Transposed)
        simd::pack_panel_transposed(c, p, width, w + h.first(i) * width, width, to + c.first(p) * width);
      else
        simd::pack_panel(c, p, width, w + h.first(i), h.hidden, to + c.first(p) * width);
  });
}

/// C = start + A B, the depth cut by block_depth. `next`: m * depth elements that are read next, or
/// null.
template <scalar T>
void deep_product(index_t m, simd::columns<T> c, index_t depth, T const* a, index_t a_row,
                  simd::right_operand<T> b, simd::product_start<T> start, T* out, index_t out_row,
                  T const* next = nullptr) {
  even_blocks const k(depth, block_depth<T>, 1);
  for (index_t i = 0; i < k.count; ++i)
    simd::panel_product(m, c, 0, c.panels(), k.end(i) - k.begin(i), a + k.begin(i), a_row, b, k.begin(i),
                        i == 0 ? start : simd::product_start<T>{nullptr, true}, out, out_row,
                        {nullptr, k.count == 1 ? next : nullptr, m * depth});
}

/// A bias with zeros up to the register width, or null.
template <scalar T>
T const* pad_bias(scratch& s, index_t n, T const* b) {
  if (!b) return nullptr;
  index_t const padded = simd::columns<T>{n}.padded();
  T* const to = s.take<T>(padded);
  for (index_t i = 0; i < padded; ++i) to[i] = i < n ? b[i] : T(0);
  return to;
}

}  // namespace detail

/// Tasks are blocks of rows; if those are few (a deep stage: few tokens, big weights) also groups of hidden blocks,
/// whose partial results are added in order. A task works on strips of rows: few if the weights stay in the L2 cache and
/// the hidden layer can stay in the L1 cache, else more, so that weights are read less often.
template <scalar T>
struct kernel<op::mlp, cpu, T> {
  static void run(context<cpu>& cx, typename op::mlp::args<T> const& a) {
    if (a.rows > 0 && a.width > 0) mlp_run(cx, a).run();
  }

 private:
  using args = typename op::mlp::args<T>;

  class mlp_run {
   public:
    mlp_run(context<cpu>& cx, args const& a)
        : cx_(cx),
          a_(a),
          h_{a.hidden},
          c_{a.width},
          rows_(a.rows, 240, 24),
          groups_(h_.count(), chunk_count(h_.count(), group_count(rows_.count)), 1),
          strip_(2 * a.width * a.hidden * index_t(sizeof(T)) <= small_weights ? 24 : 96),
          shared_(cx) {
      w1_ = shared_.take<T>(h_.packed(a.width));
      detail::pack_hidden<false>(cx, h_, a.width, a.w1, w1_);
      w2_ = detail::pack_weights<false>(cx, a.hidden, c_, a.w2, shared_.take<T>(a.hidden * c_.padded()));
      b1_ = detail::pad_bias(shared_, a.hidden, a.b1);
      if (groups_.count > 1) partial_ = shared_.take<T>(groups_.count * a.rows * a.width);
    }

    void run() {
      cx_.pool.run(rows_.count * groups_.count, [&](index_t task, int worker) {
        index_t const group = task % groups_.count, block = task / groups_.count;
        scratch mine(cx_, worker);
        T* const normed = mine.take<T>(strip_ * a_.width);
        T* const u = mine.take<T>(strip_ * h_.size);
        for (index_t row = rows_.begin(block); row < rows_.end(block); row += strip_) {
          index_t const m = rows_.end(block) - row < strip_ ? rows_.end(block) - row : strip_;
          T* const to = (partial_ ? partial_ + group * a_.rows * a_.width : a_.y) + row * a_.width;
          one_strip(row, m, group, normed, u, to);
        }
      });
      if (partial_)
        run_chunks(cx_, a_.rows, chunk_rows(8 * a_.width), [&](index_t begin, index_t end, index_t, int) {
          add_shortcut(begin, end - begin, groups_.count, a_.y + begin * a_.width);
        });
    }

   private:
    static constexpr index_t small_weights = 320 * 1024;  // bytes that stay in the L2 cache beside a strip

    static index_t group_count(index_t row_blocks) {
      return row_blocks >= 8 ? 1 : chunk_count(detail::least_tasks, row_blocks);
    }

    void one_strip(index_t row, index_t m, index_t group, T* normed, T* u, T* out) const {
      index_t const width = a_.width;
      T const* const x = a_.x + row * width;
      simd::each_statistics(0, m, width, x, a_.eps, [&](index_t r, simd::row_statistics<T> stats) {
        simd::normalise_row(width, x + r * width, stats, a_.norm_w, a_.norm_b, normed + r * width);
      });
      if (!partial_) add_shortcut(row, m, 0, out);
      bool const more = !partial_ && row + m + m <= a_.rows;  // of which x and y are asked for meanwhile
      T const* const next_x = more ? a_.x + (row + m) * width : nullptr;
      T* const next_y = more ? a_.y + (row + m) * width : nullptr;
      for (index_t b = groups_.begin(group); b < groups_.end(group); ++b) {
        auto const wide = h_.padded(b);
        detail::deep_product(m, wide, width, normed, width,
                             simd::right_operand<T>{w1_ + h_.first(b) * width, width},
                             {b1_ ? b1_ + h_.first(b) : nullptr, false}, u, wide.n,
                             b == groups_.begin(group) ? next_x : nullptr);
        simd::gelu_of_row(m * wide.n, u, u);
        simd::panel_product(m, c_, 0, c_.panels(), h_.columns(b).n, u, wide.n, w2_, h_.first(b),
                            {nullptr, !partial_ || b > groups_.begin(group)}, out, width,
                            {b + 1 == groups_.end(group) ? next_y : nullptr});
      }
    }

    /// out = x + b2 + partial[0] + partial[1] + ... for m rows.
    void add_shortcut(index_t row, index_t m, index_t count, T* out) const {
      for (index_t r = row; r < row + m; ++r, out += a_.width) {
        T const *const x = a_.x + r * a_.width, *const b2 = a_.b2;
        simd::each_register<T>(a_.width, [&](index_t i, auto lanes) {
          auto v = simd::load(x + i, lanes);
          if (b2) v += simd::load(b2 + i, lanes);
          for (index_t g = 0; g < count; ++g)
            v += simd::load(partial_ + (g * a_.rows + r) * a_.width + i, lanes);
          simd::store(out + i, v, lanes);
        });
      }
    }

    context<cpu>& cx_;
    args const& a_;
    detail::hidden_blocks<T> h_;
    simd::columns<T> c_;
    detail::even_blocks rows_, groups_;
    index_t strip_;
    scratch shared_;
    T* w1_ = nullptr;
    simd::right_operand<T> w2_{};
    T const* b1_ = nullptr;
    T* partial_ = nullptr;
  };
};

/// Tasks are chunks of rows x groups of hidden blocks. Weight gradients of several chunks, and input gradients of
/// several groups, are partial sums added in order.
template <scalar T>
struct kernel<op::mlp_grad, cpu, T> {
  using args = typename op::mlp_grad::args<T>;

  static void run(context<cpu>& cx, args const& a) {
    if (a.rows > 0 && a.width > 0) mlp_grad_run(cx, a).run();
  }

 private:
  class mlp_grad_run {
   public:
    mlp_grad_run(context<cpu>& cx, args const& a)
        : cx_(cx),
          a_(a),
          h_{a.hidden},
          c_{a.width},
          chunks_(a.rows, chunk_size(a), 24),
          groups_(h_.count(), chunk_count(h_.count(), group_count(chunks_.count)), 1),
          shared_(cx) {
      w1_ = shared_.take<T>(h_.packed(a.width));
      w2t_ = shared_.take<T>(h_.packed(a.width));
      detail::pack_hidden<false>(cx, h_, a.width, a.w1, w1_);
      detail::pack_hidden<true>(cx, h_, a.width, a.w2, w2t_);
      w1t_ = detail::pack_weights<true>(cx, a.hidden, c_, a.w1, shared_.take<T>(a.hidden * c_.padded()));
      b1_ = detail::pad_bias(shared_, a.hidden, a.b1);
      index_t const matrix = a.width * a.hidden;
      if (chunks_.count > 1) {
        if (a.gw1) pw1_ = shared_.take<T>(chunks_.count * matrix);
        if (a.gw2) pw2_ = shared_.take<T>(chunks_.count * matrix);
      }
      pb1_ = shared_.take<T>(chunks_.count * a.hidden);
      pb2_ = shared_.take<T>(chunks_.count * a.width);
      if (groups_.count > 1) gnormed_ = shared_.take<T>(groups_.count * a.rows * a.width);
    }

    void run() {
      index_t const width = a_.width, matrix = a_.width * a_.hidden;
      bool const split = groups_.count > 1;
      detail::even_blocks const last(a_.rows, split ? 24 : chunks_.size, 24);
      T* const pnorm = shared_.take<T>(last.count * 2 * width);
      cx_.pool.run(chunks_.count * groups_.count, [&](index_t task, int worker) {
        index_t const chunk = task / groups_.count;
        add_chunk(chunk, task % groups_.count, worker, pnorm + 2 * chunk * width);
      });
      if (split)
        cx_.pool.run(last.count, [&](index_t i, int) {
          T* const sums = pnorm + 2 * i * width;
          clear(2 * width, sums);
          for (index_t r = last.begin(i); r < last.end(i); ++r) {
            T* const g = gnormed_ + r * width;
            for (index_t k = 1; k < groups_.count; ++k) simd::accumulate(width, g + k * a_.rows * width, g);
            finish_row(r, simd::statistics_of_row(width, a_.x + r * width, a_.eps), g, sums);
          }
        });
      if (pw1_) detail::add_partials(cx_, matrix, chunks_.count, matrix, pw1_, a_.gw1);
      if (pw2_) detail::add_partials(cx_, matrix, chunks_.count, matrix, pw2_, a_.gw2);
      if (a_.gb1) detail::add_partials(cx_, a_.hidden, chunks_.count, a_.hidden, pb1_, a_.gb1);
      if (a_.gb2) detail::add_partials(cx_, width, chunks_.count, width, pb2_, a_.gb2);
      if (a_.gnorm_w) detail::add_partials(cx_, width, last.count, 2 * width, pnorm, a_.gnorm_w);
      if (a_.gnorm_b) detail::add_partials(cx_, width, last.count, 2 * width, pnorm + width, a_.gnorm_b);
    }

   private:
    static constexpr index_t partial_bytes = 12 << 20;  // of weight gradients, all chunks together
    /// Bytes of rows in work: with the weights that pass by they stay in the L2 cache. Rows so long that only few fit come from
    /// further away, many at a time, so that weights and their gradients pass by less often.
    static constexpr index_t tile_bytes = (simd::register_count == 32 ? 640 : 320) * 1024;
    static constexpr index_t few_rows = 72, many_rows = 192;

    static index_t chunk_size(args const& a) {
      index_t const weights = 2 * a.width * a.hidden * index_t(sizeof(T));
      index_t count = chunk_count(a.rows, 216);
      if (count > 2 * detail::least_tasks) count = 2 * detail::least_tasks;
      if (count > partial_bytes / (weights + 1)) count = partial_bytes / (weights + 1);
      return chunk_count(a.rows, count > 1 ? count : 1);
    }
    static index_t group_count(index_t chunks) {
      return chunks >= 8 ? 1 : chunk_count(detail::least_tasks, chunks);
    }
    static void clear(index_t n, T* y) {
      for (index_t i = 0; i < n; ++i) y[i] = T(0);
    }

    void add_chunk(index_t chunk, index_t group, int worker, T* pnorm) {
      index_t const width = a_.width, begin = chunks_.begin(chunk), rows = chunks_.end(chunk) - begin;
      index_t const block = h_.hidden < h_.size ? h_.hidden : h_.size;
      index_t const most = tile_bytes / ((3 * width + 2 * block) * index_t(sizeof(T)));
      detail::even_blocks const tiles(rows, most < few_rows || most > many_rows ? many_rows : most, 24);
      T* const pb1 = pb1_ + chunk * a_.hidden;
      T* const pb2 = pb2_ + chunk * width;
      if (group == 0) clear(width, pb2);
      for (index_t b = groups_.begin(group); b < groups_.end(group); ++b)
        clear(h_.columns(b).n, pb1 + h_.first(b));
      if (groups_.count == 1) clear(2 * width, pnorm);
      for (index_t t = 0; t < tiles.count; ++t) {
        index_t const row = begin + tiles.begin(t), m = tiles.end(t) - tiles.begin(t);
        if (group == 0)
          for (index_t r = row; r < row + m; ++r) simd::accumulate(width, a_.gy + r * width, pb2);
        add_tile(chunk, group, worker, row, m, t == 0, pb1, pnorm);
      }
    }

    void add_tile(index_t chunk, index_t group, int worker, index_t row, index_t m, bool starts, T* pb1,
                  T* pnorm) {
      index_t const width = a_.width, hidden = a_.hidden;
      scratch mine(cx_, worker);
      index_t const narrow = detail::copied_row<T>(width), broad = detail::copied_row<T>(h_.size);
      auto* const stats = mine.take<simd::row_statistics<T>>(m);
      T *const normed = mine.take<T>(m * narrow), *const gy = mine.take<T>(m * narrow);
      T *const u = mine.take<T>(m * broad), *const gu = mine.take<T>(m * broad);
      T* const gnormed = gnormed_ ? gnormed_ + (group * a_.rows + row) * width : mine.take<T>(m * width);
      T const* const x = a_.x + row * width;
      simd::each_statistics(0, m, width, x, a_.eps, [&](index_t r, simd::row_statistics<T> of) {
        stats[r] = of;
        simd::normalise_row(width, x + r * width, of, a_.norm_w, a_.norm_b, normed + r * narrow);
        simd::copy(width, a_.gy + (row + r) * width, gy + r * narrow);
        clear(c_.padded() - width, gy + r * narrow + width);  // right operands are read in whole registers
      });
      index_t const matrix = width * hidden;
      T* const gw1 = pw1_ ? pw1_ + chunk * matrix : a_.gw1;
      T* const gw2 = pw2_ ? pw2_ + chunk * matrix : a_.gw2;
      bool const adds = chunks_.count == 1 || !starts;

      for (index_t b = groups_.begin(group); b < groups_.end(group); ++b) {
        auto const c = h_.columns(b), wide = h_.padded(b);
        index_t const first = h_.first(b);
        detail::deep_product(m, wide, width, normed, narrow,
                             simd::right_operand<T>{w1_ + first * width, width},
                             {b1_ ? b1_ + first : nullptr, false}, u, broad);
        detail::deep_product(m, wide, width, gy, narrow, simd::right_operand<T>{w2t_ + first * width, width},
                             {}, gu, broad);
        through_gelu(m, c.n, broad, u, gu, pb1 + first);
        if (gw2)
          simd::panel_product<true>(c.n, c_, 0, c_.panels(), m, u, broad,
                                    simd::right_operand<T>{gy, m, narrow}, 0, {nullptr, adds},
                                    gw2 + first * width, width);
        if (gw1)
          simd::panel_product<true>(width, c, 0, c.panels(), m, normed, narrow,
                                    simd::right_operand<T>{gu, m, broad}, 0, {nullptr, adds}, gw1 + first,
                                    hidden);
        simd::panel_product(m, c_, 0, c_.panels(), c.n, gu, broad, w1t_, first,
                            {nullptr, b > groups_.begin(group)}, gnormed, width);
      }
      if (!gnormed_)
        for (index_t r = 0; r < m; ++r) finish_row(row + r, stats[r], gnormed + r * width, pnorm);
    }

    /// u <- gelu(u), gu <- gu gelu'(u), sums += column sums of gu.
    static void through_gelu(index_t m, index_t n, index_t stride, T* u, T* gu, T* sums) {
      constexpr index_t w = simd::width<T>, at_once = simd::register_count / 8;
      index_t const whole = n / (at_once * w) * at_once * w;
      for (index_t r = 0; r < m; ++r, u += stride, gu += stride) {
        for (index_t i = 0; i < whole; i += at_once * w) {
          simd::pack<T> some[at_once];
#pragma GCC unroll 4
          for (int j = 0; j < at_once; ++j) some[j] = simd::load(u + i + j * w);
          auto const g = simd::gelu_with_slope_all<T>(some);
#pragma GCC unroll 4
          for (int j = 0; j < at_once; ++j) {
            auto const gi = simd::load(gu + i + j * w) * g.slope[j];
            simd::store(u + i + j * w, g.value[j]);
            simd::store(gu + i + j * w, gi);
            simd::store(sums + i + j * w, simd::load(sums + i + j * w) + gi);
          }
        }
        simd::each_register<T>(n - whole, [&](index_t j, auto lanes) {
          index_t const i = whole + j;
          auto const g = simd::gelu_with_slope<T>(simd::load(u + i));
          auto const gi = simd::load(gu + i) * g.slope;
          simd::store(u + i, g.value);
          simd::store(gu + i, gi);
          simd::store(sums + i, simd::load(sums + i, lanes) + gi, lanes);
        });
      }
    }

    /// Gradient of the normalisation, and the shortcut's.
    void finish_row(index_t r, simd::row_statistics<T> stats, T const* gnormed, T* pnorm) const {
      index_t const at = r * a_.width;
      simd::normalise_row_grad(a_.width, a_.x + at, stats, a_.norm_w, gnormed, a_.gy + at, a_.adds,
                               a_.gx ? a_.gx + at : nullptr, pnorm, pnorm + a_.width);
    }

    context<cpu>& cx_;
    args const& a_;
    detail::hidden_blocks<T> h_;
    simd::columns<T> c_;
    detail::even_blocks chunks_, groups_;
    scratch shared_;
    T *w1_ = nullptr, *w2t_ = nullptr;
    simd::right_operand<T> w1t_{};
    T const* b1_ = nullptr;
    T *pw1_ = nullptr, *pw2_ = nullptr, *pb1_ = nullptr, *pb2_ = nullptr, *gnormed_ = nullptr;
  };
};

}  // namespace insula
