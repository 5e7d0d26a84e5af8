// SPDX-License-Identifier: Apache-2.0
// What Adam and AdamW have in common: two moments over a flat weight range, updated in groups with their own counters.
#pragma once

#include <utility>

#include "insula/base/check.hpp"
#include "insula/base/scalar.hpp"
#include "insula/device/buffer.hpp"
#include "insula/op/update.hpp"
#include "insula/optim/parameter_groups.hpp"

namespace insula {

/// A range as long as the weights that follows them: data <- momentum * data + (1 - momentum) * weights; none by default.
template <scalar T>
struct moving_average {
  T* data = nullptr;
  double momentum = 0;
};

namespace detail {

struct moment_options {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};

/// Op is op::adam or op::adamw.
template <class Op, scalar T, class B>
class adaptive_moments {
 public:
  adaptive_moments() = default;
  /// For a range of `size` elements; throws error if a group lies outside. Elements outside every group are never touched.
  adaptive_moments(index_t size, std::vector<parameter_group> groups, moment_options o = {})
      : groups_(std::move(groups)), counts_(groups_.size()), options_(o), m_(size), v_(size) {
    for (auto const& g : groups_)
      check(g.offset >= 0 && g.size >= 0 && g.offset + g.size <= size, Op::name, ": group ", g.offset, " + ",
            g.size, " lies outside the range of ", size, " elements");
  }
  /// One step: w changes in place; gradients are multiplied by grad_scale first (clipping, accumulation). An average that
  /// is given follows the new weights in the same pass; start it as a copy of w, then it is right outside the groups too.
  void step(context<B>& cx, T const* g, T* w, double rate, double grad_scale = 1,
            moving_average<T> average = {}) {
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      parameter_group const& p = groups_[i];
      ++counts_[i];
      if (p.size == 0) continue;
      run<Op, B, T>(
          cx, {p.size, rate * p.rate_scale, options_.beta1, options_.beta2, options_.eps, p.decay, grad_scale,
               counts_[i], g + p.offset, w + p.offset, m_.data() + p.offset, v_.data() + p.offset,
               average.momentum, average.data ? average.data + p.offset : nullptr});
    }
  }

  std::vector<parameter_group> const& groups() const { return groups_; }
  std::vector<std::int64_t>& counts() { return counts_; }  ///< steps done per group
  buffer<T, B>& first_moment() { return m_; }
  buffer<T, B>& second_moment() { return v_; }
  /// Calls f(name, data) for every range that a checkpoint must keep.
  template <class F>
  void each_range(F f) {
    f("first_moment", m_.data());
    f("second_moment", v_.data());
  }

 private:
  std::vector<parameter_group> groups_;
  std::vector<std::int64_t> counts_;
  moment_options options_;
  buffer<T, B> m_, v_;
};

}  // namespace detail
}  // namespace insula
