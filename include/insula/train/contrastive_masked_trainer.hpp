// SPDX-License-Identifier: Apache-2.0
// Training of a contrastive_masked system: schedules, accumulation, clipping, AdamW, and its checkpoint.
#pragma once

#include <cmath>
#include <functional>
#include <string>

#include "insula/eval/effective_rank.hpp"
#include "insula/optim/adamw.hpp"
#include "insula/optim/clip.hpp"
#include "insula/optim/schedule.hpp"
#include "insula/ssl/contrastive_masked.hpp"
#include "insula/train/pretraining_batch.hpp"
#include "insula/train/step_result.hpp"
#include "insula/train/weights_io.hpp"

namespace insula {

/// Settings of the optimisation; the defaults are UMBRA's (pretrain.py, models/foundation.py).
struct contrastive_masked_options {
  index_t steps = 200000;  ///< optimiser steps; schedules are relative to it
  int accumulate = 1;      ///< micro-batches per optimiser step
  warmup_cosine rate{};    ///< `total` is set to steps
  double decay = 0.01, clip = 10;
  double momentum_start = 0.996, momentum_end = 0.999;  ///< linear between 5 % and 20 % of the steps
  double alpha_start = 0.1, alpha_end = 1.0;  ///< contrastive weight beside the masked term, 5 % to 10 %
  index_t rank_every = 0;                     ///< steps between effective ranks of the queue; 0: never
  std::uint64_t seed = 42;
};

/// System is a contrastive_masked<...>; batches come from a source.
template <class System>
class contrastive_masked_trainer {
 public:
  /// Gives the next micro-batch, valid until the next call, and adds the seconds it waited to its argument.
  using source = std::function<pretraining_batch const&(double& waited)>;

  contrastive_masked_trainer(System& system, contrastive_masked_options o, source next)
      : system_(system),
        o_(o),
        next_(std::move(next)),
        optimizer_(System::size, groups(system.on(), o.decay)) {
    check(o.steps >= 1, "trainer: steps is ", o.steps, ", it must be at least 1");
    check(o.accumulate >= 1, "trainer: accumulate is ", o.accumulate, ", it must be at least 1");
    o_.rate.total = o.steps;
  }

  /// Optimiser step t: accumulates gradients over the micro-batches, clips, updates. Throws error naming the first tensor if
  /// a loss or the gradient is not finite; weights are then those of the step before.
  step_result train_step(index_t t) {
    double const alpha = schedule(o_.alpha_start, o_.alpha_end, 0.05, 0.10).at(t);
    double const m = schedule(o_.momentum_start, o_.momentum_end, 0.05, 0.20).at(t);
    step_result r;
    system_.clear_gradients();
    sums s;
    for (int a = 0; a < o_.accumulate; ++a) {
      pretraining_batch const& b = next_(r.data_wait);
      auto const micro = std::uint64_t(t) * std::uint64_t(o_.accumulate) + std::uint64_t(a);
      auto const l = system_.micro_batch(pairs_of(b), singles_of(b), alpha, m,
                                         {o_.seed, mix(0x3a5c, micro), 0}, 1.0 / o_.accumulate);
      s.add(l);
      r.samples += b.pairs + b.singles;
    }
    double const norm = l2_norm(system_.run_context(), system_.g(), System::size);
    if (!std::isfinite(norm) || !std::isfinite(s.total)) explain(t, s.total);
    double const rate = o_.rate.at(t);
    optimizer_.step(system_.run_context(), system_.g(), system_.w(), rate, clip_factor(norm, o_.clip));
    report(r, s, t, norm, rate, m, alpha);
    steps_ = t + 1;
    return r;
  }
  index_t step_count() const { return steps_; }

