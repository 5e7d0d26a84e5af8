// SPDX-License-Identifier: Apache-2.0
// One micro-batch of momentum contrast and masked image modelling on one encoder: UMBRA's objectives.
#pragma once

#include "insula/autograd/apply.hpp"
#include "insula/loss/info_nce.hpp"
#include "insula/loss/masked_reconstruction.hpp"
#include "insula/ssl/masking.hpp"
#include "insula/ssl/momentum.hpp"
#include "insula/ssl/queue.hpp"
#include "insula/ssl/view_pairs.hpp"

namespace insula {

/// Which terms of the loss are on.
struct objectives {
  bool contrastive = true;
  bool masked = true;
};

/// Single volumes for masked image modelling alone.
template <class T>
struct single_batch {
  index_t batch = 0;
  T const *volume = nullptr, *recon = nullptr;
};

/// Losses of one micro-batch; NaN where a term was not computed.
struct contrastive_masked_losses {
  double total = std::numeric_limits<double>::quiet_NaN();
  double contrastive = total, masked_pairs = total, masked_single = total;
  double negatives = total;  ///< mean number of valid negatives of a query
};

/// Weights, gradients, momentum copy and queue of a system that trains Autoencoder by masked reconstruction and its
/// Encoder, followed by Projection, by momentum contrast (Koutsouvelis et al. 2025; UMBRA models/foundation.py).
/// The autoencoder's weight range begins with the encoder's. One range holds [autoencoder | projection], the momentum
/// copy [encoder | projection].
template <layer Autoencoder, layer Encoder, layer Projection, static_shape Crop, index_t QueueLength,
          scalar T = float, backend B = cpu>
class contrastive_masked {
 public:
  using autoencoder = program<Autoencoder, Crop>;
  using encoder_net = std::conditional_t<autoencoder::ok, Encoder, identity>;  // one fault, one error
  using encoder = program<encoder_net, Crop>;
  using features = typename encoder::output;
  using projection_net = std::conditional_t<autoencoder::ok && encoder::ok, Projection, identity>;
  using head = program<projection_net, features, input_gradient::yes>;
  static constexpr bool ok = autoencoder::ok && encoder::ok && head::ok;
  static constexpr index_t width = head::out.channels();
  using queue_type = queue<T, QueueLength, width, B>;
  static_assert(!autoencoder::ok || autoencoder::out == Crop::value,
                "the autoencoder must give a reconstruction of the input's shape");
  static constexpr index_t size = autoencoder::weights + head::weights;
  static constexpr index_t momentum_size = encoder::weights + head::weights;

  contrastive_masked(context<B>& cx, objectives on, mask_grid grid, index_t batch)
      : cx_(cx),
        on_(on),
        batch_(batch),
        masks_(grid, batch),
        tape_(cx),
        w_(size),
        g_(size),
        momentum_(on.contrastive ? momentum_size : 0),
        key1_(batch * width),
        key2_(batch * width) {
    check(grid.input == spatial(Crop::value), "contrastive_masked: the mask grid is ", grid.input,
          ", the crop is ", spatial(Crop::value));
    check(batch >= 1, "contrastive_masked: batch is ", batch, ", it must be at least 1");
  }

  /// Starts weights by every layer's rule, the momentum copy as an exact copy, the queue at random.
  void initialise(std::uint64_t seed) {
    insula::initialise(autoencoder_places(), w_.data(), {seed, 0x1357});
    insula::initialise(projection_places(), w_.data(), {seed, 0x1358});
    if (!on_.contrastive) return;
    start_momentum();
    queue_.initialise(seed);
  }
  /// The momentum copy becomes an exact copy of the weights.
  void start_momentum() {
    run<op::copy, B, T>(cx_, {encoder::weights, w_.data(), momentum_.data()});
    run<op::copy, B, T>(cx_, {head::weights, projection(), momentum_.data() + encoder::weights});
  }

