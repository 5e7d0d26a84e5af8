// SPDX-License-Identifier: Apache-2.0
// Training of a masked_autoencoder system: schedule by epochs, accumulation, AdamW, and its checkpoint.
#pragma once

#include <cmath>
#include <functional>
#include <string>

#include "insula/optim/adamw.hpp"
#include "insula/optim/clip.hpp"
#include "insula/optim/schedule.hpp"
#include "insula/ssl/masked_autoencoder.hpp"
#include "insula/train/pretraining_batch.hpp"
#include "insula/train/step_result.hpp"
#include "insula/train/weights_io.hpp"

namespace insula {

/// Settings of the optimisation; the defaults are those of 3D-Neuro-SimCLR's baseline, and of facebookresearch/mae
/// (main_pretrain.py) where the paper is silent.
struct masked_autoencoder_training {
  /// The peak is rate_of_batch(1.5e-4, 128); 128 are the scans of one optimiser step.
  epoch_cosine rate{.peak = 7.5e-5, .warm_up = 40, .epochs = 150};
  index_t steps_per_epoch = 1;  ///< optimiser steps
  int accumulate = 1;           ///< micro-batches per optimiser step
  double decay = 0.05;          ///< of all tensors but vectors and biases; class and mask token are decayed
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double clip = 0;  ///< global norm of the gradient; 0: never
  std::uint64_t seed = 0;

  /// Optimiser steps of the whole training.
  index_t steps() const { return index_t(std::llround(rate.epochs * double(steps_per_epoch))); }
};

/// System is a masked_autoencoder<...>; batches come from a source and are its single volumes.
template <class System>
class masked_autoencoder_trainer {
 public:
  /// Gives the next micro-batch (`singles` volumes), valid until the next call, and adds the seconds it waited to its argument.
  using source = std::function<pretraining_batch const&(double& waited)>;

  masked_autoencoder_trainer(System& system, masked_autoencoder_training o, source next)
      : system_(system),
        o_(o),
        next_(std::move(next)),
        optimizer_(System::size, decay_matrices(System::places(), o.decay), {o.beta1, o.beta2, o.eps}) {
    check(o.accumulate >= 1, "trainer: accumulate is ", o.accumulate, ", it must be at least 1");
    check(
        o.steps_per_epoch >= 1 && o.rate.epochs > 0 && o.rate.warm_up >= 0 && o.rate.warm_up <= o.rate.epochs,
        "trainer: epochs ", o.rate.epochs, ", warm_up ", o.rate.warm_up, " and steps_per_epoch ",
        o.steps_per_epoch,
        " do not fit; steps must be at least 1, epochs more than 0, the warm-up at most all epochs");
  }

  /// Optimiser step t: accumulates gradients over the micro-batches, updates. Throws error naming the first tensor if the loss
  /// or the gradient is not finite; weights are then those of the step before.
  step_result train_step(index_t t) {
    step_result r;
    system_.clear_gradients();
    double loss = 0;
    for (int a = 0; a < o_.accumulate; ++a) {
      pretraining_batch const& b = next_(r.data_wait);
      auto const micro = std::uint64_t(t) * std::uint64_t(o_.accumulate) + std::uint64_t(a);
      loss += system_.micro_batch(b.volume.data(), b.singles, {o_.seed, mix(0x3a5c, micro), 0},
                                  1.0 / o_.accumulate);
      r.samples += b.singles;
    }
    double const norm = l2_norm(system_.run_context(), system_.g(), System::size),
                 rate = o_.rate.at_step(t, o_.steps_per_epoch);
    if (!std::isfinite(norm) || !std::isfinite(loss)) explain(t, loss);
    optimizer_.step(system_.run_context(), system_.g(), system_.w(), rate, clip_factor(norm, o_.clip));
    r.add("train/loss", loss / o_.accumulate);
    r.add("train/grad_norm", norm * clip_factor(norm, o_.clip));
    r.add("train/lr", rate);
    r.add("train/epoch", double(t) / double(o_.steps_per_epoch));
    steps_ = t + 1;
    return r;
  }
  index_t step_count() const { return steps_; }

  /// Weights in the published names behind "model.", optimiser, counters.
  void save(safetensors_writer& w, state_map& state) {
    add_tensors<float>(w, System::places(), system_.w(), "model.");
    add_optimizer(w, state, trained_places(), optimizer_);
    state["steps"] = text(steps_);
  }
  void load(safetensors_file const& file, state_map const& state) {
    restore_tensors<float>(file, System::places(), system_.w(), "model.");
    restore_optimizer(file, state, trained_places(), optimizer_);
    steps_ = state_integer(state, "steps");
  }

  static std::vector<tensor_place> trained_places() {
    auto places = System::places();
    std::erase_if(places, [](tensor_place const& t) { return t.frozen; });
    return places;
  }

 private:
  [[noreturn]] void explain(index_t t, double loss) {
    std::string where = first_not_finite(System::places(), system_.g());
    if (where.empty()) where = first_not_finite(System::places(), static_cast<float const*>(system_.w()));
    fail("training step ", t, ": the loss is ", loss, where.empty() ? "" : " and the first bad value is ",
         where, ": lower the learning rate or look at the data; weights and optimiser are those of step ", t);
  }

  System& system_;
  masked_autoencoder_training o_;
  source next_;
  adamw<float> optimizer_;
  index_t steps_ = 0;
};

/// How tensors of a masked autoencoder's checkpoint fill a vision transformer for a task: the decoder is ignored, the head
/// starts anew, and so does fc_norm of a classifier of the mean, which has no `norm`. For load_tensors(); "model." and such
/// prefixes are removed as usual.
inline mapping_options from_masked_autoencoder(token_feature feature) {
  mapping_options o = any_known_prefix();
  o.ignored = {"mask_token", "decoder_"};
  o.optional = {"head."};
  if (feature == token_feature::mean) o.ignored.push_back("norm."), o.optional.push_back("fc_norm.");
  return o;
}

}  // namespace insula
