// SPDX-License-Identifier: Apache-2.0
// One training of one type of network: start, epochs, selection by the validation, test.
#pragma once

#include <filesystem>

#include "insula/cpu.hpp"
#include "insula/data/fingerprint.hpp"
#include "insula/data/loader.hpp"
#include "insula/data/pipeline_json.hpp"
#include "insula/eval/classification.hpp"
#include "insula/eval/regression.hpp"
#include "insula/io/weights_file.hpp"
#include "insula/optim/adam.hpp"
#include "insula/optim/adamw.hpp"
#include "insula/train/run.hpp"
#include "training.hpp"

/// Features of scans under an encoder that does not change, kept for all trainings of a run.
using feature_table = std::map<insula::index_t, std::vector<float>>;

inline insula::encoder_use use_of(settings const& s) {
  return !s.probe()     ? insula::encoder_use::trained
         : s.features() ? insula::encoder_use::frozen
                        : insula::encoder_use::frozen_moving;
}

/// Fills the encoder from a file: strict unless init_partial; tells what matched. Names of other parts of published files
/// (`ignored`) are left out, and `fresh` ones start anew.
template <class System>
void load_encoder(System& system, settings const& s, std::vector<std::string> const& ignored,
                  std::vector<std::string> const& fresh) {
  insula::weights_file const file(s.init);
  bool own = false;  // a checkpoint of this library, with the optimiser's tensors beside the model's
  for (auto const& t : file.tensors()) own = own || t.name.starts_with("model.");
  insula::mapping_options names;
  names.strict = !s.init_partial, names.ignored = ignored, names.optional = fresh;
  std::erase(names.prefixes, "encoder.");
  auto const m = insula::load_network(file, System::encoder_places(), system.w(), system.state(),
                                      own ? "model." : "", names, insula::rounding::nearest);
  insula::check(!m.matched.empty(), s.init, ": none of the encoder's ", System::encoder_places().size(),
                " tensors is in this file: ", m.report());
  if (!s.quiet) std::fprintf(stderr, "%s: %s\n", s.init.c_str(), m.report(10).c_str());
}

/// What run_training() trains.
template <class System, class Optimizer>
class supervised_run {
 public:
  using trainer_type = insula::supervised_trainer<System, Optimizer>;
  using batches = insula::loader<insula::supervised_batch>;
  static constexpr insula::index_t voxels = System::input::size;

  supervised_run(settings const& s, labelled_data const& data, job const& j, System& system,
                 Optimizer optimizer, feature_table& known)
      : s_(s),
        data_(data),
        job_(j),
        system_(system),
        known_(known),
        batch_(std::min(s.batch, insula::index_t(j.parts.train.size()))),
        trainer_(system_, std::move(optimizer), optimisation(),
                 [this](double& waited) -> insula::supervised_batch const& { return next(waited); }) {
    if (s_.features())
      for (auto const* part : {&j.parts.train, &j.parts.validation, &j.parts.test}) embed(*part);
  }

  insula::index_t steps_per_epoch() const { return insula::index_t(job_.parts.train.size()) / batch_; }
  insula::step_result train_step(insula::index_t t) { return trainer_.train_step(t); }
  insula::index_t step_count() const { return trainer_.step_count(); }
  insula::step_result evaluate(insula::index_t) {
    insula::step_result r;
    double loss = 0;
    auto const y = outputs(job_.parts.validation, &loss);
    std::vector<double> label;
    for (auto const i : job_.parts.validation) label.push_back(data_.label(i));
    r.add("val/loss", loss);
    if (s_.classification()) {
      r.add("val/auc", insula::roc_auc(y, label));
      r.add("val/accuracy", insula::accuracy(insula::confusion_at(0, y, label)));
    } else {
      r.add("val/mae", insula::mean_absolute_error(y, label));
      r.add("val/mse", insula::mean_squared_error(y, label));
    }
    return r;
  }
  void save(insula::safetensors_writer& w, insula::state_map& state) {
    trainer_.save(w, state);
    state["settings"] = s_.fixed, state["data"] = identity();
    state["preprocessing"] = insula::to_json(program::preprocessing(s_.scans, spatial()));
  }
  void load(insula::safetensors_file const& file, insula::state_map const& state) {
    s_.require_fixed(insula::state_text(state, "settings"), file.path());
    insula::check(
        insula::state_text(state, "data") == identity(), file.path(),
        ": the training's scans and labels are not those of the checkpoint; resume with the same tables");
    trainer_.load(file, state);
  }

  /// Logits, or predictions in the label's units; `loss`: the mean of the means of batches, in units of training.
  std::vector<double> outputs(items const& of, double* loss = nullptr) {
    std::vector<double> all;
    double sum = 0;
    insula::index_t count = 0;
    for (std::size_t first = 0; first < of.size(); first += std::size_t(s_.batch)) {
      auto const n = std::min(of.size() - first, std::size_t(s_.batch));
      items const some(of.begin() + std::ptrdiff_t(first), of.begin() + std::ptrdiff_t(first + n));
      double batch = 0;
      for (float const o : predicted(some)) {
        double const target = wanted(some[all.size() - first]);
        batch += one_loss(double(o), target) / double(n);
        all.push_back(s_.classification() ? double(o) : double(o) * job_.deviation + job_.mean);
      }
      sum += batch, ++count;
    }
    if (loss) *loss = sum / double(count);
    return all;
  }

