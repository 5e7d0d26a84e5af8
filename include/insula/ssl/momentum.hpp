// SPDX-License-Identifier: Apache-2.0
// The momentum (teacher) copy of a weight range.
#pragma once

#include "insula/base/scalar.hpp"
#include "insula/device/buffer.hpp"
#include "insula/op/copy.hpp"
#include "insula/op/update.hpp"

namespace insula {

/// A flat range that follows another: average <- m average + (1 - m) weights (He et al. 2020, equation 2).
template <scalar T, class B = cpu>
class momentum_copy {
 public:
  momentum_copy() = default;
  explicit momentum_copy(index_t size) : w_(size) {}
  /// Exact copy (=).
  void start(context<B>& cx, T const* weights) { run<op::copy, B, T>(cx, {w_.size(), weights, w_.data()}); }
  void follow(context<B>& cx, T const* weights, double m) {
    run<op::ema, B, T>(cx, {w_.size(), m, weights, w_.data()});
  }
  T* data() { return w_.data(); }
  T const* data() const { return w_.data(); }
  index_t size() const { return w_.size(); }

 private:
  buffer<T, B> w_;
};

}  // namespace insula
