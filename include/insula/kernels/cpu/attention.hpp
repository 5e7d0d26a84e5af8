// SPDX-License-Identifier: Apache-2.0
// CPU kernels of softmax and global attention: streaming over blocks of keys, scores never leave the cache.
#pragma once

#include <cmath>
#include <limits>
#include <numbers>

#include "insula/kernels/cpu/exp.hpp"
#include "insula/kernels/cpu/product.hpp"
#include "insula/op/attention.hpp"

namespace insula {

namespace simd {

/// The first `lanes` elements, the rest -infinity: nothing to largest, and 0 as an exponential.
template <scalar T>
INSULA_INLINE pack<T> load_least(T const* p, whole) {
  return load(p);
}
template <scalar T>
INSULA_INLINE pack<T> load_least(T const* p, int lanes) {
  pack<T> least = broadcast(-std::numeric_limits<T>::infinity());
#if defined(INSULA_AVX512)
  if constexpr (sizeof(T) == 4)
    return (pack<T>)_mm512_mask_loadu_ps((__m512)least, __mmask16((1u << lanes) - 1u), p);
  else
    return (pack<T>)_mm512_mask_loadu_pd((__m512d)least, __mmask8((1u << lanes) - 1u), p);
#else
  for (int i = 0; i < lanes; ++i) least[i] = p[i];
  return least;
#endif
}

template <scalar T>
INSULA_INLINE T largest_of_row(index_t n, T const* x) {
  constexpr int w = width<T>, at_once = 4;
  pack<T> top[at_once];
#pragma GCC unroll 4
  for (auto& t : top) t = broadcast(-std::numeric_limits<T>::infinity());
  index_t i = 0;
  for (; i + at_once * w <= n; i += at_once * w)
#pragma GCC unroll 4
    for (int j = 0; j < at_once; ++j) top[j] = max(load(x + i + j * w), top[j]);
  each_register<T>(n - i, [&](index_t j, auto lanes) { top[0] = max(load_least(x + i + j, lanes), top[0]); });
  return largest<T>(max(max(top[0], top[1]), max(top[2], top[3])));
}

/// e <- e^(e - top) of N registers.
template <scalar T>
struct natural_exponentials {
  pack<T> top;

  explicit natural_exponentials(T largest) : top(broadcast(largest)) {}
  template <int N>
  INSULA_INLINE void operator()(pack<T> (&e)[N]) const {
#pragma GCC unroll 4
    for (auto& x : e) x -= top;
    exp_all<T>(e);
  }
};

/// e <- 2^(factor e - top) of N registers, a fifth fewer instructions. In float, factor and top are each a number and what it
/// lacks: if scores are in the hundreds, the rounding of either would be an error of whole rows. The number is not above the
/// factor, so that both products of -infinity are -infinity.
template <scalar T>
struct powers_of_two {
  static constexpr bool exact = sizeof(T) == sizeof(double);
  pack<T> factor, factor_rest, top, top_rest;