 private:
  static constexpr insula::extent spatial() {
    auto const in = System::input::value;
    return {in.n[1], in.n[2], in.n[3]};
  }
  double wanted(insula::index_t i) const { return (data_.label(i) - job_.mean) / job_.deviation; }
  double one_loss(double o, double y) const {
    if (!s_.classification()) return (o - y) * (o - y);
    return std::max(o, 0.0) - o * y + std::log1p(std::exp(-std::abs(o)));
  }
  std::vector<float> predicted(items const& some) {
    auto const n = insula::index_t(some.size());
    std::vector<float> y(some.size()), x;
    for (auto const i : some) append(i, nullptr, x);
    s_.features() ? system_.predict_from_features(x.data(), n, y.data())
                  : system_.predict(x.data(), n, y.data());
    return y;
  }
  /// Adds an item's volume, or its features.
  void append(insula::index_t i, insula::random_key const* key, std::vector<float>& x) const {
    if (s_.features()) {
      auto const& h = known_.at(i);
      x.insert(x.end(), h.begin(), h.end());
    } else {
      x.resize(x.size() + std::size_t(voxels));
      data_.volume(i, key, x.data() + x.size() - voxels);
    }
  }
  void embed(items const& part) {
    std::vector<float> x(static_cast<std::size_t>(voxels));
    for (auto const i : part) {
      auto const [at, fresh] = known_.try_emplace(i);
      if (!fresh) continue;
      data_.volume(i, nullptr, x.data());
      at->second.resize(std::size_t(System::width));
      system_.embed(x.data(), 1, at->second.data());
    }
  }
  /// Batch b: the training scans in a new order each epoch, without the rest that fills no batch.
  void make(insula::index_t b, insula::supervised_batch& out) const {
    insula::index_t const epoch = b / steps_per_epoch(), n = insula::index_t(job_.parts.train.size());
    insula::epoch_order order(n, {job_.seed, 0xf1, 0});
    out.count = batch_, out.features = s_.features(), out.input.clear(), out.target.clear();
    for (insula::index_t k = 0; k < batch_; ++k) {
      auto const at = order.at(epoch * n + b % steps_per_epoch() * batch_ + k);
      auto const i = job_.parts.train[std::size_t(at.item)];
      auto const key = insula::view_key(job_.seed, epoch, i, 0);
      append(i, s_.augments() ? &key : nullptr, out.input);
      out.target.push_back(float(wanted(i)));
    }
  }
  insula::supervised_batch const& next(double& waited) {
    if (!batches_)
      batches_ = std::make_unique<batches>(
          [this](insula::index_t b, insula::supervised_batch& out) { make(b, out); },
          insula::loader_options{.threads = s_.loaders, .first = trainer_.step_count()});
    double const before = batches_->waited();
    auto const& b = batches_->next();
    waited += batches_->waited() - before;
    return b;
  }
  insula::supervised_options optimisation() const {
    insula::supervised_options o;
    o.rate = s_.rate, o.clip = s_.clip, o.drop_path = s_.drop_path, o.seed = job_.seed;
    o.steps_per_epoch = steps_per_epoch();
    if (s_.cosine)
      o.schedule = {
          .peak = s_.rate, .minimum = s_.rate_minimum, .warm_up = s_.warm_up, .epochs = double(s_.epochs)};
    return o;
  }
  /// Changes with any scan's part or label.
  std::string identity() const {
    std::string all = insula::text(job_.seed, '\n');
    for (auto const* part : {&job_.parts.train, &job_.parts.validation, &job_.parts.test}) {
      for (auto const i : *part)
        all += insula::text(data_.patient(i), '\t', std::filesystem::path(data_.image(i)).filename().string(),
                            '\t', data_.label(i), '\n');
      all += '\f';
    }
    return insula::hexadecimal(insula::fingerprint(all));
  }

  settings const& s_;
  labelled_data const& data_;
  job const& job_;
  System& system_;
  feature_table& known_;
  insula::index_t batch_;
  trainer_type trainer_;
  std::unique_ptr<batches> batches_;
};

/// Runs a training and then the test with what the validation chose.
template <class System, class Optimizer>
int train_and_test(settings const& s, labelled_data const& data, job const& j, System& system,
                   Optimizer optimizer, feature_table& known, std::vector<double>& output) {
  supervised_run<System, Optimizer> run(s, data, j, system, std::move(optimizer), known);
  insula::run_options o;
  o.out = j.folder, o.resume = s.resume, o.events = false;
  o.title = insula::text(s.method, ", ", s.network, ", seed ", j.seed);
  o.loop.steps = s.epochs * run.steps_per_epoch(), o.loop.log_every = s.log_every;
  o.loop.checkpoint_every = std::max<insula::index_t>(1, s.epochs / 10) * run.steps_per_epoch();
  if (!j.parts.validation.empty()) {
    o.loop.evaluate_every = run.steps_per_epoch();
    o.loop.score = s.classification() ? "val/auc" : "val/loss";
    o.loop.patience = s.patience;
    o.checkpoints.larger_is_better = s.classification();
  }
  o.checkpoints.keep = 1;
  o.environment.threads = int(system.run_context().pool.size()),
  o.environment.kernels = insula::simd::instruction_set;
  o.console.quiet = s.quiet;
  if (int const code = insula::run_training(run, o); code != 0) return code;
  std::string const best = j.folder + "/checkpoints/" + insula::best_checkpoint;
  if (std::filesystem::exists(best)) {
    insula::safetensors_file const file(best);
    insula::restore_network(file, System::places(), system.w(), system.state());
  }
  output = run.outputs(j.parts.test);
  return 0;
}
