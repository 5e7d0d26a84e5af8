// SPDX-License-Identifier: Apache-2.0
// Addition, mask-token injection and drop path on the CPU.
#pragma once

#include "insula/kernels/cpu/row.hpp"
#include "insula/op/pointwise.hpp"

namespace insula {

template <scalar T>
struct kernel<op::add, cpu, T> {
  static void run(context<cpu>& cx, typename op::add::args<T> const& a) {
    run_chunks(cx, a.n, chunk_elements, [&](index_t begin, index_t end, index_t, int) {
      T const *x = a.a + begin, *z = a.b + begin;
      T* y = a.y + begin;
      simd::each_register<T>(end - begin, [=](index_t i, auto lanes) {
        simd::ask_ahead(x + i, z + i, y + i);
        simd::store(y + i, simd::load(x + i, lanes) + simd::load(z + i, lanes), lanes);
      });
    });
  }
};

template <scalar T>
struct kernel<op::axpy, cpu, T> {
  static void run(context<cpu>& cx, typename op::axpy::args<T> const& a) {
    run_chunks(cx, a.n, chunk_elements, [&](index_t begin, index_t end, index_t, int) {
      T const* x = a.x + begin;
      T* y = a.y + begin;
      auto const alpha = simd::broadcast(a.alpha);
      simd::each_register<T>(end - begin, [=](index_t i, auto lanes) {
        simd::ask_ahead(x + i, y + i);
        simd::store(y + i, simd::fma(alpha, simd::load(x + i, lanes), simd::load(y + i, lanes)), lanes);
      });
    });
  }
};

template <scalar T>
struct kernel<op::mask_token, cpu, T> {
  static void run(context<cpu>& cx, typename op::mask_token::args<T> const& a) {
    if (!a.mask && a.y == a.x) return;
    index_t const channels = a.channels;
    run_chunks(
        cx, a.batch * a.positions, chunk_rows(channels), [&](index_t begin, index_t end, index_t, int) {
          if (!a.mask)
            return simd::copy((end - begin) * channels, a.x + begin * channels, a.y + begin * channels);
          for (index_t p = begin; p < end; ++p)
            if (a.mask[p])
              simd::copy(channels, a.token, a.y + p * channels);
            else if (a.y != a.x)
              simd::copy(channels, a.x + p * channels, a.y + p * channels);
        });
  }
};

template <scalar T>
struct kernel<op::mask_token_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::mask_token_grad::args<T> const& a) {
    index_t const channels = a.channels, positions = a.batch * a.positions;
    bool const sums = a.gtoken && a.mask;
    if (!a.gx && !sums) return;
    index_t const each = 4 * chunk_rows(channels), chunks = chunk_count(positions, each);
    scratch s(cx);
    double* const part = sums ? s.take<double>(chunks * channels) : nullptr;  // (chunks, channels)
    run_chunks(cx, positions, each, [&](index_t begin, index_t end, index_t t, int) {
      double* const sum = sums ? part + t * channels : nullptr;
      if (sums) simd::clear(channels, sum);
      for (index_t p = begin; p < end; ++p) {
        T const* gy = a.gy + p * channels;
        bool const masked = a.mask && a.mask[p];
        if (sums && masked)  // before gx, which may be gy
          simd::each_register<double>(channels, [=](index_t c, auto lanes) {
            simd::store(sum + c, simd::load(sum + c, lanes) + simd::load_double(gy + c, lanes), lanes);
          });
        if (!a.gx) continue;
        T* gx = a.gx + p * channels;
        if (!masked && (a.adds || gx != gy)) simd::assign(a.adds, channels, gy, gx);
        if (masked && !a.adds) simd::clear(channels, gx);
      }
    });
    if (!sums) return;
    for (index_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (index_t t = 0; t < chunks; ++t) sum += part[t * channels + c];
      a.gtoken[c] += T(sum);
    }
  }
};

namespace detail::pointwise {

/// What sample n is multiplied with: 0 if dropped.
template <class T, class Args>
T path_scale(Args const& a, index_t n) {
  if (!a.training || !(a.rate > 0)) return T(1);
  return uniform_at(a.key, std::uint32_t(n)) >= a.rate ? T(1 / (1 - a.rate)) : T(0);
}

}  // namespace detail::pointwise

template <scalar T>
struct kernel<op::drop_path, cpu, T> {
  static void run(context<cpu>& cx, typename op::drop_path::args<T> const& a) {
    index_t const chunks = chunk_count(a.size, chunk_elements);  // of one sample
    cx.pool.run(a.batch * chunks, [&](index_t task, int) {
      index_t const n = task / chunks, first = task % chunks * chunk_elements, at = n * a.size + first;
      index_t const left = a.size - first, count = left < chunk_elements ? left : chunk_elements;
      T const scale = detail::pointwise::path_scale<T>(a, n);
      T const *x = a.x + at, *skip = a.skip ? a.skip + at : nullptr;
      T* y = a.y + at;
      if (scale == T(0)) return skip ? simd::copy(count, skip, y) : simd::clear(count, y);
      auto const by = simd::broadcast(scale);
      if (skip)
        simd::each_register<T>(count, [=](index_t i, auto lanes) {
          simd::ask_ahead(x + i, skip + i, y + i);
          simd::store(y + i, simd::fma(by, simd::load(x + i, lanes), simd::load(skip + i, lanes)), lanes);
        });
      else
        simd::each_register<T>(
            count, [=](index_t i, auto lanes) { simd::store(y + i, by * simd::load(x + i, lanes), lanes); });
    });
  }
};

template <scalar T>
struct kernel<op::drop_path_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::drop_path_grad::args<T> const& a) {
    if (!a.gx) return;
    index_t const chunks = chunk_count(a.size, chunk_elements);
    cx.pool.run(a.batch * chunks, [&](index_t task, int) {
      index_t const n = task / chunks, first = task % chunks * chunk_elements, at = n * a.size + first;
      index_t const left = a.size - first, count = left < chunk_elements ? left : chunk_elements;
      T const scale = detail::pointwise::path_scale<T>(a, n);
      T const* gy = a.gy + at;
      T* gx = a.gx + at;
      if (scale == T(0)) return a.adds ? void() : simd::clear(count, gx);
      auto const by = simd::broadcast(scale);
      if (a.adds)
        simd::each_register<T>(count, [=](index_t i, auto lanes) {
          simd::ask_ahead(gy + i, gx + i);
          simd::store(gx + i, simd::fma(by, simd::load(gy + i, lanes), simd::load(gx + i, lanes)), lanes);
        });
      else
        simd::each_register<T>(count, [=](index_t i, auto lanes) {
          simd::ask_ahead(gy + i, gx + i);
          simd::store(gx + i, by * simd::load(gy + i, lanes), lanes);
        });
    });
  }
};

}  // namespace insula