  powers_of_two(double f, double t) {
    T const high = double(T(f)) > f ? std::nextafter(T(f), T(0)) : T(f);
    factor = broadcast(high), factor_rest = broadcast(T(f - double(high)));
    top = broadcast(T(t)), top_rest = broadcast(T(t - double(T(t))));
  }
  template <int N>
  INSULA_INLINE void operator()(pack<T> (&e)[N]) const {
#pragma GCC unroll 4
    for (auto& x : e)
      x = exact ? fma(factor, x, -top) : fma(factor, x, -top) + fma(factor_rest, x, -top_rest);
    exp2_all<T>(e);
  }
};

/// y = exponentials(x), returns the sum. y may be x.
template <scalar T, class F>
INSULA_INLINE T exp_of_row(index_t n, T const* x, T* y, F const& exponentials) {
  constexpr int w = width<T>, at_once = 4;
  pack<T> sum[at_once]{};
  auto const some = [&]<int N>(index_t i, auto lanes) {
    pack<T> e[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) e[j] = load_least(x + i + j * w, lanes);
    exponentials(e);
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      sum[j] += e[j];
      store(y + i + j * w, e[j], lanes);
    }
  };
  index_t i = 0;
  for (; i + at_once * w <= n; i += at_once * w) some.template operator()<at_once>(i, whole{});
  each_register<T>(n - i, [&](index_t j, auto lanes) { some.template operator()<1>(i + j, lanes); });
  return simd::sum<T>((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/// y = alpha x. y may be x.
template <scalar T>
INSULA_INLINE void scale_row(index_t n, T const* x, T alpha, T* y) {
  pack<T> const f = broadcast(alpha);
  each_register<T>(n, [&](index_t i, auto lanes) { store(y + i, load(x + i, lanes) * f, lanes); });
}

template <scalar T>
INSULA_INLINE T dot_of_rows(index_t n, T const* a, T const* b) {
  pack<T> sum{};
  each_register<T>(n, [&](index_t i, auto lanes) { sum = fma(load(a + i, lanes), load(b + i, lanes), sum); });
  return simd::sum<T>(sum);
}

}  // namespace simd

template <scalar T>
struct kernel<op::softmax, cpu, T> {
  static void run(context<cpu>& cx, typename op::softmax::args<T> const& a) {
    run_chunks(cx, a.rows, chunk_rows(a.width), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        T const* const x = a.x + r * a.width;
        T* const y = a.y + r * a.width;
        T const sum =
            simd::exp_of_row(a.width, x, y, simd::natural_exponentials<T>(simd::largest_of_row(a.width, x)));
        simd::scale_row(a.width, y, T(1) / sum, y);
      }
    });
  }
};

template <scalar T>
struct kernel<op::softmax_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::softmax_grad::args<T> const& a) {
    if (!a.gx) return;
    run_chunks(cx, a.rows, chunk_rows(a.width), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        T const *const y = a.y + r * a.width, *const gy = a.gy + r * a.width;
        T* const gx = a.gx + r * a.width;
        auto const dot = simd::broadcast(simd::dot_of_rows(a.width, y, gy));
        simd::each_register<T>(a.width, [&](index_t i, auto lanes) {
          auto g = simd::load(y + i, lanes) * (simd::load(gy + i, lanes) - dot);
          if (a.adds) g += simd::load(gx + i, lanes);
          simd::store(gx + i, g, lanes);
        });
      }
    });
  }
};

namespace detail {

/// One head of one sample, and how its tokens are cut.
template <scalar T>
struct attention_head {
  /// Forward, the scores of a block of queries stay in an L1 cache of 48 KB; backward, a panel of as many values does.
  static constexpr index_t key_block_forward = 1536 / index_t(sizeof(T)), query_block = 24;
  static constexpr index_t key_block_backward = 768 / index_t(sizeof(T)), query_block_backward = 96;
  static_assert(key_block_backward % (simd::panel_registers * simd::width<T>) == 0 &&
                key_block_forward % key_block_backward == 0);

  index_t tokens, channels, width, padded;  // padded: from row to row of a copy
  index_t key_block;
  T const *q, *k, *v;  // rows 3 channels apart

  template <class Args>
  attention_head(Args const& a, index_t task, index_t keys_at_once)
      : tokens(a.tokens),
        channels(a.channels),
        width(a.channels / a.heads),
        padded(copied_row<T>(width)),
        key_block(keys_at_once) {
    index_t const n = task / a.heads, h = task % a.heads;
    q = a.qkv + n * tokens * 3 * channels + h * width;
    k = q + channels, v = k + channels;
  }
  T factor() const { return T(1 / std::sqrt(double(width))); }
  /// The same in powers of two: 2^(factor_2 score).
  double factor_2() const { return std::numbers::log2e / std::sqrt(double(width)); }
  index_t row() const { return 3 * channels; }
  index_t key_blocks() const { return chunk_count(tokens, key_block); }
  simd::columns<T> keys(index_t block) const {
    index_t const left = tokens - block * key_block;
    return {left < key_block ? left : key_block};
  }
  simd::columns<T> head() const { return {width}; }
  /// Elements of a packed transpose of k or v, of packed values, and of a row-major copy.
  index_t transposed_size() const { return width * simd::columns<T>{tokens}.padded(); }
  index_t packed_size() const { return tokens * head().padded(); }
  index_t copy_size() const { return tokens * padded; }

