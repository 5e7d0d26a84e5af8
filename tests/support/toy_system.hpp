// SPDX-License-Identifier: Apache-2.0
// A small system that can be trained: linear regression by AdamW on data that is a function of the step.
#pragma once

#include <unistd.h>

#include "insula/base/random.hpp"
#include "insula/kernels/plain/update.hpp"
#include "insula/optim/adamw.hpp"
#include "insula/train/loop.hpp"
#include "insula/train/montage.hpp"
#include "insula/train/weights_io.hpp"

namespace support {

/// y = W x + b in double, W stored (in, out). Faults on demand: `at_step(t)` is called at the start of every step.
class toy_system {
 public:
  static constexpr insula::index_t in = 5, out = 3, batch = 4, size = 32;

  static std::vector<insula::tensor_place> places() {
    using insula::layout, insula::start;
    return {{"layer.weight", insula::make_dims(out, in), layout::linear, start::zeros, in, 0, false},
            {"layer.bias", insula::make_dims(out), layout::same, start::zeros, in, 16, false}};
  }

  explicit toy_system(std::uint64_t seed = 1) : w_(size), g_(size), optimizer_(size, {{0, size, 0.01, 1}}) {
    for (insula::index_t i = 0; i < in * out; ++i) w_[i] = insula::normal_at({seed, 1}, std::uint32_t(i));
  }

  insula::step_result train_step(insula::index_t t) {
    if (at_step) at_step(t);
    if (pause_microseconds > 0) ::usleep(pause_microseconds);
    double const loss = pass(std::uint64_t(t) + 1000, true);
    double norm = 0;
    for (double const g : g_) norm += g * g;
    insula::step_result r;
    r.samples = batch;
    r.add("train/loss", t == bad_step ? std::nan("") : loss);
    r.add("train/gradient_norm", std::sqrt(norm));
    r.skipped = t == bad_step && skips;
    if (!r.skipped) optimizer_.step(cx_, g_.data(), w_.data(), 0.05);
    sum_ += loss;
    ++steps_;
    return r;
  }
  insula::step_result evaluate(insula::index_t) {
    insula::step_result r;
    r.add("val/loss", evaluation ? evaluation(steps_) : pass(7, false));
    return r;
  }
  void snapshot(insula::index_t t, insula::run_log& log) {
    std::vector<float> v(std::size_t(4 * 4 * 4), float(t));
    log.image("toy/weights",
              insula::reconstruction_montage(insula::cube(4), v.data(), nullptr, v.data()).view(), t);
  }
  std::string first_not_finite() const { return bad_step >= 0 ? "layer.weight[3] = nan" : ""; }
  insula::index_t step_count() const { return steps_; }

  void save(insula::safetensors_writer& w, insula::state_map& state) {
    insula::add_tensors<double>(w, places(), w_.data(), "model.");
    insula::add_optimizer(w, state, places(), optimizer_);
    state["steps"] = insula::text(steps_);
    state["sum"] = insula::text(sum_);
    if (steps_ >= ballast_from) w.add("ballast", {insula::index_t(ballast_.size())}, ballast_.data());
  }
  void load(insula::safetensors_file const& file, insula::state_map const& state) {
    insula::restore_tensors<double>(file, places(), w_.data(), "model.");
    insula::restore_optimizer(file, state, places(), optimizer_);
    steps_ = insula::state_integer(state, "steps");
    sum_ = insula::state_number(state, "sum");
  }

  double sum() const { return sum_; }
  std::vector<double> weights() const { return {w_.begin(), w_.end()}; }

  void (*at_step)(insula::index_t) = nullptr;
  double (*evaluation)(insula::index_t) = nullptr;
  unsigned pause_microseconds = 0;
  insula::index_t bad_step = -1;  ///< its loss is NaN
  bool skips = false;             ///< bad steps leave the weights alone
  insula::index_t ballast_from = insula::index_t(1)
                                 << 60;  ///< from this step on checkpoints have 400 kB more

 private:
  /// Mean squared error over a batch drawn from (seed, stream); writes the gradient (=) if asked.
  double pass(std::uint64_t stream, bool gradient) {
    double loss = 0;
    if (gradient) std::fill(g_.begin(), g_.end(), 0.0);
    insula::random_stream r({3, stream});
    for (insula::index_t n = 0; n < batch; ++n) {
      double x[in];
      for (double& v : x) v = r.uniform(-1, 1);
      for (insula::index_t o = 0; o < out; ++o) {
        double y = w_[16 + o] - double(o + 1);
        for (insula::index_t i = 0; i < in; ++i) y += (w_[i * out + o] - double(i - o)) * x[i];
        loss += y * y / double(batch * out);
        if (!gradient) continue;
        double const d = 2 * y / double(batch * out);
        g_[16 + o] += d;
        for (insula::index_t i = 0; i < in; ++i) g_[i * out + o] += d * x[i];
      }
    }
    return loss;
  }

  insula::context<insula::plain> cx_;
  insula::buffer<double, insula::plain> w_, g_;
  insula::adamw<double, insula::plain> optimizer_;
  std::vector<float> ballast_ = std::vector<float>(100'000, 1.f);
  double sum_ = 0;
  insula::index_t steps_ = 0;
};

}  // namespace support
