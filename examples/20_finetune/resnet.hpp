// SPDX-License-Identifier: Apache-2.0
// Training of 3D ResNets of one size.
#pragma once

#include "program/resnets.hpp"
#include "train.hpp"

template <class O>
class resnet_trainer : public trainer {
 public:
  using system_type = insula::supervised<insula::neuro_simclr::encoder<O>, insula::neuro_simclr::head<>,
                                         insula::neuro_simclr::volume<O>>;

  resnet_trainer(settings const& s, labelled_data const& data, insula::context<insula::cpu>& cx)
      : s_(s),
        data_(data),
        system_(cx, s.classification() ? insula::target_kind::binary : insula::target_kind::real, use_of(s)) {
  }

  int train(job const& j, std::vector<double>& output) override {
    system_.initialise(j.seed);
    if (!s_.init.empty()) load_encoder(system_, s_, {"projector.", "head.", "optimizer."}, {});
    insula::index_t const from = system_.trained_from();
    insula::parameter_group const group{from, system_type::size - from, s_.decay};
    if (s_.optimizer == "adam")
      return train_and_test(s_, data_, j, system_, insula::adam<float>(system_type::size, {group}), known_,
                            output);
    auto const decayed =
        insula::group_tensors(insula::tensors_of(system_type::places(), insula::tensor_kind::weight),
                              [&](insula::tensor_place const& t) {
                                using settings_of = std::optional<insula::group_settings>;
                                if (t.offset < from) return settings_of();
                                return settings_of({insula::is_vector_or_bias(t) ? 0 : s_.decay, 1});
                              });
    return train_and_test(s_, data_, j, system_, insula::adamw<float>(system_type::size, decayed), known_,
                          output);
  }

 private:
  settings const& s_;
  labelled_data const& data_;
  system_type system_;
  feature_table known_;
};