  /// Packs keys, transposed, and values of key block `block` where whole copies of both have it.
  void pack(index_t block, T* keys, T* values) const {
    pack_transposed(block, k, keys + block * key_block * width);
    pack_values(block, values + block * key_block * head().padded());
  }
  /// Packs key block `block` of the transpose of `from` (k or v) as a right operand of depth `width`.
  void pack_transposed(index_t block, T const* from, T* to) const {
    auto const c = keys(block);
    for (index_t p = 0; p < c.panels(); ++p)
      simd::pack_panel_transposed(c, p, width, from + block * key_block * row(), row(),
                                  to + c.first(p) * width);
  }
  /// Packs the values of key block `block` as a right operand of as many rows as it has keys.
  void pack_values(index_t block, T* to) const {
    simd::pack_panels(head(), 0, head().panels(), keys(block).n, v + block * key_block * row(), row(), to);
  }
  /// Asks for a head's columns of a share (one of `shares`) of the tokens, rows `stride` apart: further than caches foresee.
  INSULA_INLINE void ask_for(T const* from, index_t stride, index_t share, index_t shares) const {
    index_t const end = tokens * (share + 1) / shares;
    for (index_t r = tokens * share / shares; r < end; ++r)
      for (index_t e = 0; e < width; e += index_t(cache_line / sizeof(T)))
        __builtin_prefetch(from + r * stride + e, 0, 2);
  }
  /// Copies a head's columns of all tokens (rows `stride` apart) to rows `padded` apart; what lies between is not written.
  void copy_rows(T const* from, index_t stride, T* to) const {
    for (index_t r = 0; r < tokens; ++r) simd::copy(width, from + r * stride, to + r * padded);
  }
};

/// Groups that a head's blocks are split in, so that few heads still make enough tasks.
constexpr index_t attention_groups(index_t heads, index_t blocks) {
  index_t const wanted = chunk_count(least_tasks, heads);
  return wanted < blocks ? wanted : blocks;
}

}  // namespace detail

/// Tasks are heads x groups of query blocks. If a head has one group, its task packs keys and values, else they are packed before
/// for all.
template <scalar T>
struct kernel<op::attention, cpu, T> {
  static void run(context<cpu>& cx, typename op::attention::args<T> const& a) {
    if (a.batch * a.heads * a.tokens == 0) return;
    using head_type = detail::attention_head<T>;
    index_t const heads = a.batch * a.heads, blocks = chunk_count(a.tokens, head_type::query_block);
    detail::even_blocks const groups(blocks, chunk_count(blocks, detail::attention_groups(heads, blocks)), 1);
    bool const shared = groups.count > 1;
    head_type const any(a, 0, head_type::key_block_forward);
    index_t const keys_size = any.transposed_size(), size = keys_size + any.packed_size();
    scratch all(cx);
    T* const packed = shared ? all.take<T>(heads * size) : nullptr;
    index_t const key_blocks = any.key_blocks();
    if (shared)
      cx.pool.run(heads * key_blocks, [&](index_t task, int) {
        T* const to = packed + task / key_blocks * size;
        head_type(a, task / key_blocks, head_type::key_block_forward)
            .pack(task % key_blocks, to, to + keys_size);
      });
    cx.pool.run(heads * groups.count, [&](index_t task, int worker) {
      index_t const which = task / groups.count, group = task % groups.count;
      head_type const head(a, which, head_type::key_block_forward);
      scratch s(cx, worker);
      T* const keys = shared ? packed + which * size : s.take<T>(size);
      if (!shared)
        for (index_t b = 0; b < key_blocks; ++b) head.pack(b, keys, keys + keys_size);
      bool const asks = !shared && which + 1 < heads;  // for the next head, which this worker may get
      head_type const next(a, asks ? which + 1 : which, head_type::key_block_forward);
      for (index_t b = groups.begin(group); b < groups.end(group); ++b) {
        if (asks)
          for (T const* part : {next.k, next.v, next.q}) next.ask_for(part, next.row(), b, blocks);
        one_block(cx, worker, a, head, which, b * head_type::query_block, keys, keys + keys_size);
      }
    });
  }

