// SPDX-License-Identifier: Apache-2.0
// LARS: momentum with a learning rate per tensor, as 3D-Neuro-SimCLR publishes it and as it was meant.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/scalar.hpp"
#include "insula/device/buffer.hpp"
#include "insula/op/reduce.hpp"
#include "insula/op/update.hpp"
#include "insula/optim/parameter_groups.hpp"

namespace insula {

enum class lars_rule {
  published,  ///< every tensor is decayed and adapted, and a tensor of zeros never moves: what the released code does
  corrected  ///< vectors and biases are neither decayed nor adapted; the ratio is 1 where a norm is 0
};

/// Defaults: simclr/modules/lars.py as model.py of emilykaczmarek/3D-Neuro-SimCLR uses it. The linear probe of
/// facebookresearch/mae (util/lars.py) is {.decay = 0, .rule = lars_rule::corrected, .rate_in_velocity = false}.
struct lars_options {
  double momentum = 0.9, decay = 1e-6;
  double trust = 0.001;  ///< eta
  bool nesterov = false;
  lars_rule rule = lars_rule::published;
  bool rate_in_velocity =
      true;  ///< the rate multiplies what enters the velocity; false: the velocity as it is used
};

/// Layer-wise adaptive rate scaling (You, Gitman & Ginsburg 2017, arXiv 1708.03888). Per tensor, g' = grad_scale g + decay w:
///   q = trust ||w|| / ||g'||;  b <- momentum b + rate q g';  w <- w - (nesterov ? momentum b + rate q g' : b).
/// Works on the tensors of `places`, frozen ones excepted; nothing else of the range is touched.
template <scalar T, class B = cpu>
class lars {
 public:
  lars() = default;
  /// Throws error if a tensor lies outside of the range of `size` elements.
  lars(index_t size, std::vector<tensor_place> const& places, lars_options o = {})
      : counts_(1), options_(o), b_(size) {
    for (auto const& t : places) {
      if (t.frozen) continue;
      check(t.offset >= 0 && t.offset + t.size() <= size, "lars: ", t.name, " at ", t.offset, " + ", t.size(),
            " lies outside the range of ", size, " elements");
      bool const adapts = o.rule == lars_rule::published || !is_vector_or_bias(t);
      tensors_.push_back({t.name, t.offset, t.size(), adapts, 1});
    }
  }

  /// One step: w changes in place; gradients are multiplied by grad_scale first (clipping, accumulation). Throws error, and
  /// changes nothing, where the published rule divides by a gradient of norm 0.
  void step(context<B>& cx, T const* g, T* w, double rate, double grad_scale = 1) {
    for (auto& t : tensors_)
      if (t.adapts) t.ratio = ratio(cx, t, g + t.offset, w + t.offset, grad_scale);
    ++counts_[0];
    for (auto const& t : tensors_) {
      double const enters = options_.rate_in_velocity ? rate * t.ratio : t.ratio;
      run<op::momentum_step, B, T>(
          cx, {t.size, options_.momentum, enters, options_.rate_in_velocity ? 1 : rate,
               t.adapts ? options_.decay : 0, grad_scale, options_.nesterov, g + t.offset, w + t.offset,
               b_.data() + t.offset});
    }
  }

  std::vector<std::int64_t>& counts() { return counts_; }  ///< one number: steps done
  /// Calls f(name, data) for every range that a checkpoint must keep.
  template <class F>
  void each_range(F f) {
    f("momentum", b_.data());
  }

 private:
  struct tensor {
    std::string name;
    index_t offset, size;
    bool adapts;
    double ratio;  // of this step
  };

  double ratio(context<B>& cx, tensor const& t, T const* g, T const* w, double grad_scale) const {
    double w_squares = 0, g_squares = 0;
    run<op::decayed_norms, B, T>(cx, {t.size, grad_scale, options_.decay, g, w, &w_squares, &g_squares});
    bool const corrected = options_.rule == lars_rule::corrected;
    if (corrected && (w_squares == 0 || g_squares == 0)) return 1;
    check(g_squares != 0, "lars: the gradient of ", t.name, " is 0 with decay ", options_.decay,
          ": the published rule divides by its norm; use lars_rule::corrected, or freeze the tensor");
    return options_.trust * std::sqrt(w_squares / g_squares);
  }

  std::vector<tensor> tensors_;
  std::vector<std::int64_t> counts_;
  lars_options options_;
  buffer<T, B> b_;
};

}  // namespace insula
