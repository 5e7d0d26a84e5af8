// SPDX-License-Identifier: Apache-2.0
// Stochastic gradient descent with momentum over a flat weight range.
#pragma once

#include <utility>

#include "insula/base/check.hpp"
#include "insula/base/scalar.hpp"
#include "insula/device/buffer.hpp"
#include "insula/op/update.hpp"
#include "insula/optim/parameter_groups.hpp"

namespace insula {

struct sgd_options {
  double momentum = 0.9;
  bool nesterov = false;
};

/// PyTorch's SGD without dampening, per group:  g' = grad_scale g + decay w;  b <- momentum b + g';
///   w <- w - rate (nesterov ? g' + momentum b : b).
/// Elements outside every group are never touched. Throws error if a group lies outside the range.
template <scalar T, class B = cpu>
class sgd {
 public:
  sgd() = default;
  sgd(index_t size, std::vector<parameter_group> groups, sgd_options o = {})
      : groups_(std::move(groups)), counts_(1), options_(o), b_(size) {
    for (auto const& g : groups_)
      check(g.offset >= 0 && g.size >= 0 && g.offset + g.size <= size, "sgd: group ", g.offset, " + ", g.size,
            " lies outside the range of ", size, " elements");
  }
  explicit sgd(index_t size, sgd_options o = {}) : sgd(size, {{0, size, 0}}, o) {}

  /// One step: w changes in place; gradients are multiplied by grad_scale first (clipping, accumulation).
  void step(context<B>& cx, T const* g, T* w, double rate, double grad_scale = 1) {
    ++counts_[0];
    for (auto const& p : groups_)
      run<op::momentum_step, B, T>(
          cx, {p.size, options_.momentum, 1, rate * p.rate_scale, p.decay, grad_scale, options_.nesterov,
               g + p.offset, w + p.offset, b_.data() + p.offset});
  }

  std::vector<parameter_group> const& groups() const { return groups_; }
  std::vector<std::int64_t>& counts() { return counts_; }  ///< one number: steps done
  /// Calls f(name, data) for every range that a checkpoint must keep.
  template <class F>
  void each_range(F f) {
    f("momentum", b_.data());
  }

 private:
  std::vector<parameter_group> groups_;
  std::vector<std::int64_t> counts_;
  sgd_options options_;
  buffer<T, B> b_;
};

}  // namespace insula
