// SPDX-License-Identifier: Apache-2.0
// SimCLR of a ResNet of one size.
#pragma once

#include "insula/optim/lars.hpp"
#include "insula/optim/schedule.hpp"
#include "insula/train/simclr_trainer.hpp"
#include "pretrain.hpp"
#include "program/resnets.hpp"

template <class O>
using simclr_system = insula::simclr<insula::neuro_simclr::network<O>, insula::neuro_simclr::encoder<O>,
                                     insula::neuro_simclr::volume<O>>;

template <class O, class Optimizer>
class simclr_run
    : public pretraining_run<simclr_system<O>, insula::simclr_trainer<simclr_system<O>, Optimizer>> {
 public:
  using base = pretraining_run<simclr_system<O>, insula::simclr_trainer<simclr_system<O>, Optimizer>>;

  simclr_run(settings const& s, pretraining_data const& data, simclr_system<O>& system)
      : base(s, data, O::crop, system, optimisation(s, data), optimizer(s)) {}

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
  static constexpr bool is_lars = std::is_same_v<Optimizer, insula::lars<float>>;

  static insula::simclr_options optimisation(settings const& s, pretraining_data const& data) {
    insula::simclr_options o;
    o.clip = s.clip;
    if constexpr (is_lars) {
      insula::index_t const epoch = data.steps_per_epoch();
      insula::epoch_cosine const cosine{.peak = s.rate > 0 ? s.rate : insula::rate_of_batch(0.3, s.batch),
                                        .warm_up = 0,
                                        .epochs = double((s.steps + epoch - 1) / epoch)};
      o.rate = [=](insula::index_t t) { return cosine.at(double(t / epoch)); };
    } else {
      o.rate = [rate = s.rate](insula::index_t) { return rate; };
    }
    return o;
  }
  static Optimizer optimizer(settings const& s) {
    using system = simclr_system<O>;
    if constexpr (is_lars)
      return Optimizer(
          system::size, insula::tensors_of(system::places(), insula::tensor_kind::weight),
          {.rule = s.rule == "lars" ? insula::lars_rule::published : insula::lars_rule::corrected});
    else
      return Optimizer(system::size);
  }
};

template <class O>
int pretrain_simclr(settings const& s) {
  return pretrain(s, O::crop,
                  [](settings const& settled, pretraining_data const& data, auto& cx, auto train) {
                    simclr_system<O> system(cx);
                    system.loss.temperature = settled.temperature;
                    bool const evaluates = insula::index_t(data.held_out().size()) >= settled.batch;
                    auto const with = [&]<class Optimizer>(std::type_identity<Optimizer>) {
                      simclr_run<O, Optimizer> run(settled, data, system);
                      return train(run, evaluates);
                    };
                    return settled.rule == "adam" ? with(std::type_identity<insula::adam<float>>{})
                                                  : with(std::type_identity<insula::lars<float>>{});
                  });
}
