// SPDX-License-Identifier: Apache-2.0
// CPU kernels of mlp and mlp_grad: layer norm, two products and GELU per block of rows, the hidden layer in the cache.
#pragma once

#include "insula/kernels/cpu/erf.hpp"
#include "insula/kernels/cpu/norm_row.hpp"
#include "insula/kernels/cpu/product.hpp"
#include "insula/op/gemm.hpp"

namespace insula {

namespace detail {

/// The hidden layer is worked on in blocks of four panels.
template <scalar T>
struct hidden_blocks {
  static constexpr index_t size = 4 * simd::panel_registers * simd::width<T>;
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
/// whose partial results are added in order.
template <scalar T>
struct kernel<op::mlp, cpu, T> {
  static void run(context<cpu>& cx, typename op::mlp::args<T> const& a) {
    if (a.rows == 0 || a.width == 0) return;
    detail::hidden_blocks<T> const h{a.hidden};
    simd::columns<T> const c{a.width};
    detail::even_blocks const rows(a.rows, 240, 24);
    index_t const wanted = rows.count >= 8 ? 1 : chunk_count(detail::least_tasks, rows.count);
    detail::even_blocks const groups(h.count(), chunk_count(h.count(), wanted), 1);

    scratch s(cx);
    T* const w1 = s.take<T>(h.packed(a.width));
    detail::pack_hidden<false>(cx, h, a.width, a.w1, w1);
    auto const w2 =
        detail::pack_weights<false>(cx, a.hidden, a.width, a.w2, s.take<T>(a.hidden * c.padded()));
    T const* const b1 = detail::pad_bias(s, a.hidden, a.b1);
    bool const split = groups.count > 1;
    T* const partial = split ? s.take<T>(groups.count * a.rows * a.width) : nullptr;

    cx.pool.run(rows.count * groups.count, [&](index_t task, int worker) {
      index_t const row = rows.begin(task / groups.count), group = task % groups.count;
      index_t const m = rows.end(task / groups.count) - row;
      scratch mine(cx, worker);
      T* const normed = mine.take<T>(m * a.width);
      T* const u = mine.take<T>(m * h.size);
      for (index_t r = 0; r < m; ++r) {
        T const* const x = a.x + (row + r) * a.width;
        auto const stats = simd::statistics_of_row(a.width, x, a.eps);
        simd::normalise_row(a.width, x, stats, a.norm_w, a.norm_b, normed + r * a.width);
      }
      T* const out = (split ? partial + group * a.rows * a.width : a.y) + row * a.width;
      if (!split) add_shortcut(a, row, m, nullptr, 0);
      for (index_t b = groups.begin(group); b < groups.end(group); ++b) {
        auto const wide = h.padded(b);
        simd::panel_product(m, wide, 0, wide.panels(), a.width, normed, a.width,
                            simd::right_operand<T>{w1 + h.first(b) * a.width, a.width}, 0,
                            {b1 ? b1 + h.first(b) : nullptr, false}, u, wide.n);
        simd::each_register<T>(m * wide.n, [=](index_t i, auto lanes) {
          simd::store(u + i, simd::gelu<T>(simd::load(u + i, lanes)), lanes);
        });
        simd::panel_product(m, c, 0, c.panels(), h.columns(b).n, u, wide.n, w2, h.first(b),
                            {nullptr, !split || b > groups.begin(group)}, out, a.width);
      }
    });
    if (split)
      run_chunks(cx, a.rows, chunk_rows(8 * a.width), [&](index_t begin, index_t end, index_t, int) {
        add_shortcut(a, begin, end - begin, partial, groups.count);
      });
  }