 private:
  static void one_block(context<cpu>& cx, int worker, typename op::attention::args<T> const& a,
                        detail::attention_head<T> const& head, index_t which, index_t row, T const* keys,
                        T const* values) {
    using head_type = detail::attention_head<T>;
    index_t const m = a.tokens - row < head_type::query_block ? a.tokens - row : head_type::query_block;
    index_t const width = head.width;
    auto const c = head.head();
    double const factor = head.factor_2();
    scratch s(cx, worker);
    T* const scores = s.take<T>(m * head.key_block);
    T *const top = s.take<T>(m), *const sum = s.take<T>(m), *const out = s.take<T>(m * width);
    for (index_t r = 0; r < m; ++r) top[r] = -std::numeric_limits<T>::infinity(), sum[r] = T(0);

    for (index_t b = 0; b < head.key_blocks(); ++b) {
      simd::columns<T> const n = head.keys(b), wide{n.padded()};
      index_t const first = b * head.key_block, end = wide.n - simd::width<T>;
      auto no_keys = simd::zero<T>();  // -infinity where the last register holds none
      for (index_t i = n.n; i < wide.n; ++i) no_keys[i - end] = -std::numeric_limits<T>::infinity();
      simd::panel_product(m, wide, 0, wide.panels(), width, head.q + row * head.row(), head.row(),
                          simd::right_operand<T>{keys + first * width, width}, 0, {}, scores, wide.n);
      for (index_t r = 0; r < m; ++r) {  // soft-max of what was seen so far
        T* const score = scores + r * wide.n;
        if (n.n < wide.n) simd::store(score + end, simd::load(score + end) + no_keys);
        T const most = T(simd::largest_of_row(wide.n, score) * factor);
        if (most > top[r]) {
          if (b > 0) {
            T const shrink = std::exp2(top[r] - most);
            sum[r] *= shrink;
            simd::scale_row(width, out + r * width, shrink, out + r * width);
          }
          top[r] = most;
        }
        sum[r] += simd::exp_of_row(wide.n, score, score, simd::powers_of_two<T>(factor, double(top[r])));
      }
      simd::panel_product(m, c, 0, c.panels(), n.n, scores, wide.n,
                          simd::right_operand<T>{values + first * c.padded(), n.n}, 0, {nullptr, b > 0}, out,
                          width);
    }
    for (index_t r = 0; r < m; ++r) {
      index_t const at = which / a.heads * a.tokens + row + r;
      simd::scale_row(width, out + r * width, T(1) / sum[r], a.o + at * a.channels + which % a.heads * width);
      if (a.lse)
        a.lse[which * a.tokens + row + r] = T(std::numbers::ln2 * double(top[r]) + double(std::log(sum[r])));
    }
  }
};

/// Tasks are heads x groups of key blocks: gk and gv of a block belong to one task; so does gq if a head has one group, else it is a
/// partial sum per group, added in order.
template <scalar T>
struct kernel<op::attention_grad, cpu, T> {
  using args = typename op::attention_grad::args<T>;
  using head_type = detail::attention_head<T>;

