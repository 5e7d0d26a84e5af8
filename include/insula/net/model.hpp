// SPDX-License-Identifier: Apache-2.0
// A network with memory: flat ranges for weights and gradients.
#pragma once

#include "insula/base/scalar.hpp"
#include "insula/device/buffer.hpp"
#include "insula/net/initialise.hpp"

namespace insula {

/// Where a network's weights and their gradients are. Never owns. A network whose weight range starts another's (an
/// encoder inside an autoencoder) runs on the same pointers.
template <class T>
struct weights {
  T const* w;
  T* g = nullptr;  ///< null: frozen, no weight gradient is computed
};

/// Owns the weights, and if asked the gradients, of network Net for inputs of shape In.
template <layer Net, static_shape In, scalar T = float, class B = cpu>
class model {
 public:
  using net = Net;
  using input = In;
  static constexpr index_t size = program<Net, In>::weights;

  explicit model(bool with_gradients = true) : w_(size), g_(with_gradients ? size : 0) {}
  /// Writes the weights (=) by every layer's rule.
  void initialise(std::uint64_t seed) { insula::initialise(places(), w_.data(), {seed, 0x1357}); }

  T* w() { return w_.data(); }
  T const* w() const { return w_.data(); }
  T* g() { return g_.size() ? g_.data() : nullptr; }
  weights<T> params() { return {w(), g()}; }
  weights<T> frozen_params() const { return {w()}; }
  static std::vector<tensor_place> places() { return parameters<Net, In>(); }

 private:
  buffer<T, B> w_, g_;
};

}  // namespace insula
