// SPDX-License-Identifier: Apache-2.0
// CPU kernels of linear, linear_gelu and linear_grad.
#pragma once

#include "insula/kernels/cpu/mlp.hpp"
#include "insula/kernels/cpu/product.hpp"
#include "insula/op/gemm.hpp"

namespace insula {

template <scalar T>
struct kernel<op::linear, cpu, T> {
  static void run(context<cpu>& cx, typename op::linear::args<T> const& a) {
    if (a.rows == 0 || a.out == 0) return;
    detail::row_product<false, T>(cx, a.rows, a.out, a.in, a.x, a.w, {a.b, false}, a.y);
  }
};

template <scalar T>
struct kernel<op::linear_gelu, cpu, T> {
  static void run(context<cpu>& cx, typename op::linear_gelu::args<T> const& a) {
    if (a.rows == 0 || a.out == 0) return;
    detail::row_products<false, T>(a.rows, a.out, a.in, a.x, a.w, {a.b, false}, a.u ? a.u : a.y, a.y).run(cx);
  }
};

template <scalar T>
struct kernel<op::linear_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::linear_grad::args<T> const& a) {
    if (a.gx && a.rows > 0 && a.in > 0)
      detail::row_product<true, T>(cx, a.rows, a.in, a.out, a.gy, a.w, {nullptr, a.adds}, a.gx);
    detail::add_weight_gradient<T>(cx, a.rows, a.in, a.out, a.x, a.gy, a.gw, a.gb);
  }
};

}  // namespace insula