  static void run(context<cpu>& cx, args const& a) {
    if (a.batch * a.heads * a.tokens == 0 || !a.gqkv) return;
    index_t const heads = a.batch * a.heads, blocks = chunk_count(a.tokens, head_type::key_block_backward);
    index_t const width = a.channels / a.heads, size = a.tokens * width;
    detail::even_blocks const groups(blocks, chunk_count(blocks, detail::attention_groups(heads, blocks)), 1);
    scratch shared(cx);
    bool const split = groups.count > 1;
    T* const gq = split ? shared.take<T>(heads * groups.count * size) : nullptr;
    cx.pool.run(heads * groups.count, [&](index_t task, int worker) {
      index_t const group = task % groups.count;
      one_group(cx, worker, a, task / groups.count, groups.begin(group), groups.end(group),
                split ? gq + task * size : nullptr);
    });
    if (!split) return;
    run_chunks(cx, heads * a.tokens, chunk_rows(4 * width), [&](index_t begin, index_t end, index_t, int) {
      for (index_t i = begin; i < end; ++i) {
        index_t const which = i / a.tokens, token = i % a.tokens;
        T* const sum = gq + which * groups.count * size + token * width;
        for (index_t g = 1; g < groups.count; ++g) simd::accumulate(width, sum + g * size, sum);
        index_t const at = which / a.heads * a.tokens + token;
        simd::assign(a.adds, width, sum, a.gqkv + at * 3 * a.channels + which % a.heads * width);
      }
    });
  }

