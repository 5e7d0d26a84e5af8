// SPDX-License-Identifier: Apache-2.0
// Learning a number per volume: an encoder with a head, fine-tuned, probed or trained from scratch.
#pragma once

#include "insula/autograd/apply.hpp"
#include "insula/loss/classification.hpp"
#include "insula/loss/regression.hpp"
#include "insula/net/compose.hpp"

namespace insula {

/// What is predicted: a probability by one logit (binary cross-entropy), or a number (mean squared error).
enum class target_kind { binary, real };

/// What training does with the encoder.
enum class encoder_use {
  trained,  ///< fine-tuning, or from scratch
  frozen,   ///< a linear probe: nothing of the encoder changes, batch norms use their running statistics
  frozen_moving  ///< the probe of 3D-Neuro-SimCLR (main_eval.py): weights stay, but batch norms use and move batch statistics
};

/// Encoder and head with weights, gradients and state; one output per sample. `cx` must outlive it. Tensors are those of
/// seq<Encoder, Head>, whose ranges begin with the encoder's.
///   supervised<neuro_simclr::encoder<O>, neuro_simclr::head<>, shape<1, 150, 192, 192>> net(cx, target_kind::binary, use);
///   net.initialise(seed);  double const loss = net.learn(x, y, batch);     // then an optimiser's step on net.g(), net.w()
template <layer Encoder, layer Head, static_shape In>
class supervised {
 public:
  using network = seq<Encoder, Head>;
  using input = In;
  using encoder = program<Encoder, In>;
  using features = typename encoder::output;
  using head = program<Head, features>;
  static constexpr index_t size = program<network, In>::weights, encoder_size = encoder::weights,
                           width = features::size;
  static_assert(head::out.size() == 1, "supervised: the head must give one number per sample");
  static_assert(size == encoder_size + head::weights,
                "supervised: the head's weights must follow the encoder's");

  supervised(context<cpu>& cx, target_kind kind, encoder_use use)
      : cx_(cx), kind_(kind), use_(use), tape_(cx) {}

  void initialise(std::uint64_t seed) { model_.initialise(seed); }

  /// Loss of a batch of volumes (batch, In) and targets; adds its gradient to g(). In the modes without training of the
  /// encoder only the head's part of g() is added to.
  double learn(float const* x, float const* target, index_t batch, pass_options with = {}) {
    tape_.clear();
    auto const volumes = constant<In>(tape_, x, batch);
    with.training = use_ != encoder_use::frozen;
    double loss;
    if (use_ == encoder_use::trained) {
      auto const h = apply<Encoder>(weights<float>{w(), g(), model_.state()}, volumes, with).out;
      loss = end(apply<Head, input_gradient::yes>(head_weights(), h, with).out, target);
    } else {
      auto const h = apply_without_gradient<Encoder>(encoder_weights(), volumes, with);
      loss = end(apply<Head>(head_weights(), h, with).out, target);
    }
    return loss;
  }
  /// The same from features (batch, width) that embed() gave: a probe whose encoder does not change.
  double learn_from_features(float const* h, float const* target, index_t batch, pass_options with = {}) {
    check(use_ == encoder_use::frozen,
          "supervised: features can stand for volumes only if the encoder is frozen");
    tape_.clear();
    with.training = true;
    return end(apply<Head>(head_weights(), constant<features>(tape_, h, batch), with).out, target);
  }

  /// Writes (=) one output per sample: a logit or a number. Batch norms use their running statistics.
  void predict(float const* x, index_t batch, float* y) {
    tape_.clear();
    infer<network, In>(cx_, tape_.memory(), model_.frozen_params(), x, batch, y);
  }
  /// Writes (=) width features per sample.
  void embed(float const* x, index_t batch, float* h) {
    tape_.clear();
    infer<Encoder, In>(cx_, tape_.memory(), model_.frozen_params(), x, batch, h);
  }
  void predict_from_features(float const* h, index_t batch, float* y) {
    tape_.clear();
    auto w = head_weights();
    w.g = nullptr, w.state.fixed = true;
    infer<Head, features>(cx_, tape_.memory(), w, h, batch, y);
  }

  context<cpu>& run_context() { return cx_; }
  target_kind kind() const { return kind_; }
  encoder_use use() const { return use_; }
  float* w() { return model_.w(); }
  float* g() { return model_.g(); }
  program_state<float> state() { return model_.state(); }
  /// First element of the range that is trained; it ends at `size`.
  index_t trained_from() const { return use_ == encoder_use::trained ? 0 : encoder_size; }
  void clear_gradients() {
    run<op::fill, cpu, float>(cx_, {size - trained_from(), 0.0f, g() + trained_from()});
  }
  /// All tensors, weights and state, with published names.
  static std::vector<tensor_place> places() { return tensors<network, In>(); }
  static std::vector<tensor_place> encoder_places() { return tensors<Encoder, In>(); }
  /// Bytes of a training step at most.
  static constexpr index_t bytes(index_t batch) { return program<network, In>::bytes(batch, sizeof(float)); }

 private:
  weights<float> encoder_weights() { return {w(), nullptr, model_.state()}; }
  weights<float> head_weights() {
    auto s = model_.state();
    s.values += encoder::states, s.counters += encoder::counters;
    return {w() + encoder_size, g() + encoder_size, s};
  }
  template <class Var>
  double end(Var y, float const* target) {
    double const loss = kind_ == target_kind::binary ? bce_with_logits(y, target) : mse(y, target);
    tape_.backward();
    return loss;
  }

  context<cpu>& cx_;
  target_kind kind_;
  encoder_use use_;
  tape<cpu> tape_;
  model<network, In> model_;
};

}  // namespace insula
