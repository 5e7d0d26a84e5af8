// SPDX-License-Identifier: Apache-2.0
// Reference twins of adam, adamw, momentum_step, ema and scale, computed in double.
#pragma once

#include <cmath>

#include "insula/base/scalar.hpp"
#include "insula/device/cpu.hpp"
#include "insula/op/update.hpp"

namespace insula {

template <scalar T>
struct kernel<op::ema, plain, T> {
  static void run(context<plain>&, op::ema::args<T> const& a) {
    for (index_t i = 0; i < a.n; ++i)
      a.average[i] = T(a.momentum * double(a.average[i]) + (1 - a.momentum) * double(a.x[i]));
  }
};

template <scalar T>
struct kernel<op::adamw, plain, T> {
  static void run(context<plain>& cx, op::adamw::args<T> const& a) {
    double const correction1 = 1 - std::pow(a.beta1, double(a.step));
    double const correction2 = 1 - std::pow(a.beta2, double(a.step));
    for (index_t i = 0; i < a.n; ++i) {
      double const g = a.grad_scale * double(a.g[i]);
      double const m = a.beta1 * double(a.m[i]) + (1 - a.beta1) * g;
      double const v = a.beta2 * double(a.v[i]) + (1 - a.beta2) * g * g;
      double const w = double(a.w[i]) * (1 - a.lr * a.decay);
      a.w[i] = T(w - a.lr * (m / correction1) / (std::sqrt(v / correction2) + a.eps));
      a.m[i] = T(m), a.v[i] = T(v);
    }
    if (a.average) insula::run<op::ema, plain, T>(cx, {a.n, a.momentum, a.w, a.average});
  }
};

template <scalar T>
struct kernel<op::adam, plain, T> {
  static void run(context<plain>& cx, op::adam::args<T> const& a) {
    double const correction1 = 1 - std::pow(a.beta1, double(a.step));
    double const correction2 = 1 - std::pow(a.beta2, double(a.step));
    for (index_t i = 0; i < a.n; ++i) {
      double const w = double(a.w[i]), g = a.grad_scale * double(a.g[i]) + a.decay * w;
      double const m = a.beta1 * double(a.m[i]) + (1 - a.beta1) * g;
      double const v = a.beta2 * double(a.v[i]) + (1 - a.beta2) * g * g;
      a.w[i] = T(w - a.lr * (m / correction1) / (std::sqrt(v / correction2) + a.eps));
      a.m[i] = T(m), a.v[i] = T(v);
    }
    if (a.average) insula::run<op::ema, plain, T>(cx, {a.n, a.momentum, a.w, a.average});
  }
};

template <scalar T>
struct kernel<op::momentum_step, plain, T> {
  static void run(context<plain>&, op::momentum_step::args<T> const& a) {
    for (index_t i = 0; i < a.n; ++i) {
      double const w = double(a.w[i]), g = a.grad_scale * double(a.g[i]) + a.decay * w;
      double const b = a.momentum * double(a.b[i]) + a.enters * g;
      a.w[i] = T(w - a.rate * (a.nesterov ? a.momentum * b + a.enters * g : b));
      a.b[i] = T(b);
    }
  }
};

template <scalar T>
struct kernel<op::scale, plain, T> {
  static void run(context<plain>&, op::scale::args<T> const& a) {
    for (index_t i = 0; i < a.n; ++i) a.x[i] *= a.alpha;
  }
};

}  // namespace insula