 private:
  /// Key blocks [begin, end) of one head. gq: where their part of the queries' gradients is put; null if they are all blocks, then
  /// it is the gradient.
  static void one_group(context<cpu>& cx, int worker, args const& a, index_t which, index_t begin,
                        index_t end, T* gq) {
    head_type const head(a, which, head_type::key_block_backward);
    index_t const width = head.width, tokens = a.tokens, padded = head.padded;
    constexpr index_t most = head_type::query_block_backward;
    index_t const first_row = which / a.heads * tokens, column = which % a.heads * width;
    T const *const o = a.o + first_row * a.channels + column, *const go =
                                                                  a.go + first_row * a.channels + column;
    scratch s(cx, worker);
    T *const q = s.take<T>(head.copy_size()), *const g = s.take<T>(head.copy_size());
    head.copy_rows(head.q, head.row(), q);
    head.copy_rows(go, a.channels, g);
    T* const delta = s.take<T>(tokens);  // sum over keys of p gp
    for (index_t i = 0; i < tokens; ++i)
      delta[i] = simd::dot_of_rows(width, o + i * a.channels, go + i * a.channels);
    bool const whole = !gq;
    if (whole) gq = s.take<T>(tokens * width);
    T* const gradients = a.gqkv + first_row * head.row() + column;
    T *const keys = s.take<T>(head_type::key_block_backward * width),
             *const values = s.take<T>(head_type::key_block_backward * width),
             *const rows = s.take<T>(head_type::key_block_backward * head.head().padded()),
             *const gk = s.take<T>(head_type::key_block_backward * width),
             *const gv = s.take<T>(head_type::key_block_backward * width);
    constexpr index_t broad = copied_row_of_keys();
    T *const p = s.take<T>(most * broad), *const gp = s.take<T>(most * broad);
    auto const c = head.head();
    T *const right_q = s.take<T>(most * c.padded()), *const right_g = s.take<T>(most * c.padded());
    bool const asks = whole && which + 1 < a.batch * a.heads;  // for the next head, which this worker may get
    head_type const next(a, asks ? which + 1 : which, head_type::key_block_backward);
    index_t const next_first =
        (which + asks) / a.heads * tokens * a.channels + (which + asks) % a.heads * width;
    index_t const shares = (end - begin) * chunk_count(tokens, most);

    for (index_t b = begin; b < end; ++b) {
      simd::columns<T> const n = head.keys(b), wide{n.padded()};
      index_t const key = b * head.key_block;
      head.pack_transposed(b, head.k, keys);
      head.pack_transposed(b, head.v, values);
      simd::pack_panels(c, 0, c.panels(), n.n, head.k + key * head.row(), head.row(), rows);
      for (index_t row = 0; row < tokens; row += most) {
        index_t const m = tokens - row < most ? tokens - row : most;
        if (asks) {
          index_t const share = (b - begin) * chunk_count(tokens, most) + row / most;
          for (T const* part : {next.q, next.k, next.v}) next.ask_for(part, next.row(), share, shares);
          for (T const* part : {a.o, a.go}) next.ask_for(part + next_first, a.channels, share, shares);
        }
        simd::panel_product(m, wide, 0, wide.panels(), width, q + row * padded, padded,
                            simd::right_operand<T>{keys, width}, 0, {}, p, broad);
        simd::panel_product(m, wide, 0, wide.panels(), width, g + row * padded, padded,
                            simd::right_operand<T>{values, width}, 0, {}, gp, broad);
        through_softmax(m, wide.n, broad, head, a.lse + which * tokens + row, delta + row, p, gp);
        simd::pack_panels(c, 0, c.panels(), m, q + row * padded, padded, right_q);
        simd::pack_panels(c, 0, c.panels(), m, g + row * padded, padded, right_g);
        bool const adds = row > 0;
        simd::panel_product<true>(n.n, c, 0, c.panels(), m, p, broad, simd::right_operand<T>{right_g, m}, 0,
                                  {nullptr, adds}, gv, width);
        simd::panel_product<true>(n.n, c, 0, c.panels(), m, gp, broad, simd::right_operand<T>{right_q, m}, 0,
                                  {nullptr, adds}, gk, width);
        simd::panel_product(m, c, 0, c.panels(), n.n, gp, broad, simd::right_operand<T>{rows, n.n}, 0,
                            {nullptr, b > begin}, gq + row * width, width);
      }
      for (index_t j = 0; j < n.n; ++j) {
        T* const to = gradients + (key + j) * head.row();
        simd::assign(a.adds, width, gk + j * width, to + a.channels);
        simd::assign(a.adds, width, gv + j * width, to + 2 * a.channels);
      }
    }
    for (index_t i = 0; whole && i < tokens; ++i)
      simd::assign(a.adds, width, gq + i * width, gradients + i * head.row());
  }

  static constexpr index_t copied_row_of_keys() {
    return detail::copied_row<T>(head_type::key_block_backward);
  }

  /// p <- exp(p / sqrt(width) - lse), gp <- p (gp - delta) / sqrt(width). Padded columns hold numbers that nobody reads.
  static void through_softmax(index_t m, index_t n, index_t stride, head_type const& head, T const* lse,
                              T const* delta, T* p, T* gp) {
    constexpr index_t w = simd::width<T>;
    auto const f = simd::broadcast(head.factor());
    for (index_t r = 0; r < m; ++r, p += stride, gp += stride) {
      simd::powers_of_two<T> const exponentials(head.factor_2(), std::numbers::log2e * double(lse[r]));
      auto const d = simd::broadcast(delta[r]);
      auto const some = [&]<int N>(index_t i) {
        simd::pack<T> e[N];
#pragma GCC unroll 4
        for (int j = 0; j < N; ++j) e[j] = simd::load(p + i + j * w);
        exponentials(e);
#pragma GCC unroll 4
        for (int j = 0; j < N; ++j) {
          simd::store(p + i + j * w, e[j]);
          simd::store(gp + i + j * w, e[j] * (simd::load(gp + i + j * w) - d) * f);
        }
      };
      index_t i = 0;
      for (; i + 4 * w <= n; i += 4 * w) some.template operator()<4>(i);
      for (; i < n; i += w) some.template operator()<1>(i);
    }
  }
};

}  // namespace insula
