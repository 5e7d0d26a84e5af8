// SPDX-License-Identifier: Apache-2.0
// AdamW over a flat weight range, in groups with their own decay and step counters.
#pragma once

#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/scalar.hpp"
#include "insula/device/buffer.hpp"
#include "insula/op/update.hpp"

namespace insula {

struct adamw_options {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};

/// A contiguous part of the weight range that is updated with one learning rate and decay.
struct parameter_group {
  index_t offset = 0, size = 0;
  double decay = 0.01;
  double rate_scale = 1;  ///< times the learning rate of step()
};

/// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) in PyTorch's order of operations; op::adamw has the formula.
/// Elements outside every group are never touched, decay included (parameters without gradient).
template <scalar T, class B = cpu>
class adamw {
 public:
  adamw() = default;
  adamw(index_t size, std::vector<parameter_group> groups, adamw_options o = {})
      : groups_(std::move(groups)), counts_(groups_.size()), options_(o), m_(size), v_(size) {
    for (auto const& g : groups_)
      check(g.offset >= 0 && g.size >= 0 && g.offset + g.size <= size, "adamw: group ", g.offset, " + ",
            g.size, " lies outside the range of ", size, " elements");
  }
  /// One step: w changes in place; gradients are multiplied by grad_scale first (clipping, accumulation).
  void step(context<B>& cx, T const* g, T* w, double rate, double grad_scale = 1) {
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      parameter_group const& p = groups_[i];
      ++counts_[i];
      if (p.size == 0) continue;
      run<op::adamw, B, T>(
          cx, {p.size, rate * p.rate_scale, options_.beta1, options_.beta2, options_.eps, p.decay, grad_scale,
               counts_[i], g + p.offset, w + p.offset, m_.data() + p.offset, v_.data() + p.offset});
    }
  }

  std::vector<parameter_group> const& groups() const { return groups_; }
  std::vector<std::int64_t>& counts() { return counts_; }  ///< steps done per group
  buffer<T, B>& first_moment() { return m_; }
  buffer<T, B>& second_moment() { return v_; }

 private:
  std::vector<parameter_group> groups_;
  std::vector<std::int64_t> counts_;
  adamw_options options_;
  buffer<T, B> m_, v_;
};

}  // namespace insula
