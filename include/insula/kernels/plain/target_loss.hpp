// SPDX-License-Identifier: Apache-2.0
// Reference twins of absolute error and binary cross-entropy.
#pragma once

#include <cmath>

#include "insula/base/check.hpp"
#include "insula/device/cpu.hpp"
#include "insula/op/target_loss.hpp"

namespace insula {

template <class T>
struct kernel<op::absolute_error, plain, T> {
  static void run(context<plain>&, typename op::absolute_error::args<T> const& a) {
    double sum = 0;
    for (index_t i = 0; i < a.n; ++i) sum += std::abs(double(a.x[i]) - double(a.target[i]));
    *a.sum = sum;
  }
};

template <class T>
struct kernel<op::absolute_error_grad, plain, T> {
  static void run(context<plain>&, typename op::absolute_error_grad::args<T> const& a) {
    if (!a.gx) return;
    for (index_t i = 0; i < a.n; ++i) {
      T const g = a.x[i] > a.target[i] ? a.scale : a.x[i] < a.target[i] ? -a.scale : T(0);
      a.gx[i] = a.adds ? a.gx[i] + g : g;
    }
  }
};

template <class T>
struct kernel<op::bce_with_logits, plain, T> {
  static void run(context<plain>&, typename op::bce_with_logits::args<T> const& a) {
    double sum = 0;
    for (index_t i = 0; i < a.n; ++i) {
      double const x = double(a.x[i]), y = double(a.target[i]);
      check(y >= 0 && y <= 1, "bce_with_logits: target[", i, "] is ", y, ", it must be 0 to 1");
      double const tail = std::log1p(std::exp(-std::abs(x)));  // NaN if x is
      sum += (1 - y) * ((x > 0 ? x : 0) + tail) + a.positive_weight * y * ((x < 0 ? -x : 0) + tail);
    }
    *a.sum = sum;
  }
};

template <class T>
struct kernel<op::bce_with_logits_grad, plain, T> {
  static void run(context<plain>&, typename op::bce_with_logits_grad::args<T> const& a) {
    if (!a.gx) return;
    for (index_t i = 0; i < a.n; ++i) {
      double const x = double(a.x[i]), y = double(a.target[i]), e = std::exp(-std::abs(x)),
                   small = e / (1 + e);
      double const up = x >= 0 ? 1 / (1 + e) : small, down = x >= 0 ? small : 1 / (1 + e);
      T const g = T(double(a.scale) * ((1 - y) * up - a.positive_weight * y * down));
      a.gx[i] = a.adds ? a.gx[i] + g : g;
    }
  }
};

}  // namespace insula
