// SPDX-License-Identifier: Apache-2.0
// CPU kernels of linear, linear_grad, mlp and mlp_grad.
#pragma once

#include "insula/kernels/cpu/mlp.hpp"
#include "insula/kernels/cpu/product.hpp"
#include "insula/op/gemm.hpp"

namespace insula {

template <scalar T>
struct kernel<op::linear, cpu, T> {
  static void run(context<cpu>& cx, typename op::linear::args<T> const& a) {
    if (a.rows == 0 || a.out == 0) return;
    scratch s(cx);
    T* const packed = s.take<T>(a.in * simd::columns<T>{a.out}.padded());
    auto const b = detail::pack_weights<false>(cx, a.in, a.out, a.w, packed);
    detail::row_product(cx, a.rows, a.out, a.in, a.x, b, {a.b, false}, a.y);
  }
};

template <scalar T>
struct kernel<op::linear_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::linear_grad::args<T> const& a) {
    if (a.gx && a.rows > 0 && a.in > 0) {
      scratch s(cx);
      T* const packed = s.take<T>(a.out * simd::columns<T>{a.in}.padded());
      auto const b = detail::pack_weights<true>(cx, a.out, a.in, a.w, packed);
      detail::row_product(cx, a.rows, a.in, a.out, a.gy, b, {nullptr, a.adds}, a.gx);
    }
    detail::weight_gradient<T>(a.rows, a.in, a.out, a.x, a.gy, a.gw, a.gb).run(cx);
  }
};

}  // namespace insula
