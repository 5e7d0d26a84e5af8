// SPDX-License-Identifier: Apache-2.0
// Training of a simclr system: rate, accumulation, optimiser, and its checkpoint.
#pragma once

#include <cmath>
#include <functional>
#include <string>

#include "insula/optim/adam.hpp"
#include "insula/optim/clip.hpp"
#include "insula/ssl/simclr.hpp"
#include "insula/train/network_io.hpp"
#include "insula/train/pretraining_batch.hpp"
#include "insula/train/step_result.hpp"

namespace insula {

/// Settings of the optimisation; the defaults are those of 3D-Neuro-SimCLR (model.py, config/config.yaml): Adam, rate 3e-4
/// without schedule, no decay, no clipping.
struct simclr_options {
  int accumulate = 1;  ///< micro-batches per optimiser step; negatives come from one micro-batch
  std::function<double(index_t step)> rate = [](index_t) {
    return 3e-4;
  };                ///< learning rate of an optimiser step
  double clip = 0;  ///< global gradient norm; 0: no clipping
};

/// System is a simclr<...>; batches of pairs come from a source. Optimizer trains the range of the system: adam, or lars.
template <class System, class Optimizer = adam<float>>
class simclr_trainer {
 public:
  /// Gives the next micro-batch, valid until the next call, and adds the seconds it waited to its argument.
  using source = std::function<pretraining_batch const&(double& waited)>;

  simclr_trainer(System& system, simclr_options o, source next)
      : simclr_trainer(system, std::move(o), std::move(next), Optimizer(System::size)) {}
  simclr_trainer(System& system, simclr_options o, source next, Optimizer optimizer)
      : system_(system), o_(std::move(o)), next_(std::move(next)), optimizer_(std::move(optimizer)) {
    check(o_.accumulate >= 1, "trainer: accumulate is ", o_.accumulate, ", it must be at least 1");
  }

  /// Optimiser step t: accumulates gradients over the micro-batches, clips, updates. Throws error naming the first tensor if
  /// a loss or the gradient is not finite; weights are then those of the step before, running statistics are not.
  step_result train_step(index_t t) {
    step_result r;
    system_.clear_gradients();
    double loss = 0;
    for (int a = 0; a < o_.accumulate; ++a) {
      pretraining_batch const& b = next_(r.data_wait);
      loss += system_.micro_batch(pairs_of(b), 1.0 / o_.accumulate) / o_.accumulate;
      r.samples += b.pairs;
    }
    double const norm = l2_norm(system_.run_context(), system_.g(), System::size);
    if (!std::isfinite(norm) || !std::isfinite(loss)) explain(t, loss);
    double const rate = o_.rate(t), factor = clip_factor(norm, o_.clip);
    optimizer_.step(system_.run_context(), system_.g(), system_.w(), rate, factor);
    r.add("train/loss", loss);
    r.add("train/grad_norm", norm * factor);
    r.add("train/lr", rate);
    steps_ = t + 1;
    return r;
  }
  index_t step_count() const { return steps_; }
  std::string first_not_finite() const { return insula::first_not_finite(System::places(), system_.g()); }

  /// Weights and state in the published names (encoder.…, projector.…), optimiser, counters.
  void save(safetensors_writer& w, state_map& state) {
    add_network(w, System::all_places(), static_cast<float const*>(system_.w()), system_.state());
    add_optimizer(w, state, System::places(), optimizer_);
    state["steps"] = text(steps_);
  }
  void load(safetensors_file const& file, state_map const& state) {
    restore_network(file, System::all_places(), system_.w(), system_.state());
    restore_optimizer(file, state, System::places(), optimizer_);
    steps_ = state_integer(state, "steps");
  }

  static pair_batch<float> pairs_of(pretraining_batch const& b) {
    return {b.pairs, b.view1.data(), b.view2.data(), nullptr, nullptr, b.patient.data(), b.session.data()};
  }

 private:
  [[noreturn]] void explain(index_t t, double loss) {
    std::string where = insula::first_not_finite(System::places(), system_.g());
    if (where.empty())
      where = insula::first_not_finite(System::places(), static_cast<float const*>(system_.w()));
    fail("training step ", t, ": the loss is ", loss, where.empty() ? "" : " and the first bad value is ",
         where, ": lower the learning rate or look at the data; weights and optimiser are those of step ", t);
  }

  System& system_;
  simclr_options o_;
  source next_;
  Optimizer optimizer_;
  index_t steps_ = 0;
};

}  // namespace insula
