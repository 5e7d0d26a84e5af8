// SPDX-License-Identifier: Apache-2.0
// Reference twins of activate and activate_grad, and the activations as functions of one number.
#pragma once

#include <cmath>
#include <numbers>

#include "insula/base/scalar.hpp"
#include "insula/device/cpu.hpp"
#include "insula/op/pointwise.hpp"

namespace insula {

/// act(u) of one number, the definition every kernel is compared with. NaN stays NaN.
template <scalar T>
T activation_value(activation act, T u) {
  switch (act) {
    case activation::none:
      return u;
    case activation::relu:
      return u < 0 ? T(0) : u;
    case activation::leaky_relu:
      return u > 0 ? u : T(leaky_slope) * u;
    case activation::gelu:
      return u / 2 * (1 + std::erf(u * T(std::numbers::sqrt2 / 2)));
  }
  return u;
}

/// d act / du; at a kink that of the negative side.
/// gelu: Phi(u) + u phi(u), the normal distribution and its density.
template <scalar T>
T activation_slope(activation act, T u) {
  switch (act) {
    case activation::none:
      return T(1);
    case activation::relu:
      return u > 0 ? T(1) : T(0);
    case activation::leaky_relu:
      return u > 0 ? T(1) : T(leaky_slope);
    case activation::gelu: {
      T const density = std::exp(-u * u / 2) * T(std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2);
      return (1 + std::erf(u * T(std::numbers::sqrt2 / 2))) / 2 + u * density;
    }
  }
  return T(1);
}

/// g act'(u), g being the gradient of the result. ReLU stops g or passes it as it is, NaN of u passes, as in PyTorch.
template <scalar T>
T through_activation(activation act, T u, T g) {
  if (act == activation::relu) return u <= 0 ? T(0) : g;
  return activation_slope(act, u) * g;
}

template <scalar T>
struct kernel<op::activate, plain, T> {
  static void run(context<plain>&, op::activate::args<T> const& a) {
    for (index_t i = 0; i < a.n; ++i) a.y[i] = activation_value(a.act, a.x[i]);
  }
};

template <scalar T>
struct kernel<op::activate_grad, plain, T> {
  static void run(context<plain>&, op::activate_grad::args<T> const& a) {
    if (!a.gx) return;
    for (index_t i = 0; i < a.n; ++i) {
      T const g = through_activation(a.act, a.x[i], a.gy[i]);
      a.gx[i] = a.adds ? a.gx[i] + g : g;
    }
  }
};

}  // namespace insula
