// SPDX-License-Identifier: Apache-2.0
// 3D-Neuro-SimCLR in the smallest form that has all its parts, on made-up volumes, as a system that run_training() takes.
#pragma once

#include <cmath>
#include <vector>

#include "insula/cpu.hpp"
#include "insula/train/simclr_trainer.hpp"
#include "insula/zoo/neuro_simclr.hpp"

namespace support {

struct tiny_simclr_options : insula::neuro_simclr::paper {
  static constexpr int blocks[4] = {1, 1, 1, 1};
  static constexpr int widths[4] = {4, 8, 8, 16};
  static constexpr int stem_kernel = 3, projection_width = 8;
  static constexpr insula::extent crop{14, 16, 18};
};
using tiny_simclr_volume = insula::neuro_simclr::volume<tiny_simclr_options>;
using tiny_simclr_core =
    insula::simclr<insula::neuro_simclr::network<tiny_simclr_options>,
                   insula::neuro_simclr::encoder<tiny_simclr_options>, tiny_simclr_volume>;

/// Batch i: three subjects with a blob each, whose place depends on the subject and whose width on the view. A function of i.
inline void make_views(insula::index_t i, insula::pretraining_batch& b) {
  insula::index_t const n = tiny_simclr_volume::size;
  insula::extent const e = tiny_simclr_options::crop;
  b.pairs = 3;
  b.view1.resize(std::size_t(3 * n)), b.view2.resize(std::size_t(3 * n));
  auto const blob = [&](insula::index_t subject, double spread, float* x) {
    for (insula::index_t p = 0; p < n; ++p) {
      double const d = double(p / (e.h * e.w)) - 4 - double(subject % 4),
                   h = double(p / e.w % e.h) - 5 - double(subject % 3),
                   w = double(p % e.w) - 12 + double(subject % 5);
      x[p] = float(2 * std::exp(-(d * d + h * h + w * w) / spread) - 0.2);
    }
  };
  for (insula::index_t j = 0; j < 3; ++j)
    blob((3 * i + j) % 7, 12, b.view1.data() + j * n), blob((3 * i + j) % 7, 17, b.view2.data() + j * n);
}

/// The trainer with its system and data.
class tiny_simclr {
 public:
  explicit tiny_simclr(int threads = 1, int accumulate = 1)
      : cx_(threads),
        core_(cx_),
        trainer_(core_, {.accumulate = accumulate, .rate = [](insula::index_t) { return 3e-3; }},
                 [this](double&) -> insula::pretraining_batch const& {
                   make_views(next_++, batch_);
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
  tiny_simclr_core& core() { return core_; }

  /// Weights and state, all bits of them.
  std::vector<float> numbers() {
    std::vector<float> all(core_.w(), core_.w() + tiny_simclr_core::size);
    auto const s = core_.state();
    all.insert(all.end(), s.values, s.values + tiny_simclr_core::network::states);
    for (insula::index_t k = 0; k < tiny_simclr_core::network::counters; ++k)
      all.push_back(float(s.counters[k]));
    return all;
  }

 private:
  insula::context<insula::cpu> cx_;
  tiny_simclr_core core_;
  insula::pretraining_batch batch_;
  insula::index_t next_ = 0;
  insula::simclr_trainer<tiny_simclr_core> trainer_;
};

}  // namespace support
