// SPDX-License-Identifier: Apache-2.0
// Training of vision transformers of one size: probes on the class token, the mean of the patches otherwise.
#pragma once

#include "insula/optim/layer_decay.hpp"
#include "insula/train/masked_autoencoder_trainer.hpp"
#include "program/vits.hpp"
#include "train.hpp"

template <class O, insula::token_feature Feature>
class vit_trainer : public trainer {
 public:
  static constexpr bool probes = Feature == insula::token_feature::class_token;
  using encoder = std::conditional_t<probes, insula::vit::class_feature<O>,
                                     insula::vit::mean_feature<insula::vit::downstream<O>>>;
  using system_type =
      insula::supervised<encoder, insula::named<"head", insula::linear<1>>, insula::vit::input<O>>;

  vit_trainer(settings const& s, labelled_data const& data, insula::context<insula::cpu>& cx)
      : s_(s),
        data_(data),
        system_(cx, s.classification() ? insula::target_kind::binary : insula::target_kind::real, use_of(s)) {
  }

  int train(job const& j, std::vector<double>& output) override {
    auto const weights = insula::tensors_of(system_type::places(), insula::tensor_kind::weight);
    system_.initialise(j.seed);
    if (s_.init.empty())
      insula::initialise(insula::vit::timm_start(weights), system_.w(), {j.seed, 0x1357});
    else
      load_encoder(system_, s_, ignored(), fresh());
    insula::index_t const from = system_.trained_from();
    std::vector<insula::tensor_place> trained;
    for (auto const& t : weights)
      if (t.offset >= from) trained.push_back(t);
    auto const groups = insula::layer_decay(trained, O::depth, s_.layer_decay, s_.decay);
    return s_.optimizer == "adam"
               ? train_and_test(s_, data_, j, system_, insula::adam<float>(system_type::size, groups), known_,
                                output)
               : train_and_test(s_, data_, j, system_, insula::adamw<float>(system_type::size, groups),
                                known_, output);
  }

 private:
  static std::vector<std::string> ignored() {
    auto names = insula::from_masked_autoencoder(Feature).ignored;
    names.push_back("head."), names.push_back("optimizer.");
    return names;
  }
  static std::vector<std::string> fresh() { return insula::from_masked_autoencoder(Feature).optional; }

  settings const& s_;
  labelled_data const& data_;
  system_type system_;
  feature_table known_;
};

template <class O>
std::unique_ptr<trainer> make_vit_of(settings const& s, labelled_data const& data,
                                     insula::context<insula::cpu>& cx) {
  if (s.probe()) return std::make_unique<vit_trainer<O, insula::token_feature::class_token>>(s, data, cx);
  return std::make_unique<vit_trainer<O, insula::token_feature::mean>>(s, data, cx);
}