  /// Adds (+=) scale * gradient of the loss  alpha L_con(pairs) + L_mae(pairs) + L_mse(singles)  to g(); terms without data
  /// or switched off are absent. Also moves the momentum copy by m and enqueues the new keys. `key` draws the masks.
  contrastive_masked_losses micro_batch(pair_batch<T> const& pairs, single_batch<T> const& singles,
                                        double alpha, double m, random_key key, double scale = 1) {
    contrastive_masked_losses l;
    l.total = 0;
    if (on_.masked && pairs.batch > 0) {
      double const first = masked_pass(pairs.view1, pairs.recon1, pairs.batch, key.with(1), 0.5 * scale);
      double const second = masked_pass(pairs.view2, pairs.recon2, pairs.batch, key.with(2), 0.5 * scale);
      l.masked_pairs = 0.5 * (first + second);
      l.total += l.masked_pairs;
    }
    if (on_.contrastive && pairs.batch > 0) {
      move_momentum(m);
      double const w = on_.masked ? alpha : 1;
      contrast(pairs, 0.5 * w * scale, l);
      l.total += w * l.contrastive;
    }
    if (on_.masked && singles.batch > 0) {
      l.masked_single = masked_pass(singles.volume, singles.recon, singles.batch, key.with(3), scale);
      l.total += l.masked_single;
    }
    return l;
  }

  /// Losses without gradients, momentum or queue updates (validation).
  contrastive_masked_losses evaluate(pair_batch<T> const& pairs, single_batch<T> const& singles, double alpha,
                                     random_key key) {
    contrastive_masked_losses l;
    l.total = 0;
    if (on_.masked && pairs.batch > 0) {
      l.masked_pairs = 0.5 * (masked_error(pairs.view1, pairs.recon1, pairs.batch, key.with(1)) +
                              masked_error(pairs.view2, pairs.recon2, pairs.batch, key.with(2)));
      l.total += l.masked_pairs;
    }
    if (on_.contrastive && pairs.batch > 0) {
      embed_keys(pairs);
      l.contrastive = 0.5 * (query_error(pairs.view1, key2_.data(), pairs) +
                             query_error(pairs.view2, key1_.data(), pairs));
      l.total += (on_.masked ? alpha : 1) * l.contrastive;
    }
    if (on_.masked && singles.batch > 0) {
      l.masked_single = masked_error(singles.volume, singles.recon, singles.batch, key.with(3));
      l.total += l.masked_single;
    }
    return l;
  }

  /// Mean over voxels of the encoder's last map, written (=) as (batch, channels): the published embedding.
  void embed(T const* volumes, index_t batch, T* out) {
    T* f = tape_.template take<T>(batch * features::size);
    infer<encoder_net, Crop>(cx_, tape_.memory(), w_.data(), volumes, batch, f);
    run<op::average_pool, B, T>(cx_,
                                {batch, features::value.positions(), features::value.channels(), f, out});
    tape_.clear();
  }
  static constexpr index_t embedding_width = features::value.channels();

  /// Reconstruction of masked volumes, written (=); tokens: (batch, tokens) mask bytes.
  void reconstruct(T const* volumes, index_t batch, std::uint8_t const* tokens, T* out) {
    infer<Autoencoder, Crop>(cx_, tape_.memory(), w_.data(), volumes, batch, out, {.mask = tokens});
    tape_.clear();
  }

  void clear_gradients() { run<op::fill, B, T>(cx_, {size, T(0), g_.data()}); }

  T* w() { return w_.data(); }
  T const* w() const { return w_.data(); }
  T* g() { return g_.data(); }
  T* projection() { return w_.data() + autoencoder::weights; }
  momentum_copy<T, B>& momentum() { return momentum_; }
  queue_type& keys() { return queue_; }
  objectives on() const { return on_; }
  mask_batch& masks() { return masks_; }
  context<B>& run_context() { return cx_; }

  static std::vector<tensor_place> autoencoder_places() { return parameters<Autoencoder, Crop>(); }
  /// Offsets in the whole range.
  static std::vector<tensor_place> projection_places() {
    auto places = parameters<projection_net, features>();
    for (auto& p : places) p.offset += autoencoder::weights;
    return places;
  }

