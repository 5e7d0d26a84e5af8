// SPDX-License-Identifier: Apache-2.0
// Gradient checks of layers: analytic against numeric, for users' layers too.
#pragma once

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "insula/autograd/apply.hpp"
#include "insula/testing/compare.hpp"

namespace insula::testing {

/// What check_gradients found: the largest relative deviation, and of what.
struct gradient_report {
  double worst = 0;
  std::string where;
};

struct gradient_options {
  index_t batch = 1;
  std::uint64_t seed = 1;
  double step = 3e-5;      ///< of the five-point difference
  pass_options with{};     ///< mask, training, key of the pass
  double input_scale = 1;  ///< inputs are uniform in +-input_scale
};

namespace detail {

/// A network on double weights, and the loss  sum over outputs (r . y)  with fixed random r.
template <layer Net, static_shape In, class B>
class gradient_trial {
 public:
  using p = program<Net, In, input_gradient::yes>;

  gradient_trial(context<B>& cx, gradient_options o)
      : o_(o),
        tape_(cx),
        x(random_vector<double>(o.batch * In::size, mix(o.seed, 1))),
        gx(random_vector<double>(o.batch * In::size, mix(o.seed, 2))),
        w(padded(3)),
        gw(padded(4)),
        kept_(random_vector<double>(std::max<index_t>(p::states, 1), mix(o.seed, 5))),
        counters_(std::size_t(p::counters)) {
    for (auto& v : x) v *= o.input_scale;
    for (auto const& t : parameters<Net, In>())  // norms: weights near 1, so that no direction is flat
      if (t.how == start::ones)
        for (index_t i = 0; i < t.size(); ++i) w[std::size_t(t.offset + i)] += 1.5;
    for (auto& v : kept_) v += 1.5;  // variances are positive
  }
  /// The loss; with `back`, gradients are added to gx and gw.
  double run(bool back) {
    poison();
    var<double, In, B> in{x.data(), gx.data(), o_.batch, &tape_};
    auto const y = apply<Net, input_gradient::yes>(
        weights<double>{w.data(), gw.data(), {kept_.data(), counters_.data()}}, in, o_.with);
    double loss = 0;
    constexpr auto const& plan = p::training;
    for (int v = 1; v < plan.values; ++v) {
      if (!plan.v[v].output) continue;
      index_t const n = plan.v[v].shape.size() * o_.batch;
      double const* value = y.arena + plan.v[v].at * o_.batch;
      double* grad = plan.v[v].gradient >= 0 ? y.arena + plan.v[v].gradient * o_.batch : nullptr;
      auto const r = random_vector<double>(n, mix(o_.seed, 100 + std::uint64_t(v)));
      for (index_t i = 0; i < n; ++i) {
        loss += r[std::size_t(i)] * value[i];
        if (grad) grad[i] += r[std::size_t(i)];
      }
    }
    if (back) tape_.backward();
    tape_.clear();
    return loss;
  }

 private:
  std::vector<double> padded(std::uint64_t s) const {
    return random_vector<double>(std::max<index_t>(p::weights, 1), mix(o_.seed, s));
  }
  void poison() {  // the tape's memory holds NaN: whatever a kernel forgets to write shows
    index_t const n = p::training.activations * o_.batch + 4096;
    double* a = tape_.template take<double>(n);
    std::fill_n(a, n, std::numeric_limits<double>::quiet_NaN());
    tape_.clear();
  }
  gradient_options o_;
  tape<B> tape_;

 public:
  std::vector<double> x, gx, w, gw;

 private:
  std::vector<double> kept_;  // state: evaluation reads it, training moves it without effect on the pass
  std::vector<std::int64_t> counters_;
};

}  // namespace detail

/// Compares the gradients of Net at random weights and inputs with five-point differences along one random direction for the
/// input and one for each tensor. Gradients start as noise, memory as NaN. Deviation: |numeric - analytic| divided by the
/// larger of the two and of the gradient's scale.
template <layer Net, static_shape In, class B>
gradient_report check_gradients(context<B>& cx, gradient_options o = {}) {
  detail::gradient_trial<Net, In, B> trial(cx, o);
  auto const gx_before = trial.gx, gw_before = trial.gw;
  trial.run(true);
  gradient_report report;
  auto const probe = [&](std::vector<double>& at, std::vector<double> const& g,
                         std::vector<double> const& before, index_t from, index_t n, std::string const& name,
                         std::uint64_t seed) {
    auto const direction = random_vector<double>(n, seed);
    double analytic = 0, scale = 0;
    for (index_t i = 0; i < n; ++i) {
      double const gi = g[std::size_t(from + i)] - before[std::size_t(from + i)];
      analytic += gi * direction[std::size_t(i)], scale += gi * gi;
    }
    auto const shifted = [&](double h) {
      for (index_t i = 0; i < n; ++i) at[std::size_t(from + i)] += h * direction[std::size_t(i)];
      double const loss = trial.run(false);
      for (index_t i = 0; i < n; ++i) at[std::size_t(from + i)] -= h * direction[std::size_t(i)];
      return loss;
    };
    double const near = shifted(o.step) - shifted(-o.step), far = shifted(2 * o.step) - shifted(-2 * o.step);
    double const numeric = (8 * near - far) / (12 * o.step);  // five points: truncation of order step^4
    double const size = std::max({std::abs(numeric), std::abs(analytic), std::sqrt(scale), 1e-2});
    double const deviation = std::abs(numeric - analytic) / size;
    if (!(deviation <= report.worst)) report = {deviation, name};
  };
  auto const gx = trial.gx, gw = trial.gw;
  probe(trial.x, gx, gx_before, 0, o.batch * In::size, "input", mix(o.seed, 50));
  std::uint64_t k = 60;
  for (auto const& t : parameters<Net, In>()) {
    if (t.frozen) {
      for (index_t i = 0; i < t.size(); ++i)
        if (gw[std::size_t(t.offset + i)] != gw_before[std::size_t(t.offset + i)])
          report = {1e300, t.name + " is frozen but got a gradient"};
      continue;
    }
    probe(trial.w, gw, gw_before, t.offset, t.size(), t.name, mix(o.seed, k++));
  }
  return report;
}

/// check_gradients over several shapes, batches 1 and 3; the worst of all.
template <layer Net, static_shape... In, class B>
gradient_report check_layer(context<B>& cx, gradient_options o = {}) {
  gradient_report worst;
  auto const one = [&]<class S>(S) {
    for (index_t batch : {1, 3}) {
      o.batch = batch, o.seed += 17;
      if (auto const r = check_gradients<Net, S>(cx, o); !(r.worst <= worst.worst)) worst = r;
    }
  };
  (one(In{}), ...);
  return worst;
}

}  // namespace insula::testing
