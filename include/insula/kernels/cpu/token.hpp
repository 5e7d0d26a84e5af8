// SPDX-License-Identifier: Apache-2.0
// lead_tokens, restore_tokens, slice_tokens and their gradients on the CPU: rows are copied, sums kept in double.
#pragma once

#include "insula/kernels/cpu/row.hpp"
#include "insula/op/token.hpp"

namespace insula {

namespace detail::token {

/// y = a + b
template <scalar T>
INSULA_INLINE void add_rows(index_t n, T const* a, T const* b, T* y) {
  simd::each_register<T>(n, [=](index_t i, auto lanes) {
    simd::store(y + i, simd::load(a + i, lanes) + simd::load(b + i, lanes), lanes);
  });
}
/// sum += x
template <scalar T>
INSULA_INLINE void add_to_sums(index_t n, T const* x, double* sum) {
  simd::each_register<double>(n, [=](index_t i, auto lanes) {
    simd::store(sum + i, simd::load(sum + i, lanes) + simd::load_double(x + i, lanes), lanes);
  });
}
/// g += sum
template <scalar T>
void add_sums(index_t n, double const* sum, T* g) {
  for (index_t i = 0; i < n; ++i) g[i] += T(sum[i]);
}

/// gposition[t,:] += sum over samples of the row that position t was added to; row(n, t) is null where there is none.
template <scalar T, class F>
void position_gradient(context<cpu>& cx, index_t batch, index_t positions, index_t channels, T* gposition,
                       F const& row) {
  run_chunks(cx, positions, chunk_rows(channels * batch),
             [&](index_t begin, index_t end, index_t, int worker) {
               scratch s(cx, worker);
               double* const sum = s.take<double>(channels);
               for (index_t t = begin; t < end; ++t) {
                 simd::clear(channels, sum);
                 for (index_t n = 0; n < batch; ++n)
                   if (T const* const gy = row(n, t)) add_to_sums(channels, gy, sum);
                 add_sums(channels, sum, gposition + t * channels);
               }
             });
}

}  // namespace detail::token

template <scalar T>
struct kernel<op::lead_tokens, cpu, T> {
  static void run(context<cpu>& cx, typename op::lead_tokens::args<T> const& a) {
    index_t const c = a.channels, sequence = a.tokens + 1;
    run_chunks(cx, a.batch * sequence, chunk_rows(c), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        index_t const n = r / sequence, t = r % sequence;
        index_t const at = t == 0 ? 0 : a.shuffle ? 1 + a.shuffle[n * a.positions + t - 1] : t;
        T const* const x = t == 0 ? a.token : a.x + (n * a.tokens + t - 1) * c;
        detail::token::add_rows(c, x, a.position + at * c, a.y + r * c);
      }
    });
  }
};

template <scalar T>
struct kernel<op::lead_tokens_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::lead_tokens_grad::args<T> const& a) {
    index_t const c = a.channels, sequence = a.tokens + 1;
    if (a.gx)
      run_chunks(cx, a.batch * a.tokens, chunk_rows(c), [&](index_t begin, index_t end, index_t, int) {
        for (index_t r = begin; r < end; ++r)
          simd::assign(a.adds, c, a.gy + (r / a.tokens * sequence + 1 + r % a.tokens) * c, a.gx + r * c);
      });
    if (a.gtoken)
      detail::token::position_gradient(cx, a.batch, 1, c, a.gtoken,
                                       [&](index_t n, index_t) { return a.gy + n * sequence * c; });
    if (!a.gposition) return;
    detail::token::position_gradient(
        cx, a.batch, a.positions + 1, c, a.gposition, [&](index_t n, index_t t) -> T const* {
          index_t const k = t == 0 ? 0 : a.restore ? 1 + a.restore[n * a.positions + t - 1] : t;
          return k < sequence ? a.gy + (n * sequence + k) * c : nullptr;
        });
  }
};

template <scalar T>
struct kernel<op::restore_tokens, cpu, T> {
  static void run(context<cpu>& cx, typename op::restore_tokens::args<T> const& a) {
    index_t const c = a.channels, sequence = a.positions + 1;
    run_chunks(cx, a.batch * sequence, chunk_rows(c), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        index_t const n = r / sequence, t = r % sequence;
        index_t const from = t == 0 ? 0 : a.restore ? 1 + a.restore[n * a.positions + t - 1] : t;
        T const* const x = from <= a.kept ? a.x + (n * (a.kept + 1) + from) * c : a.token;
        detail::token::add_rows(c, x, a.position + t * c, a.y + r * c);
      }
    });
  }
};

/// Every row of gx belongs to one row of gy; sums over masked rows are kept per chunk and added in order.
template <scalar T>
struct kernel<op::restore_tokens_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::restore_tokens_grad::args<T> const& a) {
    index_t const c = a.channels, sequence = a.positions + 1, rows = a.batch * sequence;
    index_t const each = 4 * chunk_rows(c), chunks = chunk_count(rows, each);
    scratch s(cx);
    double* const part = a.gtoken ? s.take<double>(chunks * c) : nullptr;  // (chunks, channels)
    if (a.gx || a.gtoken)
      run_chunks(cx, rows, each, [&](index_t begin, index_t end, index_t chunk, int) {
        double* const sum = part ? part + chunk * c : nullptr;
        if (sum) simd::clear(c, sum);
        for (index_t r = begin; r < end; ++r) {
          index_t const n = r / sequence, t = r % sequence;
          index_t const from = t == 0 ? 0 : a.restore ? 1 + a.restore[n * a.positions + t - 1] : t;
          if (from > a.kept && sum) detail::token::add_to_sums(c, a.gy + r * c, sum);
          if (from <= a.kept && a.gx)
            simd::assign(a.adds, c, a.gy + r * c, a.gx + (n * (a.kept + 1) + from) * c);
        }
      });
    if (part) {
      for (index_t k = 1; k < chunks; ++k) simd::accumulate(c, part + k * c, part);
      if (chunks > 0) detail::token::add_sums(c, part, a.gtoken);
    }
    if (a.gposition)
      detail::token::position_gradient(
          cx, a.batch, sequence, c, a.gposition,
          [&](index_t n, index_t t) -> T const* { return a.gy + (n * sequence + t) * c; });
  }
};

template <scalar T>
struct kernel<op::slice_tokens, cpu, T> {
  static void run(context<cpu>& cx, typename op::slice_tokens::args<T> const& a) {
    index_t const c = a.channels;
    run_chunks(cx, a.batch * a.count, chunk_rows(c), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r)
        simd::copy(c, a.x + (r / a.count * a.tokens + a.first + r % a.count) * c, a.y + r * c);
    });
  }
};

template <scalar T>
struct kernel<op::slice_tokens_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::slice_tokens_grad::args<T> const& a) {
    if (!a.gx) return;
    index_t const c = a.channels;
    run_chunks(cx, a.batch * a.tokens, chunk_rows(c), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        index_t const n = r / a.tokens, t = r % a.tokens - a.first;
        if (t >= 0 && t < a.count)
          simd::assign(a.adds, c, a.gy + (n * a.count + t) * c, a.gx + r * c);
        else if (!a.adds)
          simd::clear(c, a.gx + r * c);
      }
    });
  }
};

}  // namespace insula