 private:
  /// y = x + b2 + partial[0] + partial[1] + ... for m rows.
  static void add_shortcut(typename op::mlp::args<T> const& a, index_t row, index_t m, T const* partial,
                           index_t count) {
    for (index_t r = row; r < row + m; ++r) {
      T const *const x = a.x + r * a.width, *const b2 = a.b2;
      T* const y = a.y + r * a.width;
      simd::each_register<T>(a.width, [&](index_t i, auto lanes) {
        auto v = simd::load(x + i, lanes);
        if (b2) v += simd::load(b2 + i, lanes);
        for (index_t g = 0; g < count; ++g) v += simd::load(partial + (g * a.rows + r) * a.width + i, lanes);
        simd::store(y + i, v, lanes);
      });
    }
  }
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
      w1t_ = detail::pack_weights<true>(cx, a.hidden, a.width, a.w1, shared_.take<T>(a.hidden * c_.padded()));
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
    static constexpr index_t tile_bytes = 640 * 1024;   // of rows in work, inside the L2 cache

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
      index_t const most = tile_bytes / (2 * (width + h_.size) * index_t(sizeof(T)));
      detail::even_blocks const tiles(rows, most < 24 ? 24 : most > 192 ? 192 : most, 24);
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
      T const* const gy = a_.gy + row * width;
      scratch mine(cx_, worker);
      auto* const stats = mine.take<simd::row_statistics<T>>(m);
      T* const normed = mine.take<T>(m * width);
      T* const u = mine.take<T>(m * h_.size);
      T* const gu = mine.take<T>(m * h_.size);
      T* const gnormed = gnormed_ ? gnormed_ + (group * a_.rows + row) * width : mine.take<T>(m * width);
      for (index_t r = 0; r < m; ++r) {
        T const* const x = a_.x + (row + r) * width;
        stats[r] = simd::statistics_of_row(width, x, a_.eps);
        simd::normalise_row(width, x, stats[r], a_.norm_w, a_.norm_b, normed + r * width);
      }
      T const* padded_gy = gy;
      if (c_.padded() != width && a_.gw2) {
        T* const to = mine.take<T>(m * c_.padded());
        for (index_t r = 0; r < m; ++r) simd::copy(width, gy + r * width, to + r * c_.padded());
        for (index_t r = 0; r < m; ++r) clear(c_.padded() - width, to + r * c_.padded() + width);
        padded_gy = to;
      }
      index_t const matrix = width * hidden;
      T* const gw1 = pw1_ ? pw1_ + chunk * matrix : a_.gw1;
      T* const gw2 = pw2_ ? pw2_ + chunk * matrix : a_.gw2;
      bool const adds = chunks_.count == 1 || !starts;

      for (index_t b = groups_.begin(group); b < groups_.end(group); ++b) {
        auto const c = h_.columns(b), wide = h_.padded(b);
        index_t const first = h_.first(b);
        simd::panel_product(m, wide, 0, wide.panels(), width, normed, width,
                            simd::right_operand<T>{w1_ + first * width, width}, 0,
                            {b1_ ? b1_ + first : nullptr, false}, u, wide.n);
        simd::panel_product(m, wide, 0, wide.panels(), width, gy, width,
                            simd::right_operand<T>{w2t_ + first * width, width}, 0, {}, gu, wide.n);
        through_gelu(m, c.n, wide.n, u, gu, pb1 + first);
        if (gw2)
          simd::panel_product<true>(c.n, c_, 0, c_.panels(), m, u, wide.n,
                                    simd::right_operand<T>{padded_gy, m, c_.padded()}, 0, {nullptr, adds},
                                    gw2 + first * width, width);
        if (gw1)
          simd::panel_product<true>(width, c, 0, c.panels(), m, normed, width,
                                    simd::right_operand<T>{gu, m, wide.n}, 0, {nullptr, adds}, gw1 + first,
                                    hidden);
        simd::panel_product(m, c_, 0, c_.panels(), c.n, gu, wide.n, w1t_, first,
                            {nullptr, b > groups_.begin(group)}, gnormed, width);
      }
      if (!gnormed_)
        for (index_t r = 0; r < m; ++r) finish_row(row + r, stats[r], gnormed + r * width, pnorm);
    }

    /// u <- gelu(u), gu <- gu gelu'(u), sums += column sums of gu.
    static void through_gelu(index_t m, index_t n, index_t stride, T* u, T* gu, T* sums) {
      for (index_t r = 0; r < m; ++r, u += stride, gu += stride)
        simd::each_register<T>(n, [&](index_t i, auto lanes) {
          auto const g = simd::gelu_with_slope<T>(simd::load(u + i));
          auto const gi = simd::load(gu + i) * g.slope;
          simd::store(u + i, g.value);
          simd::store(gu + i, gi);
          simd::store(sums + i, simd::load(sums + i, lanes) + gi, lanes);
        });
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
