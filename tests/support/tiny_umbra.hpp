// SPDX-License-Identifier: Apache-2.0
// UMBRA in the smallest form that has all its parts, on made-up volumes, as a system that run_training() takes.
#pragma once

#include <vector>

#include "insula/cpu.hpp"
#include "insula/train/contrastive_masked_trainer.hpp"
#include "insula/zoo/umbra.hpp"
#include "support/sanitizers.hpp"

namespace support {

struct tiny_options : insula::umbra::small {
  static constexpr int window = 3;
  static constexpr int decoder_width = 8;
  static constexpr int projection_hidden = 16, projection_width = 8;
  static constexpr int queue_length = 12;
  static constexpr int crop = 32;
};
using tiny_crop = insula::umbra::crop<tiny_options>;
using tiny_core =
    insula::contrastive_masked<insula::umbra::autoencoder<tiny_options>, insula::umbra::encoder<tiny_options>,
                               insula::umbra::projection<tiny_options>, tiny_crop,
                               tiny_options::queue_length>;

#ifdef THREAD_SANITIZED
inline constexpr insula::index_t tiny_pairs = 1;  // a step takes forty times as long
#else
inline constexpr insula::index_t tiny_pairs = 2;
#endif

/// Batch i: blobs whose place depends on the subject, brightness on the view. A function of i alone.
inline void make_batch(insula::index_t i, insula::pretraining_batch& b) {
  b.pairs = tiny_pairs, b.singles = 1;
  insula::index_t const n = tiny_crop::size, side = tiny_options::crop;
  for (auto* v : {&b.view1, &b.view2, &b.recon1, &b.recon2}) v->resize(std::size_t(tiny_pairs * n));
  for (auto* v : {&b.volume, &b.recon}) v->resize(std::size_t(n));
  b.patient.resize(tiny_pairs), b.session.resize(tiny_pairs);
  auto const blob = [&](insula::index_t subject, float gain, float* x) {
    double const c[3] = {8 + 3 * double(subject % 5), 10 + 4 * double(subject % 3),
                         20 - 2 * double(subject % 4)};
    for (insula::index_t p = 0; p < n; ++p) {
      double const d = double(p / (side * side)) - c[0], h = double(p / side % side) - c[1],
                   w = double(p % side) - c[2];
      x[p] = gain * float(2 * std::exp(-(d * d + h * h + w * w) / 60) - 0.3);
    }
  };
  for (insula::index_t j = 0; j < tiny_pairs; ++j) {
    insula::index_t const subject = (tiny_pairs * i + j) % 7;
    blob(subject, 1.0f, b.view1.data() + j * n), blob(subject, 1.3f, b.view2.data() + j * n);
    b.patient[std::size_t(j)] = subject + 1, b.session[std::size_t(j)] = 1;
  }
  b.recon1 = b.view1, b.recon2 = b.view2;
  blob(i % 7, 0.8f, b.volume.data());
  b.recon = b.volume;
}

/// The trainer with its system and data.
class tiny_umbra {
 public:
  tiny_umbra(int threads, insula::objectives on, insula::index_t steps)
      : cx_(threads),
        core_(cx_, on, {insula::cube(tiny_options::crop)}, tiny_pairs),
        trainer_(core_, options(steps), [this](double&) -> insula::pretraining_batch const& {
          make_batch(next_++, batch_);
          return batch_;
        }) {
    core_.initialise(3);
  }
  insula::step_result train_step(insula::index_t t) {
    next_ = t;
    return trainer_.train_step(t);
  }
  void save(insula::safetensors_writer& w, insula::state_map& s) { trainer_.save(w, s); }
  void load(insula::safetensors_file const& f, insula::state_map const& s) { trainer_.load(f, s); }
  insula::index_t step_count() const { return trainer_.step_count(); }
  tiny_core& core() { return core_; }

 private:
  static insula::contrastive_masked_options options(insula::index_t steps) {
    insula::contrastive_masked_options o;
    o.steps = steps, o.rate = {.peak = 2e-3, .minimum = 1e-4, .warm_up = 0.1}, o.seed = 5;
    return o;
  }
  insula::context<insula::cpu> cx_;
  tiny_core core_;
  insula::pretraining_batch batch_;
  insula::index_t next_ = 0;
  insula::contrastive_masked_trainer<tiny_core> trainer_;
};

}  // namespace support
