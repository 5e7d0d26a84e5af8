// SPDX-License-Identifier: Apache-2.0
// Training of an encoder with a head on labelled volumes: rate, clipping, optimiser, and its checkpoint.
#pragma once

#include <functional>
#include <optional>

#include "insula/optim/clip.hpp"
#include "insula/optim/schedule.hpp"
#include "insula/train/network_io.hpp"
#include "insula/train/step_result.hpp"
#include "insula/train/supervised.hpp"

namespace insula {

/// One batch as the loader makes it: volumes, or features of a frozen encoder, and a target each.
struct supervised_batch {
  index_t count = 0;
  bool features = false;
  std::vector<float> input, target;
};

/// Settings of the optimisation; the defaults are those of 3D-Neuro-SimCLR's main_eval.py, together with adam<float>.
struct supervised_options {
  double rate = 1e-4;
  std::optional<epoch_cosine> schedule{};  ///< in place of a constant rate
  index_t steps_per_epoch = 1;
  double clip = 0;       ///< largest global gradient norm; 0: no clipping
  double drop_path = 0;  ///< of networks that drop paths
  std::uint64_t seed = 0;
};

/// System is a supervised<...>; Optimizer is an adam, adamw or sgd over its weight range whose groups lie in what is trained.
template <class System, class Optimizer>
class supervised_trainer {
 public:
  /// Gives the next batch, valid until the next call, and adds the seconds it waited to its argument.
  using source = std::function<supervised_batch const&(double& waited)>;

  supervised_trainer(System& system, Optimizer optimizer, supervised_options o, source next)
      : system_(system), optimizer_(std::move(optimizer)), o_(o), next_(std::move(next)) {
    check(o_.steps_per_epoch >= 1, "trainer: steps_per_epoch is ", o_.steps_per_epoch,
          ", it must be at least 1");
  }

  /// Optimiser step t. Throws error naming the first tensor if the loss or the gradient is not finite; weights are then those
  /// of the step before.
  step_result train_step(index_t t) {
    step_result r;
    auto const& b = next_(r.data_wait);
    system_.clear_gradients();
    pass_options with;
    with.key = {o_.seed, mix(0x5b9e, std::uint64_t(t)), 0};
    with.drop_path = o_.drop_path;
    double const loss = b.features
                            ? system_.learn_from_features(b.input.data(), b.target.data(), b.count, with)
                            : system_.learn(b.input.data(), b.target.data(), b.count, with);
    index_t const from = system_.trained_from();
    double const norm = l2_norm(system_.run_context(), system_.g() + from, System::size - from);
    if (!std::isfinite(norm) || !std::isfinite(loss)) explain(t, loss);
    double const rate = rate_at(t);
    optimizer_.step(system_.run_context(), system_.g(), system_.w(), rate, clip_factor(norm, o_.clip));
    r.samples = b.count;
    r.add("train/loss", loss), r.add("train/grad_norm", norm), r.add("train/lr", rate);
    steps_ = t + 1;
    return r;
  }
  index_t step_count() const { return steps_; }
  double rate_at(index_t t) const {
    return o_.schedule ? o_.schedule->at_step(t, o_.steps_per_epoch) : o_.rate;
  }

  void save(safetensors_writer& w, state_map& state) {
    add_network(w, System::places(), static_cast<float const*>(system_.w()), system_.state());
    add_optimizer(w, state, trained_places(), optimizer_);
    state["steps"] = text(steps_);
  }
  void load(safetensors_file const& file, state_map const& state) {
    restore_network(file, System::places(), system_.w(), system_.state());
    restore_optimizer(file, state, trained_places(), optimizer_);
    steps_ = state_integer(state, "steps");
  }

 private:
  std::vector<tensor_place> trained_places() const {
    std::vector<tensor_place> some;
    for (auto const& t : System::places())
      if (t.kind == tensor_kind::weight && !t.frozen && t.offset >= system_.trained_from()) some.push_back(t);
    return some;
  }
  [[noreturn]] void explain(index_t t, double loss) {
    auto const trained = trained_places();
    std::string where = first_not_finite(trained, static_cast<float const*>(system_.g()));
    if (where.empty()) where = first_not_finite(trained, static_cast<float const*>(system_.w()));
    fail("training step ", t, ": the loss is ", loss, where.empty() ? "" : " and the first bad value is ",
         where, ": lower the learning rate or look at the data; weights and optimiser are those of step ", t);
  }

  System& system_;
  Optimizer optimizer_;
  supervised_options o_;
  source next_;
  index_t steps_ = 0;
};

}  // namespace insula
