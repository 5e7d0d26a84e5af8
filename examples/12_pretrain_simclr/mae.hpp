// SPDX-License-Identifier: Apache-2.0
// Pretraining of a masked autoencoder of one size.
#pragma once

#include "insula/train/masked_autoencoder_trainer.hpp"
#include "insula/train/montage.hpp"
#include "pretrain.hpp"
#include "program/vits.hpp"

template <class O>
class mae_run
    : public pretraining_run<
          insula::masked_autoencoder<insula::mae::autoencoder<O>, insula::vit::encoder<O>, O::patch,
                                     insula::vit::input<O>>,
          insula::masked_autoencoder_trainer<insula::masked_autoencoder<
              insula::mae::autoencoder<O>, insula::vit::encoder<O>, O::patch, insula::vit::input<O>>>> {
 public:
  using system_type = insula::masked_autoencoder<insula::mae::autoencoder<O>, insula::vit::encoder<O>,
                                                 O::patch, insula::vit::input<O>>;
  using trainer_type = insula::masked_autoencoder_trainer<system_type>;
  using base = pretraining_run<system_type, trainer_type>;

  mae_run(settings const& s, pretraining_data const& data, system_type& system)
      : base(s, data, O::volume, system, optimisation(s, data)) {}

  /// The loss of the held-out scans, each under one mask that stays the same.
  insula::step_result evaluate(insula::index_t) {
    insula::step_result r;
    std::vector<float> x(std::size_t(O::volume.size()));
    double sum = 0;
    for (auto const row : this->data_.held_out()) {
      this->data_.plain(row, x.data());
      sum += this->system_.evaluate(x.data(), 1, mask_key(row));
    }
    r.add("val/loss", sum / double(this->data_.held_out().size()));
    return r;
  }
  void snapshot(insula::index_t t, insula::run_log& log) {
    std::vector<float> x(std::size_t(O::volume.size())), y(x.size());
    std::vector<std::uint8_t> mask(x.size());
    auto const& rows = this->data_.held_out();
    for (std::size_t i = 0; i < std::min<std::size_t>(3, rows.size()); ++i) {
      this->data_.plain(rows[i], x.data());
      this->system_.reconstruct(x.data(), 1, mask_key(rows[i]), y.data());
      voxels_of(this->system_.masks().masked(), mask);
      auto const p = insula::reconstruction_montage(O::volume, x.data(), mask.data(), y.data());
      log.image(insula::text("reconstruction/held_out_", i + 1), p.view(), t);
    }
  }

 private:
  insula::random_key mask_key(insula::index_t row) const {
    return {this->s_.seed, insula::mix(0xe0, std::uint64_t(row)), 9};
  }
  static void voxels_of(std::uint8_t const* patches, std::vector<std::uint8_t>& mask) {
    auto const n = O::volume, p = O::patch, g = insula::vit::grid<O>;
    std::size_t at = 0;
    for (insula::index_t z = 0; z < n.d; ++z)
      for (insula::index_t y = 0; y < n.h; ++y)
        for (insula::index_t x = 0; x < n.w; ++x)
          mask[at++] = patches[(z / p.d * g.h + y / p.h) * g.w + x / p.w];
  }
  static insula::masked_autoencoder_training optimisation(settings const& s, pretraining_data const& data) {
    insula::masked_autoencoder_training o;
    double const epochs = double(s.steps) / double(data.steps_per_epoch());
    o.rate.peak = s.rate > 0 ? s.rate : 1.5e-4 * double(s.batch * s.accumulate) / 256;
    o.rate.warm_up = s.warm_up * epochs, o.rate.epochs = epochs;
    o.steps_per_epoch = data.steps_per_epoch(), o.accumulate = s.accumulate, o.decay = s.decay,
    o.clip = s.clip, o.seed = s.seed;
    return o;
  }
};

template <class O>
int pretrain_mae(settings const& s) {
  return pretrain(
      s, O::volume, [](settings const& settled, pretraining_data const& data, auto& cx, auto train) {
        using run_type = mae_run<O>;
        typename run_type::system_type system(
            cx, settled.batch,
            {.mask_ratio = settled.mask_ratio,
             .target =
                 settled.normalise_patches ? insula::patch_target::normalised : insula::patch_target::raw});
        run_type run(settled, data, system);
        return train(run, !data.held_out().empty());
      });
}
