// SPDX-License-Identifier: Apache-2.0
// A network with memory: flat ranges for weights, gradients and state.
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
  program_state<T>
      state{};  ///< of a network that has state; frozen weights do not stop a training pass from updating it
};

/// Owns the weights, the state, and if asked the gradients, of network Net for inputs of shape In.
template <layer Net, static_shape In, scalar T = float, class B = cpu>
class model {
 public:
  using net = Net;
  using input = In;
  static constexpr index_t size = program<Net, In>::weights;

  explicit model(bool with_gradients = true)
      : w_(size),
        g_(with_gradients ? size : 0),
        values_(program<Net, In>::states),
        counters_(program<Net, In>::counters) {
    initialise_state(all_places(), state());
  }
  /// Writes weights and state (=) by every layer's rule.
  void initialise(std::uint64_t seed) {
    insula::initialise(places(), w_.data(), {seed, 0x1357});
    initialise_state(all_places(), state());
  }

  T* w() { return w_.data(); }
  T const* w() const { return w_.data(); }
  T* g() { return g_.size() ? g_.data() : nullptr; }
  program_state<T> state() { return {values_.data(), counters_.data()}; }
  weights<T> params() { return {w(), g(), state()}; }
  /// Weights without gradients and a state that stays as it is.
  weights<T> frozen_params() const {
    return {
        w(), nullptr, {const_cast<T*>(values_.data()), const_cast<std::int64_t*>(counters_.data()), true}};
  }
  static std::vector<tensor_place> places() { return parameters<Net, In>(); }
  static std::vector<tensor_place> all_places() { return tensors<Net, In>(); }

 private:
  buffer<T, B> w_, g_, values_;
  buffer<std::int64_t, B> counters_;
};

}  // namespace insula
