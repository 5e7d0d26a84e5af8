// SPDX-License-Identifier: Apache-2.0
// One pretraining run of UMBRA for one network configuration.
#pragma once

#include <cstdio>
#include <filesystem>

#include "evaluate.hpp"
#include "insula/cpu.hpp"
#include "insula/data/loader.hpp"
#include "insula/train/contrastive_masked_trainer.hpp"
#include "insula/train/embeddings_io.hpp"
#include "insula/train/montage.hpp"
#include "insula/train/published_weights.hpp"
#include "insula/train/run.hpp"
#include "insula/zoo/umbra.hpp"
#include "results.hpp"

/// System, data, optimisation and pictures together: what run_training() asks for.
template <class O>
class umbra_run {
 public:
  using system_type =
      insula::contrastive_masked<insula::umbra::autoencoder<O>, insula::umbra::encoder<O>,
                                 insula::umbra::projection<O>, insula::umbra::crop<O>, O::queue_length>;
  using trainer_type = insula::contrastive_masked_trainer<system_type>;
  using batches = insula::loader<insula::pretraining_batch>;

  umbra_run(settings const& s, insula::context<insula::cpu>& cx)
      : s_(s),
        data_(s, O::crop, cx.pool),
        system_(cx, {s.contrastive(), s.masked()},
                {insula::cube(O::crop), insula::cube(2), O::mask_downsamples},
                std::max(s.batch, s.mae_batch)),
        trainer_(system_, optimisation(s),
                 [this](double& waited) -> insula::pretraining_batch const& { return next(waited); }) {
    system_.ratio = {s.mask_low, s.mask_high};
    system_.initialise(s.seed);
    if (!s.init.empty()) start_from(s.init);
  }

  insula::step_result train_step(insula::index_t t) { return trainer_.train_step(t); }
  insula::index_t step_count() const { return trainer_.step_count(); }
  insula::step_result evaluate(insula::index_t) {
    auto const j = judged(data_.held_out());
    insula::step_result r;
    if (j.cross_modality) r.add("val/cross_modality", j.cross_modality->mean);
    if (j.cross_subject) r.add("val/cross_subject", j.cross_subject->mean);
    if (j.reconstruction) r.add("val/reconstruction", *j.reconstruction);
    return r;
  }
  void snapshot(insula::index_t t, insula::run_log& log) {
    if (!s_.masked()) return;
    auto const& set = data_.held_out().scans.empty() ? data_.training() : data_.held_out();
    insula::umbra_recipe recipe;
    recipe.crop = O::crop;
    std::vector<float> out(static_cast<std::size_t>(insula::umbra::crop<O>::size));
    for (std::size_t i = 0; i < std::min<std::size_t>(3, set.scans.size()); ++i) {
      auto const x = insula::umbra_mae_validation(data_.read(set.scans[i]), recipe);
      system_.masks().draw(system_.ratio, {s_.seed, insula::mix(0xe1, i), 9});
      system_.reconstruct(x.view.voxels.data(), 1, system_.masks().tokens(), out.data());
      auto const p = insula::reconstruction_montage(insula::cube(O::crop), x.view.voxels.data(),
                                                    system_.masks().voxels(), out.data(),
                                                    {.scale = std::max<insula::index_t>(1, 128 / O::crop)});
      log.image(insula::text("reconstruction/", set.scans[i].sequence, "_", i + 1), p.view(), t);
    }
  }
  void save(insula::safetensors_writer& w, insula::state_map& state) {
    trainer_.save(w, state);
    state["settings"] = s_.fixed;
    state["preprocessing"] = preprocessing_json(s_);
    state["batches"] = insula::text(trainer_.step_count() * s_.accumulate);
    state["data"] = data_.identity();
  }
  void load(insula::safetensors_file const& file, insula::state_map const& state) {
    require_preprocessing(insula::state_text(state, "preprocessing"), s_);
    s_.require_fixed(insula::state_text(state, "settings"), file.path());
    auto const& then = insula::state_text(state, "data");
    insula::check(then == data_.identity(), file.path(), ": the checkpoint was trained on ", then,
                  "; this run has ", data_.identity(),
                  ": resume with the scans of the first run, see its manifest.tsv and split.tsv");
    trainer_.load(file, state);
  }
  std::string first_not_finite() {
    return insula::first_not_finite(trainer_type::all_places(), static_cast<float const*>(system_.g()));
  }

  judgement judged(insula::manifest const& set) {
    return judge(
        system_, [&](insula::scan const& scan) { return data_.read(scan); }, set, O::crop, s_.masked(), s_);
  }
  /// Of a folder that the run does not train on.
  judgement judged(std::string const& folder) {
    scan_set const set(s_, folder);
    return judge(
        system_, [&](insula::scan const& scan) { return set.read(scan); }, set.scans, O::crop, s_.masked(),
        s_);
  }
  umbra_data const& data() const { return data_; }
  system_type& system() { return system_; }

