// SPDX-License-Identifier: Apache-2.0
// CPU kernels of adam, adamw, momentum_step, ema and scale: one pass over the ranges, in place.
#pragma once

#include <cmath>

#include "insula/kernels/cpu/row.hpp"
#include "insula/op/update.hpp"

namespace insula {
namespace detail {

/// average <- momentum * average + (1 - momentum) * x, for one register.
template <scalar T>
class averaging {
 public:
  explicit averaging(double momentum)
      : keep_(simd::broadcast(T(momentum))), take_(simd::broadcast(T(1 - momentum))) {}
  template <class Lanes>
  INSULA_INLINE void operator()(T* average, simd::pack<T> x, Lanes lanes) const {
    simd::store(average, simd::fma(keep_, simd::load(average, lanes), take_ * x), lanes);
  }

 private:
  simd::pack<T> keep_, take_;
};

}  // namespace detail

template <scalar T>
struct kernel<op::adamw, cpu, T> {
  static void run(context<cpu>& cx, typename op::adamw::args<T> const& a) {
    using simd::broadcast;
    double const correction1 = 1 - std::pow(a.beta1, double(a.step));
    double const correction2 = 1 - std::pow(a.beta2, double(a.step));
    auto const keep = broadcast(T(1 - a.lr * a.decay)), rate = broadcast(T(a.lr / correction1));
    auto const root = broadcast(T(1 / std::sqrt(correction2))), eps = broadcast(T(a.eps));
    auto const old1 = broadcast(T(a.beta1)), new1 = broadcast(T((1 - a.beta1) * a.grad_scale));
    auto const old2 = broadcast(T(a.beta2)), new2 = broadcast(T(1 - a.beta2));
    auto const grad_scale = broadcast(T(a.grad_scale));
    detail::averaging<T> const follow(a.momentum);
    run_chunks(cx, a.n, chunk_elements, [&](index_t begin, index_t end, index_t, int) {
      T const* const pg = a.g + begin;
      T *const pw = a.w + begin, *const pm = a.m + begin, *const pv = a.v + begin;
      T* const average = a.average ? a.average + begin : nullptr;
      simd::each_register<T>(end - begin, [&](index_t i, auto lanes) {
        simd::ask_ahead(pg + i, pw + i, pm + i, pv + i);
        if (average) simd::ask_ahead(average + i);
        auto const g = simd::load(pg + i, lanes), scaled = g * grad_scale;
        auto const m = simd::fma(old1, simd::load(pm + i, lanes), new1 * g);
        auto const v = simd::fma(old2, simd::load(pv + i, lanes), new2 * scaled * scaled);
        auto const step = rate * m / simd::fma(simd::sqrt<T>(v), root, eps);
        auto const w = simd::load(pw + i, lanes) * keep - step;
        simd::store(pw + i, w, lanes);
        simd::store(pm + i, m, lanes);
        simd::store(pv + i, v, lanes);
        if (average) follow(average + i, w, lanes);
      });
    });
  }
};

template <scalar T>
struct kernel<op::adam, cpu, T> {
  static void run(context<cpu>& cx, typename op::adam::args<T> const& a) {
    using simd::broadcast;
    double const correction1 = 1 - std::pow(a.beta1, double(a.step));
    double const correction2 = 1 - std::pow(a.beta2, double(a.step));
    auto const decay = broadcast(T(a.decay)), rate = broadcast(T(a.lr / correction1));
    auto const root = broadcast(T(1 / std::sqrt(correction2))), eps = broadcast(T(a.eps));
    auto const old1 = broadcast(T(a.beta1)), new1 = broadcast(T(1 - a.beta1));
    auto const old2 = broadcast(T(a.beta2)), new2 = broadcast(T(1 - a.beta2));
    auto const grad_scale = broadcast(T(a.grad_scale));
    detail::averaging<T> const follow(a.momentum);
    run_chunks(cx, a.n, chunk_elements, [&](index_t begin, index_t end, index_t, int) {
      T const* const pg = a.g + begin;
      T *const pw = a.w + begin, *const pm = a.m + begin, *const pv = a.v + begin;
      T* const average = a.average ? a.average + begin : nullptr;
      simd::each_register<T>(end - begin, [&](index_t i, auto lanes) {
        simd::ask_ahead(pg + i, pw + i, pm + i, pv + i);
        if (average) simd::ask_ahead(average + i);
        auto const w = simd::load(pw + i, lanes);
        auto const g = simd::fma(decay, w, grad_scale * simd::load(pg + i, lanes));
        auto const m = simd::fma(old1, simd::load(pm + i, lanes), new1 * g);
        auto const v = simd::fma(old2, simd::load(pv + i, lanes), new2 * g * g);
        auto const moved = w - rate * m / simd::fma(simd::sqrt<T>(v), root, eps);
        simd::store(pw + i, moved, lanes);
        simd::store(pm + i, m, lanes);
        simd::store(pv + i, v, lanes);
        if (average) follow(average + i, moved, lanes);
      });
    });
  }
};

template <scalar T>
struct kernel<op::momentum_step, cpu, T> {
  static void run(context<cpu>& cx, typename op::momentum_step::args<T> const& a) {
    using simd::broadcast;
    auto const momentum = broadcast(T(a.momentum)), enters = broadcast(T(a.enters)),
               rate = broadcast(T(a.rate));
    auto const decay = broadcast(T(a.decay)), grad_scale = broadcast(T(a.grad_scale));
    run_chunks(cx, a.n, chunk_elements, [&](index_t begin, index_t end, index_t, int) {
      T const* const pg = a.g + begin;
      T *const pw = a.w + begin, *const pb = a.b + begin;
      simd::each_register<T>(end - begin, [&](index_t i, auto lanes) {
        simd::ask_ahead(pg + i, pw + i, pb + i);
        auto const w = simd::load(pw + i, lanes);
        auto const step = enters * simd::fma(decay, w, grad_scale * simd::load(pg + i, lanes));
        auto const b = simd::fma(momentum, simd::load(pb + i, lanes), step);
        simd::store(pw + i, simd::fnma(rate, a.nesterov ? simd::fma(momentum, b, step) : b, w), lanes);
        simd::store(pb + i, b, lanes);
      });
    });
  }
};

template <scalar T>
struct kernel<op::ema, cpu, T> {
  static void run(context<cpu>& cx, typename op::ema::args<T> const& a) {
    detail::averaging<T> const follow(a.momentum);
    run_chunks(cx, a.n, chunk_elements, [&](index_t begin, index_t end, index_t, int) {
      T const* const x = a.x + begin;
      T* const average = a.average + begin;
      simd::each_register<T>(end - begin, [&](index_t i, auto lanes) {
        simd::ask_ahead(x + i, average + i);
        follow(average + i, simd::load(x + i, lanes), lanes);
      });
    });
  }
};

template <scalar T>
struct kernel<op::scale, cpu, T> {
  static void run(context<cpu>& cx, typename op::scale::args<T> const& a) {
    auto const alpha = simd::broadcast(a.alpha);
    run_chunks(cx, a.n, chunk_elements, [&](index_t begin, index_t end, index_t, int) {
      T* const x = a.x + begin;
      simd::each_register<T>(end - begin, [&](index_t i, auto lanes) {
        simd::ask_ahead(x + i);
        simd::store(x + i, simd::load(x + i, lanes) * alpha, lanes);
      });
    });
  }
};

}  // namespace insula
