// SPDX-License-Identifier: Apache-2.0
// CPU kernels of activate and activate_grad, and the activations of a whole register.
#pragma once

#include <type_traits>

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

/// u <- act(u), and g <- g act'(u), of N registers at once: the long chains of a GELU hide each other's latency.
template <activation Act, scalar T, int N>
INSULA_INLINE void activate_all(pack<T> (&u)[N]) {
  if constexpr (Act == activation::gelu) return gelu_all<T>(u);
#pragma GCC unroll 8
  for (auto& v : u) v = activated<Act, T>(v);
}
template <activation Act, scalar T, int N>
INSULA_INLINE void through_activation_all(pack<T> const (&u)[N], pack<T> (&g)[N]) {
  if constexpr (Act == activation::gelu) {
    pack<T> slope[N];
    gelu_slope_all<T>(u, slope);
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) g[j] *= slope[j];
  } else {
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) g[j] = through_activation<Act, T>(u[j], g[j]);
  }
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
          simd::ask_ahead(x + i);
          if constexpr (!Past) simd::ask_ahead(y + i);
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
      auto const some = [=]<int N>(index_t first, std::integral_constant<int, N>, auto lanes) {
        constexpr int w = simd::width<T>;
        simd::pack<T> u[N], g[N];
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j)
          simd::ask_ahead(x + first + j * w, gy + first + j * w),
              u[j] = simd::load(x + first + j * w, lanes), g[j] = simd::load(gy + first + j * w, lanes);
        simd::through_activation_all<Act, T>(u, g);
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j) {
          if constexpr (!Past) simd::ask_ahead(gx + first + j * w);
          if (adds) g[j] += simd::load(gx + first + j * w, lanes);
          simd::put<Past>(gx + first + j * w, g[j], lanes);
        }
      };
      constexpr int at_once = 4;
      index_t const count = end - begin;
      index_t i = 0;
      for (; i + at_once * simd::width<T> <= count; i += at_once * simd::width<T>)
        some(i, std::integral_constant<int, at_once>{}, simd::whole{});
      simd::each_register<T>(
          count - i, [&](index_t j, auto lanes) { some(i + j, std::integral_constant<int, 1>{}, lanes); });
      if constexpr (Past) simd::end_stream();
    });
  }
};

}  // namespace insula
