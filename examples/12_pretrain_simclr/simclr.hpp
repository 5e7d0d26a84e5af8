// SPDX-License-Identifier: Apache-2.0
// SimCLR of a ResNet of one size.
#pragma once

#include "insula/train/simclr_trainer.hpp"
#include "pretrain.hpp"
#include "program/resnets.hpp"

template <class O>
using simclr_system = insula::simclr<insula::neuro_simclr::network<O>, insula::neuro_simclr::encoder<O>,
                                     insula::neuro_simclr::volume<O>>;

template <class O>
class simclr_run : public pretraining_run<simclr_system<O>, insula::simclr_trainer<simclr_system<O>>> {
 public:
  using base = pretraining_run<simclr_system<O>, insula::simclr_trainer<simclr_system<O>>>;

  simclr_run(settings const& s, pretraining_data const& data, simclr_system<O>& system)
      : base(s, data, O::crop, system, optimisation(s)) {}

  /// The loss of whole batches of held-out scans under views that stay the same, with running statistics.
  insula::step_result evaluate(insula::index_t) {
    insula::step_result r;
    auto const& rows = this->data_.held_out();
    auto const batch = std::size_t(this->s_.batch), voxels = std::size_t(O::crop.size());
    std::vector<float> first(batch * voxels), second(first.size());
    double sum = 0;
    std::size_t count = 0;
    for (; (count + 1) * batch <= rows.size(); ++count) {
      for (std::size_t k = 0; k < batch; ++k) {
        auto const row = rows[count * batch + k];
        this->data_.view(row, -1, 0, first.data() + k * voxels);
        this->data_.view(row, -1, 1, second.data() + k * voxels);
      }
      sum += this->system_.evaluate(
          {this->s_.batch, first.data(), second.data(), nullptr, nullptr, nullptr, nullptr});
    }
    if (count > 0) r.add("val/loss", sum / double(count));
    return r;
  }

 private:
  static insula::simclr_options optimisation(settings const& s) {
    insula::simclr_options o;
    o.steps = s.steps, o.clip = s.clip;
    o.rate = {.peak = s.rate, .minimum = s.rate, .warm_up = 0};
    return o;
  }
};

template <class O>
int pretrain_simclr(settings const& s) {
  return pretrain(s, O::crop,
                  [](settings const& settled, pretraining_data const& data, auto& cx, auto train) {
                    simclr_system<O> system(cx);
                    system.loss.temperature = settled.temperature;
                    simclr_run<O> run(settled, data, system);
                    return train(run, insula::index_t(data.held_out().size()) >= settled.batch);
                  });
}