  /// Bytes of one training step: weights, gradients, momentum copy, queue, and the largest pass.
  static constexpr index_t bytes(objectives on, index_t batch) {
    index_t const pass = on.masked ? autoencoder::training.activations
                                   : encoder::training.activations + head::training.activations;
    index_t const kept = 2 * size + (on.contrastive ? momentum_size + QueueLength * width : 0);
    return index_t(sizeof(T)) * (kept + batch * pass);
  }
  std::size_t tape_bytes() const { return tape_.bytes(); }

 private:
  weights<T> body() { return {w_.data(), g_.data()}; }

  double masked_pass(T const* x, T const* target, index_t batch, random_key key, double weight) {
    masks_.draw(ratio, key);
    auto const y = apply<Autoencoder>(body(), constant<Crop>(tape_, x, batch), {.mask = masks_.tokens()});
    double const loss = masked_reconstruction(y.out, target, masks_.voxels(), weight);
    tape_.backward();
    tape_.clear();
    return loss;
  }
  double masked_error(T const* x, T const* target, index_t batch, random_key key) {
    masks_.draw(ratio, key);
    auto const y = apply_without_gradient<Autoencoder>(w_.data(), constant<Crop>(tape_, x, batch),
                                                       {.mask = masks_.tokens()});
    double const loss = masked_reconstruction(y, target, masks_.voxels());
    tape_.clear();
    return loss;
  }
  void move_momentum(double m) {
    run<op::ema, B, T>(cx_, {encoder::weights, m, w_.data(), momentum_.data()});
    run<op::ema, B, T>(cx_, {head::weights, m, projection(), momentum_.data() + encoder::weights});
  }
  void embed_keys(pair_batch<T> const& p) {
    embed_key(p.view1, p.batch, key1_.data());
    embed_key(p.view2, p.batch, key2_.data());
  }
  void embed_key(T const* x, index_t batch, T* key) {
    T* f = tape_.template take<T>(batch * features::size);
    infer<encoder_net, Crop>(cx_, tape_.memory(), momentum_.data(), x, batch, f);
    infer<projection_net, features>(cx_, tape_.memory(), momentum_.data() + encoder::weights, f, batch, key);
    tape_.clear();
  }
  double query_error(T const* x, T const* key, pair_batch<T> const& p) {
    double loss = 0;
    if constexpr (ok) {
      auto const f = apply_without_gradient<Encoder>(w_.data(), constant<Crop>(tape_, x, p.batch));
      auto const q = apply_without_gradient<Projection>(static_cast<T const*>(projection()), f);
      loss = loss_(q, constant<shape<width>>(tape_, key, p.batch), queue_.view(), p.patient);
    }
    tape_.clear();
    return loss;
  }
  void contrast(pair_batch<T> const& p, double weight, contrastive_masked_losses& l) {
    embed_keys(p);
    double n1 = 0, n2 = 0;
    double const first = query_pass(p.view1, key2_.data(), p, weight, n1);
    double const second = query_pass(p.view2, key1_.data(), p, weight, n2);
    l.contrastive = 0.5 * (first + second), l.negatives = 0.5 * (n1 + n2);
    queue_.push(p.batch, key1_.data(), p.patient, p.session);
    queue_.push(p.batch, key2_.data(), p.patient, p.session);
  }
  double query_pass(T const* x, T const* key, pair_batch<T> const& p, double weight, double& valid) {
    double loss = 0;
    if constexpr (ok) {
      weights<T> const head_weights{projection(), g_.data() + autoencoder::weights};
      auto const f = apply<Encoder>(body(), constant<Crop>(tape_, x, p.batch)).out;
      auto const q = apply<Projection, input_gradient::yes>(head_weights, f).out;
      loss = loss_(q, constant<shape<width>>(tape_, key, p.batch), queue_.view(), p.patient, weight, &valid);
    }
    tape_.backward();
    tape_.clear();
    return loss;
  }

 public:
  mask_ratio ratio{};

 private:
  context<B>& cx_;
  objectives on_;
  index_t batch_;
  mask_batch masks_;
  tape<B> tape_;
  buffer<T, B> w_, g_;
  momentum_copy<T, B> momentum_;
  queue_type queue_;
  buffer<T, B> key1_, key2_;
  info_nce<QueueLength> loss_{};
};

}  // namespace insula