  /// Weights in the published names (model., encoder_m., projection., projection_m., queue...), optimiser, counters.
  void save(safetensors_writer& w, state_map& state) {
    add_tensors<float>(w, System::autoencoder_places(), system_.w(), "model.");
    if (system_.on().contrastive) {
      add_tensors<float>(w, System::projection_places(), system_.w(), "projection.");
      add_tensors<float>(w, momentum_body(), system_.momentum().data(), "encoder_m.");
      add_tensors<float>(w, momentum_head(), system_.momentum().data(), "projection_m.");
      add_queue(w);
    }
    add_optimizer(w, state, all_places(), optimizer_);
    state["steps"] = text(steps_);
  }
  void load(safetensors_file const& file, state_map const& state) {
    restore_tensors<float>(file, System::autoencoder_places(), system_.w(), "model.");
    if (system_.on().contrastive) {
      restore_tensors<float>(file, System::projection_places(), system_.w(), "projection.");
      restore_tensors<float>(file, momentum_body(), system_.momentum().data(), "encoder_m.");
      restore_tensors<float>(file, momentum_head(), system_.momentum().data(), "projection_m.");
      restore_queue(file);
    }
    restore_optimizer(file, state, all_places(), optimizer_);
    steps_ = state_integer(state, "steps");
  }

  static pair_batch<float> pairs_of(pretraining_batch const& b) {
    return {b.pairs,         b.view1.data(),   b.view2.data(),  b.recon1.data(),
            b.recon2.data(), b.patient.data(), b.session.data()};
  }
  static single_batch<float> singles_of(pretraining_batch const& b) {
    return {b.singles, b.volume.data(), b.recon.data()};
  }
  /// Names of all trained tensors: the autoencoder's, then "projection." before the head's.
  static std::vector<tensor_place> all_places() {
    auto places = System::autoencoder_places();
    for (auto p : System::projection_places())
      p.name = "projection." + p.name, places.push_back(std::move(p));
    return places;
  }

 private:
  struct sums {
    double total = 0, contrastive = 0, pairs = 0, single = 0, negatives = 0;
    int contrastive_count = 0, pairs_count = 0, single_count = 0, count = 0;
    void add(contrastive_masked_losses const& l) {
      total += l.total, ++count;
      if (!std::isnan(l.negatives))
        contrastive += l.contrastive, negatives += l.negatives, ++contrastive_count;
      if (!std::isnan(l.masked_pairs)) pairs += l.masked_pairs, ++pairs_count;
      if (!std::isnan(l.masked_single)) single += l.masked_single, ++single_count;
    }
  };

  /// Parameters that an objective never reaches get no update, decay included: without the masked term the decoder, the head
  /// and the mask token; without the contrastive term the projection.
  static std::vector<parameter_group> groups(objectives on, double decay) {
    std::vector<parameter_group> g;
    if (on.masked) {
      g.push_back({0, on.contrastive ? System::size : System::autoencoder::weights, decay});
      return g;
    }
    index_t from = 0;
    for (auto const& t : System::autoencoder_places()) {
      if (t.offset >= System::encoder::weights) break;
      if (!t.name.ends_with("mask_token")) continue;
      g.push_back({from, t.offset - from, decay});
      from = t.offset + aligned(t.size());
    }
    g.push_back({from, System::encoder::weights - from, decay});
    g.push_back({System::autoencoder::weights, System::head::weights, decay});
    return g;
  }
  ramp schedule(double v0, double v1, double a, double b) const { return {a, b, v0, v1, o_.steps}; }

