// SPDX-License-Identifier: Apache-2.0
// A masked autoencoder in the smallest form that has all its parts, on made-up volumes, as a system that run_training() takes.
#pragma once

#include <vector>

#include "insula/cpu.hpp"
#include "insula/train/masked_autoencoder_trainer.hpp"
#include "insula/zoo/mae.hpp"

namespace support {

struct tiny_encoder : insula::vit::options {
  static constexpr int width = 24, depth = 2, heads = 3;
  static constexpr insula::extent volume{8, 12, 12}, patch{4, 4, 4};  // 18 tokens
};
struct tiny_mae_options : insula::mae::options<tiny_encoder> {
  static constexpr int decoder_width = 16, decoder_depth = 1, decoder_heads = 4;
  static constexpr insula::index_t keep = 6;
};
using tiny_volume = insula::vit::input<tiny_mae_options>;
template <class B = insula::cpu>
using tiny_mae_core = insula::masked_autoencoder<insula::mae::autoencoder<tiny_mae_options>,
                                                 insula::vit::encoder<tiny_mae_options>,
                                                 tiny_mae_options::patch, tiny_volume, float, B>;

/// Three volumes of a smooth pattern that depends on the subject. A function of i alone.
inline void make_volumes(insula::index_t i, insula::pretraining_batch& b) {
  insula::index_t const n = tiny_volume::size;
  b.singles = 3;
  b.volume.resize(std::size_t(3 * n));
  for (insula::index_t j = 0; j < 3; ++j) {
    double const subject = double((3 * i + j) % 7);
    for (insula::index_t p = 0; p < n; ++p) {
      double const z = double(p / 144), y = double(p / 12 % 12), x = double(p % 12);
      b.volume[std::size_t(j * n + p)] = float(std::sin(0.5 * z + 0.3 * subject) + std::cos(0.4 * (x + y)));
    }
  }
}

/// The trainer with its system and data.
class tiny_mae {
 public:
  tiny_mae(int threads, insula::index_t epochs, insula::masked_autoencoder_options o = {.mask_ratio = 0.75})
      : cx_(threads),
        core_(cx_, 3, o),
        trainer_(core_, training(epochs), [this](double&) -> insula::pretraining_batch const& {
          make_volumes(next_++, batch_);
          return batch_;
        }) {
    core_.initialise(3);
  }
  insula::step_result train_step(insula::index_t t) {
    next_ = 2 * t;
    return trainer_.train_step(t);
  }
  void save(insula::safetensors_writer& w, insula::state_map& s) { trainer_.save(w, s); }
  void load(insula::safetensors_file const& f, insula::state_map const& s) { trainer_.load(f, s); }
  insula::index_t step_count() const { return trainer_.step_count(); }
  tiny_mae_core<>& core() { return core_; }

  static insula::masked_autoencoder_training training(insula::index_t epochs) {
    return {.rate = {.peak = 4e-3, .minimum = 1e-4, .warm_up = 1, .epochs = double(epochs)},
            .steps_per_epoch = 4,
            .accumulate = 2,
            .seed = 5};
  }

 private:
  insula::context<insula::cpu> cx_;
  tiny_mae_core<> core_;
  insula::pretraining_batch batch_;
  insula::index_t next_ = 0;
  insula::masked_autoencoder_trainer<tiny_mae_core<>> trainer_;
};

}  // namespace support
