// SPDX-License-Identifier: Apache-2.0
// One micro-batch of a masked autoencoder over patches: the encoder sees a quarter of the tokens, the loss the others.
#pragma once

#include <cmath>
#include <limits>

#include "insula/autograd/apply.hpp"
#include "insula/loss/masked_patches.hpp"
#include "insula/op/reduce.hpp"
#include "insula/op/token.hpp"
#include "insula/ssl/token_masking.hpp"

namespace insula {

/// Settings of the objective; the defaults are those of 3D-Neuro-SimCLR's baseline.
struct masked_autoencoder_options {
  double mask_ratio =
      0.75;  ///< kept are int(tokens (1 - ratio)), at most what the network's type has room for
  patch_target target = patch_target::raw;
};

/// What stands for a volume: the encoder's class token, or the mean of its patch tokens.
enum class token_feature { class_token, mean };

/// Weights and gradients of a system that trains Autoencoder (volume to predicted patches) by masked patches (He et al. 2022,
/// arXiv 2111.06377). Encoder gives (1 + tokens, width) of a whole volume on the first part of the same weights.
///   using system = masked_autoencoder<mae::autoencoder<O>, vit::encoder<O>, O::patch, vit::input<O>>;
template <layer Autoencoder, layer Encoder, extent Patch, static_shape Crop, scalar T = float,
          backend B = cpu>
class masked_autoencoder {
 public:
  using autoencoder = program<Autoencoder, Crop>;
  using encoder_net = std::conditional_t<autoencoder::ok, Encoder, identity>;  // one fault, one error
  using encoder = program<encoder_net, Crop>;
  using tokens = typename encoder::output;
  static constexpr index_t size = autoencoder::weights;
  static constexpr op::patch_geometry geometry{1, spatial(Crop::value), Patch, Crop::value.n[0]};
  static constexpr index_t embedding_width = encoder::out.channels();

  /// For micro-batches of up to `batch` volumes.
  masked_autoencoder(context<B>& cx, index_t batch, masked_autoencoder_options o = {})
      : cx_(cx), o_(o), masks_(geometry.patches(), kept(o.mask_ratio), batch), tape_(cx), w_(size), g_(size) {
    check(batch >= 1, "masked_autoencoder: batch is ", batch, ", it must be at least 1");
  }

  /// Starts weights by every layer's rule.
  void initialise(std::uint64_t seed) { insula::initialise(places(), w_.data(), {seed, 0x1357}); }

  /// Draws masks from `key` and adds (+=) scale * gradient of the loss to g(). Volumes are (batch, crop). Returns the loss.
  double micro_batch(T const* volumes, index_t batch, random_key key, double scale = 1) {
    masks_.draw(key, batch);
    double loss = std::numeric_limits<double>::quiet_NaN();
    if constexpr (autoencoder::ok) {
      auto const x = constant<Crop>(tape_, volumes, batch);
      auto const y = apply<Autoencoder>(weights<T>{w_.data(), g_.data()}, x, {.order = masks_.order()}).out;
      loss = masked_patches<Patch>(y, x, masks_.masked(), o_.target, scale);
      tape_.backward();
    }
    tape_.clear();
    return loss;
  }
  /// The loss without gradients (validation).
  double evaluate(T const* volumes, index_t batch, random_key key) {
    masks_.draw(key, batch);
    double loss = std::numeric_limits<double>::quiet_NaN();
    if constexpr (autoencoder::ok) {
      auto const x = constant<Crop>(tape_, volumes, batch);
      auto const y =
          apply_without_gradient<Autoencoder>(static_cast<T const*>(w_.data()), x, {.order = masks_.order()});
      loss = masked_patches<Patch>(y, x, masks_.masked(), o_.target);
    }
    tape_.clear();
    return loss;
  }

