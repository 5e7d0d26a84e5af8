// SPDX-License-Identifier: Apache-2.0
// One micro-batch of SimCLR: two views of every subject, two passes through one network, NT-Xent.
#pragma once

#include <limits>

#include "insula/autograd/apply.hpp"
#include "insula/loss/nt_xent.hpp"
#include "insula/ssl/view_pairs.hpp"

namespace insula {

/// Weights, gradients and state of a network that is trained by NT-Xent on two views (Chen et al. 2020, arXiv 2002.05709;
/// 3D-Neuro-SimCLR main.py). Network: volume to projection; Encoder: volume to representation, the beginning of Network, so that
/// it runs on the same weights and state. The views are two passes, first view 1, then view 2: batch statistics are per view, and
/// running statistics move twice.
template <layer Network, layer Encoder, static_shape Volume, scalar T = float, class B = cpu>
class simclr {
 public:
  using network = program<Network, Volume>;
  using encoder_net = std::conditional_t<network::ok, Encoder, identity>;  // one fault, one error
  using encoder = program<encoder_net, Volume>;
  static constexpr bool ok = network::ok && encoder::ok;
  static_assert(!ok || (encoder::weights <= network::weights && encoder::states <= network::states),
                "simclr: the encoder is longer than the network that begins with it");
  static constexpr index_t size = network::weights;
  static constexpr index_t width = network::out.channels(), embedding_width = encoder::out.size();

  explicit simclr(context<B>& cx)
      : cx_(cx), tape_(cx), w_(size), g_(size), values_(network::states), counters_(network::counters) {
    initialise_state(all_places(), state());
  }

  /// Starts weights and state by every layer's rule.
  void initialise(std::uint64_t seed) {
    insula::initialise(places(), w_.data(), {seed, 0x1357});
    initialise_state(all_places(), state());
  }

  /// Adds (+=) scale * gradient of the loss to g() and moves the state twice. Returns the loss. Throws error for fewer than two
  /// subjects over all ranks.
  double micro_batch(pair_batch<T> const& pairs, double scale = 1) {
    double value = 0;
    if constexpr (ok) {
      pass_options const with{.training = true, .ranks = loss.ranks};
      auto const zi = apply<Network>(params(), volumes(pairs.view1, pairs.batch), with).out;
      auto const zj = apply<Network>(params(), volumes(pairs.view2, pairs.batch), with).out;
      value = loss(zi, zj, scale);
    }
    tape_.backward();
    tape_.clear();
    return value;
  }

  /// The loss with running statistics, without gradients; nothing changes (validation).
  double evaluate(pair_batch<T> const& pairs) {
    double value = 0;
    if constexpr (ok) {
      auto const zi = apply_without_gradient<Network>(params(), volumes(pairs.view1, pairs.batch));
      auto const zj = apply_without_gradient<Network>(params(), volumes(pairs.view2, pairs.batch));
      value = loss(zi, zj);
    }
    tape_.clear();
    return value;
  }

  /// Representations of volumes with running statistics: (batch, embedding_width), written (=).
  void embed(T const* x, index_t batch, T* out) {
    infer<encoder_net, Volume>(cx_, tape_.memory(), params(), x, batch, out);
    tape_.clear();
  }

  void clear_gradients() { run<op::fill, B, T>(cx_, {size, T(0), g_.data()}); }

  T* w() { return w_.data(); }
  T const* w() const { return w_.data(); }
  T* g() { return g_.data(); }
  program_state<T> state() { return {values_.data(), counters_.data()}; }
  weights<T> params() { return {w_.data(), g_.data(), state()}; }
  context<B>& run_context() { return cx_; }
  std::size_t tape_bytes() const { return tape_.bytes(); }

  /// The trained tensors; with all_places() the state between them as well.
  static std::vector<tensor_place> places() { return parameters<Network, Volume>(); }
  static std::vector<tensor_place> all_places() { return tensors<Network, Volume>(); }

  /// Bytes of one micro-batch: weights, gradients, state, and both passes, whose activations live until the loss is known.
  static constexpr index_t bytes(index_t batch) {
    return index_t(sizeof(T)) * (2 * size + network::states + 2 * batch * network::training.activations) +
           8 * network::counters;
  }

  nt_xent loss{};  ///< temperature 0.5; its ranks also share the statistics of batch norms

 private:
  auto volumes(T const* x, index_t batch) { return constant<Volume>(tape_, x, batch); }

  context<B>& cx_;
  tape<B> tape_;
  buffer<T, B> w_, g_, values_;
  buffer<std::int64_t, B> counters_;
};

}  // namespace insula
