// SPDX-License-Identifier: Apache-2.0
// Absolute error and binary cross-entropy on the CPU. Sums are kept in double, chunk by chunk in order.
#pragma once

#include <cmath>

#include "insula/base/check.hpp"
#include "insula/kernels/cpu/exp.hpp"
#include "insula/kernels/cpu/reduce.hpp"
#include "insula/kernels/cpu/row.hpp"
#include "insula/op/target_loss.hpp"

namespace insula {

namespace detail::target_loss {

/// *sum = f(begin, end) over the chunks of [0, n), added in order.
template <class F>
void sum_chunks(context<cpu>& cx, index_t n, double* sum, F const& f) {
  scratch s(cx);
  index_t const chunks = chunk_count(n, chunk_elements);
  double* const part = s.take<double>(chunks);
  run_chunks(cx, n, chunk_elements,
             [&](index_t begin, index_t end, index_t t, int) { part[t] = f(begin, end); });
  *sum = reduce::ordered_sum(chunks, part);
}

/// gx (+)= f(i, lanes) register by register.
template <scalar T, class F>
void each_gradient(context<cpu>& cx, index_t n, bool adds, T* gx, F const& f) {
  if (!gx) return;
  run_chunks(cx, n, chunk_elements, [&](index_t begin, index_t end, index_t, int) {
    simd::each_register<T>(end - begin, [&](index_t i, auto lanes) {
      auto g = f(begin + i, lanes);
      if (adds) g += simd::load(gx + begin + i, lanes);
      simd::store(gx + begin + i, g, lanes);
    });
  });
}

}  // namespace detail::target_loss

template <scalar T>
struct kernel<op::absolute_error, cpu, T> {
  static void run(context<cpu>& cx, typename op::absolute_error::args<T> const& a) {
    detail::target_loss::sum_chunks(cx, a.n, a.sum, [&](index_t begin, index_t end) {
      T const *const x = a.x + begin, *const target = a.target + begin;
      return detail::reduce::sum_registers(end - begin, [=](index_t i, auto lanes) {
        auto const d = simd::load_double(x + i, lanes) - simd::load_double(target + i, lanes);
        return simd::max(d, -d);
      });
    });
  }
};

template <scalar T>
struct kernel<op::absolute_error_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::absolute_error_grad::args<T> const& a) {
    auto const up = simd::broadcast(a.scale), down = simd::broadcast(-a.scale);
    detail::target_loss::each_gradient(cx, a.n, a.adds, a.gx, [&](index_t i, auto lanes) {
      auto const x = simd::load(a.x + i, lanes), target = simd::load(a.target + i, lanes);
      return x > target ? up : (x < target ? down : simd::zero<T>());
    });
  }
};

template <scalar T>
struct kernel<op::bce_with_logits, cpu, T> {
  static void run(context<cpu>& cx, typename op::bce_with_logits::args<T> const& a) {
    detail::target_loss::sum_chunks(cx, a.n, a.sum, [&](index_t begin, index_t end) {
      double sum = 0;
      for (index_t i = begin; i < end; ++i) {
        double const x = double(a.x[i]), y = double(a.target[i]);
        check(y >= 0 && y <= 1, "bce_with_logits: target[", i, "] is ", y, ", it must be 0 to 1");
        double const tail = std::log1p(std::exp(-std::abs(x)));  // NaN if x is
        sum += (1 - y) * ((x > 0 ? x : 0) + tail) + a.positive_weight * y * ((x < 0 ? -x : 0) + tail);
      }
      return sum;
    });
  }
};

template <scalar T>
struct kernel<op::bce_with_logits_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::bce_with_logits_grad::args<T> const& a) {
    auto const one = simd::broadcast(T(1)), scale = simd::broadcast(a.scale);
    auto const weight = simd::broadcast(T(a.positive_weight));
    detail::target_loss::each_gradient(cx, a.n, a.adds, a.gx, [&](index_t i, auto lanes) {
      auto const x = simd::load(a.x + i, lanes), y = simd::load(a.target + i, lanes);
      auto const e = simd::exp<T>(-simd::max(x, -x)), large = one / (one + e), small = e * large;
      auto const positive = x >= simd::zero<T>();
      auto const up = positive ? large : small, down = positive ? small : large;
      return scale * simd::fnma(weight * y, down, (one - y) * up);
    });
  }
};

}  // namespace insula