  /// (batch, embedding_width), written (=), of whole volumes.
  void embed(T const* volumes, index_t batch, T* out, token_feature what = token_feature::class_token) {
    T* const f = tape_.template take<T>(batch * tokens::size);
    infer<encoder_net, Crop>(cx_, tape_.memory(), static_cast<T const*>(w_.data()), volumes, batch, f);
    index_t const all = tokens::value.n[0], width = embedding_width;
    if (what == token_feature::class_token) {
      run<op::slice_tokens, B, T>(cx_, {batch, all, width, 0, 1, f, out});
    } else {
      T* const patches = tape_.template take<T>(batch * (all - 1) * width);
      run<op::slice_tokens, B, T>(cx_, {batch, all, width, 1, all - 1, f, patches});
      run<op::average_pool, B, T>(cx_, {batch, all - 1, width, patches, out});
    }
    tape_.clear();
  }

  /// Volumes with their masked patches predicted, written (=); masks().masked() tells which. `key` draws the masks. If the
  /// targets are normalised, predictions get the true patch's mean and deviation back, as the published demonstration does.
  void reconstruct(T const* volumes, index_t batch, random_key key, T* out) {
    masks_.draw(key, batch);
    index_t const n = batch * Crop::size;
    op::patch_geometry g = geometry;
    g.batch = batch;
    T *const predicted = tape_.template take<T>(n), *const seen = tape_.template take<T>(n);
    infer<Autoencoder, Crop>(cx_, tape_.memory(), static_cast<T const*>(w_.data()), volumes, batch, predicted,
                             {.order = masks_.order()});
    run<op::patchify, B, T>(cx_, {g, g.patches(), nullptr, volumes, false, seen});
    for (index_t p = 0; p < batch * g.patches(); ++p) {
      T *const y = predicted + p * g.row(), *const x = seen + p * g.row();
      if (!masks_.masked()[p])
        std::copy_n(x, g.row(), y);
      else if (o_.target == patch_target::normalised)
        denormalise(g.row(), x, y);
    }
    run<op::unpatchify, B, T>(cx_, {g, g.patches(), nullptr, predicted, false, out});
    tape_.clear();
  }

  void clear_gradients() { run<op::fill, B, T>(cx_, {size, T(0), g_.data()}); }

  T* w() { return w_.data(); }
  T const* w() const { return w_.data(); }
  T* g() { return g_.data(); }
  token_masks& masks() { return masks_; }
  masked_autoencoder_options const& options() const { return o_; }
  context<B>& run_context() { return cx_; }
  static std::vector<tensor_place> places() { return parameters<Autoencoder, Crop>(); }

  /// Bytes of one training step: weights, gradients and the pass.
  static constexpr index_t bytes(index_t batch) { return autoencoder::bytes(batch, sizeof(T)); }
  std::size_t tape_bytes() const { return tape_.bytes(); }

 private:
  static index_t kept(double ratio) {
    index_t const all = geometry.patches(), kept = tokens_kept(all, ratio),
                  most = autoencoder::training.most_kept;
    check(ratio > 0 && ratio < 1, "masked_autoencoder: mask_ratio is ", ratio,
          ", it must be between 0 and 1");
    check(kept <= most, "masked_autoencoder: with mask_ratio ", ratio, " the encoder sees ", kept, " of ",
          all, " tokens, but the network is made for at most ", most,
          ": raise the ratio, or `keep` of the network's options");
    return kept;
  }
  static void denormalise(index_t n, T const* x, T* y) {
    double mean = 0, squares = 0;
    for (index_t i = 0; i < n; ++i) mean += double(x[i]) / double(n);
    for (index_t i = 0; i < n; ++i) squares += (double(x[i]) - mean) * (double(x[i]) - mean);
    double const deviation = std::sqrt(squares / double(n - 1) + 1e-6);
    for (index_t i = 0; i < n; ++i) y[i] = T(double(y[i]) * deviation + mean);
  }

  context<B>& cx_;
  masked_autoencoder_options o_;
  token_masks masks_;
  tape<B> tape_;
  buffer<T, B> w_, g_;
};

}  // namespace insula