 private:
  /// Published checkpoints, torch or safetensors, and those of this program: the autoencoder, and the projection if there.
  void start_from(std::string const& path) {
    insula::weights_file const file(path);
    auto names = insula::umbra_checkpoint();
    names.ignored.push_back("optimizer.");
    names.strict = !s_.init_partial;
    auto const told = [&](char const* what, insula::mapping const& m) {
      if (!s_.quiet)
        std::fprintf(stderr, "%s: %s: %s\n", path.c_str(), what,
                     (m.complete() ? m.summary() : m.report()).c_str());
    };
    told("autoencoder",
         insula::load_tensors(file, system_type::autoencoder_places(), system_.w(), "", names));
    if (!s_.contrastive()) return;
    bool const projection = std::any_of(file.tensors().begin(), file.tensors().end(),
                                        [](auto const& t) { return t.name.starts_with("projection."); });
    auto exactly = insula::same_names();
    exactly.strict = names.strict;
    if (projection)
      told("projection",
           insula::load_tensors(file, system_type::projection_places(), system_.w(), "projection.", exactly));
    system_.start_momentum();
  }
  static insula::contrastive_masked_options optimisation(settings const& s) {
    insula::contrastive_masked_options o;
    o.steps = s.steps, o.accumulate = s.accumulate, o.decay = s.decay, o.clip = s.clip, o.seed = s.seed;
    o.rate = {.peak = s.rate, .minimum = s.rate_minimum, .warm_up = s.warm_up};
    o.alpha_start = s.alpha_start, o.alpha_end = s.alpha_end;
    o.momentum_start = s.momentum_start, o.momentum_end = s.momentum_end, o.rank_every = s.rank_every;
    return o;
  }
  /// The loader starts with the first batch asked for, so a resumed run goes on where the checkpoint was made.
  insula::pretraining_batch const& next(double& waited) {
    if (!batches_)
      batches_ = std::make_unique<batches>(
          [this](insula::index_t i, insula::pretraining_batch& b) { data_.make(i, b); },
          insula::loader_options{
              .threads = s_.loaders, .depth = 3, .first = trainer_.step_count() * s_.accumulate});
    double const before = batches_->waited();
    auto const& b = batches_->next();
    waited += batches_->waited() - before;
    return b;
  }

  settings s_;
  umbra_data data_;
  system_type system_;
  trainer_type trainer_;
  std::unique_ptr<batches> batches_;
};

inline std::vector<std::string> row_of(std::string const& name, judgement const& j) {
  return {name,
          with_spread(j.cross_modality),
          with_spread(j.cross_subject),
          number(j.reconstruction, 3),
          insula::text(j.subjects),
          insula::text(j.scans)};
}

/// Exit status of the run.
template <class O>
int pretrain(settings s) {
  int const threads = s.threads > 0 ? s.threads : insula::usable_threads();
  insula::context<insula::cpu> cx(threads);
  std::filesystem::create_directories(s.out);
  if (!s.quiet)
    std::fprintf(stderr, "%s, mode %s: %lld weights, a step needs %.0f MB besides the process\n",
                 s.model.c_str(), s.mode.c_str(),
                 static_cast<long long>(umbra_run<O>::system_type::autoencoder::parameters),
                 double(umbra_run<O>::system_type::bytes({s.contrastive(), s.masked()}, s.batch) +
                        2 * insula::index_t(sizeof(float)) * umbra_run<O>::system_type::size) /
                     1e6);
  umbra_run<O> run(s, cx);
  if (!s.quiet) std::fprintf(stderr, "%s\n", run.data().described().c_str());
  s.save_resolved();
  run.data().write_records();
  judgement before;
  if (!run.data().held_out().scans.empty()) before = run.judged(run.data().held_out());
  insula::run_options o;
  o.out = s.out, o.resume = s.resume, o.title = "UMBRA pretraining: " + s.mode + ", " + s.model;
  o.loop.steps = s.steps, o.loop.checkpoint_every = s.checkpoint_every, o.loop.log_every = s.log_every;
  o.loop.evaluate_every = s.evaluate_every > 0 ? s.evaluate_every : s.steps;
  o.loop.snapshot_every = s.snapshot_every > 0 ? s.snapshot_every : s.steps;
  if (run.data().held_out().scans.empty()) o.loop.evaluate_every = 0;
  o.checkpoints.keep = int(s.keep);
  if (!s.best_by.empty()) {
    insula::check(o.loop.evaluate_every > 0, "best_by is ", s.best_by,
                  ", but no subject is held out to evaluate");
    o.loop.score = s.best_by;
    o.checkpoints.larger_is_better = s.best_by == "val/cross_subject";
  }
  o.environment.threads = threads, o.environment.kernels = insula::simd::instruction_set;
  o.console.quiet = s.quiet;
  int const code = insula::run_training(run, o);
  if (code != 0) return code;
  table_rows rows;
  auto const finish = [&](std::string const& of, judgement const& j, char const* file) {
    rows.push_back(row_of(s.mode + ", " + of, j));
    insula::write_embeddings(s.out + "/" + file, j.embeddings);
  };
  if (!run.data().held_out().scans.empty()) {
    rows.push_back(row_of(s.mode + ", untrained, held-out subjects", before));
    finish("held-out subjects", run.judged(run.data().held_out()), "embeddings_held_out");
  }
  if (!s.also.empty()) finish("scans of " + s.also, run.judged(s.also), "embeddings_also");
  write_results(s, rows);
  return 0;
}
