// SPDX-License-Identifier: Apache-2.0
// CPU kernels of activate and activate_grad, and the activations of a whole register.
#pragma once

#include "insula/base/scalar.hpp"
#include "insula/kernels/cpu/erf.hpp"
#include "insula/kernels/cpu/row.hpp"
#include "insula/op/pointwise.hpp"

namespace insula {

namespace simd {

/// act(u), with the activation known at compile time.
template <activation Act, scalar T>
INSULA_INLINE pack<T> activated(pack<T> u) {
  if constexpr (Act == activation::relu) return u < zero<T>() ? zero<T>() : u;
  if constexpr (Act == activation::leaky_relu) return u > zero<T>() ? u : u * broadcast(T(leaky_slope));
  if constexpr (Act == activation::gelu) return gelu<T>(u);
  return u;
}

/// g act'(u), g being the gradient of the result. ReLU stops g or passes it as it is, NaN of u passes, as in PyTorch.
template <activation Act, scalar T>
INSULA_INLINE pack<T> through_activation(pack<T> u, pack<T> g) {
  if constexpr (Act == activation::relu) return u <= zero<T>() ? zero<T>() : g;
  if constexpr (Act == activation::leaky_relu) return u > zero<T>() ? g : g * broadcast(T(leaky_slope));
  if constexpr (Act == activation::gelu) return g * gelu_slope<T>(u);
  return g;
}

template <activation Act>
struct fixed_activation {
  static constexpr activation value = Act;
};

/// Calls f(fixed_activation<act>{}), so that inner loops have no branch.
template <class F>
void with_activation(activation act, F&& f) {
  switch (act) {
    case activation::none:
      return f(fixed_activation<activation::none>{});
    case activation::relu:
      return f(fixed_activation<activation::relu>{});
    case activation::leaky_relu:
      return f(fixed_activation<activation::leaky_relu>{});
    case activation::gelu:
      return f(fixed_activation<activation::gelu>{});
  }
}

}  // namespace simd

template <scalar T>
struct kernel<op::activate, cpu, T> {
  static void run(context<cpu>& cx, typename op::activate::args<T> const& a) {
    simd::with_far(a.y, a.n, chunk_elements, a.y == a.x, [&](auto past) {
      simd::with_activation(a.act,
                            [&](auto act) { write<decltype(past)::value, decltype(act)::value>(cx, a); });
    });
  }

 private:
  template <bool Past, activation Act>
  static void write(context<cpu>& cx, op::activate::args<T> const& a) {
    run_chunks(cx, a.n, chunk_elements, [&](index_t begin, index_t end, index_t, int) {
      T const* const x = a.x + begin;
      T* const y = a.y + begin;
      if constexpr (Act == activation::gelu)
        simd::gelu_of_row<Past>(end - begin, x, y);
      else
        simd::each_register<T>(end - begin, [=](index_t i, auto lanes) {
          simd::put<Past>(y + i, simd::activated<Act, T>(simd::load(x + i, lanes)), lanes);
        });
      if constexpr (Past) simd::end_stream();
    });
  }
};

template <scalar T>
struct kernel<op::activate_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::activate_grad::args<T> const& a) {
    if (!a.gx) return;
    simd::with_far(a.gx, a.n, chunk_elements, a.adds || a.gx == a.gy, [&](auto past) {
      simd::with_activation(a.act,
                            [&](auto act) { write<decltype(past)::value, decltype(act)::value>(cx, a); });
    });
  }

 private:
  template <bool Past, activation Act>
  static void write(context<cpu>& cx, op::activate_grad::args<T> const& a) {
    run_chunks(cx, a.n, chunk_elements, [&](index_t begin, index_t end, index_t, int) {
      T const *const x = a.x + begin, *const gy = a.gy + begin;
      T* const gx = a.gx + begin;
      bool const adds = a.adds;
      simd::each_register<T>(end - begin, [=](index_t i, auto lanes) {
        auto g = simd::through_activation<Act, T>(simd::load(x + i, lanes), simd::load(gy + i, lanes));
        if (adds) g += simd::load(gx + i, lanes);
        simd::put<Past>(gx + i, g, lanes);
      });
      if constexpr (Past) simd::end_stream();
    });
  }
};

}  // namespace insula