  void report(step_result& r, sums const& s, index_t t, double norm, double rate, double m, double alpha) {
    r.add("train/loss", s.total / s.count);
    if (s.contrastive_count > 0) {
      r.add("train/contrastive_loss", s.contrastive / s.contrastive_count);
      r.add("debug/mean_negatives", s.negatives / s.contrastive_count);
    }
    if (s.pairs_count > 0) r.add("train/mae_loss", s.pairs / s.pairs_count);
    if (s.single_count > 0) r.add("train/mae_loss_only", s.single / s.single_count);
    r.add("train/grad_norm", norm * clip_factor(norm, o_.clip));
    r.add("train/lr", rate);
    if (system_.on().contrastive) {
      r.add("train/momentum", m);
      if (system_.on().masked) r.add("train/loss_weight", alpha);
      if (o_.rank_every > 0 && t % o_.rank_every == 0) r.add("train/effective_rank", queue_rank());
    }
  }
  double queue_rank() {  // as the published code: features are rows, keys are columns
    auto const& q = system_.keys();
    std::vector<float> x(std::size_t(q.length * q.width));
    for (index_t j = 0; j < q.length; ++j)
      for (index_t i = 0; i < q.width; ++i) x[std::size_t(i * q.length + j)] = q.keys()[j * q.width + i];
    return effective_rank(x.data(), q.width, q.length);
  }
  [[noreturn]] void explain(index_t t, double loss) {
    std::string where = first_not_finite(all_places(), system_.g());
    if (where.empty()) where = first_not_finite(all_places(), static_cast<float const*>(system_.w()));
    fail("training step ", t, ": the loss is ", loss, where.empty() ? "" : " and the first bad value is ",
         where, ": lower the learning rate or look at the data; weights and optimiser are those of step ", t);
  }

  static std::vector<tensor_place> momentum_body() {
    std::vector<tensor_place> places;
    for (auto t : System::autoencoder_places())
      if (t.offset < System::encoder::weights) {
        std::string const prefix = "encoder.";
        if (t.name.starts_with(prefix)) t.name.erase(0, prefix.size());
        places.push_back(std::move(t));
      }
    return places;
  }
  static std::vector<tensor_place> momentum_head() {
    auto places = System::projection_places();
    for (auto& t : places) t.offset += System::encoder::weights - System::autoencoder::weights;
    return places;
  }
  void add_queue(safetensors_writer& w) {
    auto& q = system_.keys();
    index_t const n = q.length, width = q.width;
    w.add("queue", dtype::f32, {width, n}, [&q, n, width](std::size_t first, std::span<std::byte> out) {
      auto* v = reinterpret_cast<float*>(out.data());
      for (std::size_t k = 0; k < out.size() / sizeof(float); ++k) {
        index_t const i = index_t(first / sizeof(float) + k);
        v[k] = q.keys()[i % n * width + i / n];
      }
    });
    w.add("queue_ptr", dtype::i64, {1}, [&q](std::size_t, std::span<std::byte> out) {
      std::int64_t const next = q.next();
      std::memcpy(out.data(), &next, out.size());
    });
    w.add("queue_metadata", dtype::i64, {n, 2}, [&q](std::size_t first, std::span<std::byte> out) {
      auto* v = reinterpret_cast<std::int64_t*>(out.data());
      for (std::size_t k = 0; k < out.size() / sizeof(std::int64_t); ++k) {
        std::size_t const i = first / sizeof(std::int64_t) + k;
        v[k] = i % 2 ? q.sessions()[i / 2] : q.patients()[i / 2];
      }
    });
  }
  void restore_queue(safetensors_file const& file) {
    auto& q = system_.keys();
    index_t const n = q.length, width = q.width;
    std::vector<float> keys(std::size_t(n * width));
    std::vector<std::int64_t> metadata(std::size_t(2 * n)), next(1);
    restore_values<float>(file, "queue", keys);
    restore_values<std::int64_t>(file, "queue_metadata", metadata);
    restore_values<std::int64_t>(file, "queue_ptr", next);
    for (index_t j = 0; j < n; ++j) {
      for (index_t i = 0; i < width; ++i) q.keys()[j * width + i] = keys[std::size_t(i * n + j)];
      q.patients()[j] = metadata[std::size_t(2 * j)], q.sessions()[j] = metadata[std::size_t(2 * j + 1)];
    }
    q.move_to(next[0]);
  }

  System& system_;
  contrastive_masked_options o_;
  source next_;
  adamw<float> optimizer_;
  index_t steps_ = 0;
};

}  // namespace insula
