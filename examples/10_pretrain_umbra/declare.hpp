// SPDX-License-Identifier: Apache-2.0
// Names, meanings and ranges of the settings, for files, overrides and --print-config.
#pragma once

#include "insula/io/fixed_settings.hpp"
#include "settings.hpp"

/// Declares every setting once: names in files and overrides, meaning, range, and which may differ when a run goes on: where
/// things are, how often something is told or saved, and how many threads work. The scans themselves are compared by their
/// names (umbra_data::identity).
inline void declare(insula::config& c, settings& s) {
  c.add("data", s.data, "folder (FOMO, UMBRA or BIDS layout), .csv/.tsv table or .json datalist of the scans",
        {.required = true, .may_change = true});
  c.add("out", s.out, "folder of the run, created if missing", {.required = true, .may_change = true});
  c.add("mode", s.mode,
        "mim: masked modelling; cl, mcl: contrast of one scan or of two contrasts; +mim: both",
        {.choices = {"mim", "cl", "mcl", "cl+mim", "mcl+mim"}});
  c.add("model", s.model, "network: small, or paper with the published sizes",
        {.choices = {"small", "paper"}});
  c.add("steps", s.steps, "optimiser steps; 0: 200 for small, 200000 for paper", {.at_least = 0});
  c.add("batch", s.batch, "pairs (or volumes) per micro-batch", {.at_least = 1, .at_most = 4096});
  c.add("mae_batch", s.mae_batch, "single volumes per micro-batch beside the pairs; 0: as batch",
        {.at_least = 0});
  c.add("accumulate", s.accumulate, "micro-batches per optimiser step", {.at_least = 1});
  c.add("threads", s.threads, "compute threads; 0: all usable cores",
        {.at_least = 0, .at_most = 1024, .may_change = true});
  c.add("loaders", s.loaders, "threads that make batches; 0: none, batches are made in between",
        {.at_least = 0, .may_change = true});
  c.add("init", s.init,
        "weights to start from, a published checkpoint or one of this program; a report tells what matched",
        {.may_change = true});
  c.add("init_partial", s.init_partial, "start although tensors of init are missing or do not fit",
        {.may_change = true});
  c.add(
      "best_by", s.best_by,
      "metric that ranks checkpoints at evaluations: the best stays beside the newest; empty: none",
      {.choices = {"", "val/reconstruction", "val/cross_modality", "val/cross_subject"}, .may_change = true});
  c.add("seed", s.seed, "of weights, order, augmentation and masks");
  c.add("resume", s.resume, "go on from the last checkpoint in out", {.may_change = true});
  c.add("quiet", s.quiet, "no progress lines", {.may_change = true});
  c.add("held_out", s.held_out, "share of subjects kept for evaluation", {.at_least = 0, .below = 1});
  c.add("split", s.split, "split.tsv of an earlier run to use again; empty: drawn as published, seed 42",
        {.may_change = true});
  c.add("bad_files", s.bad_files, "files that cannot be used are left out (skip) or end the run (refuse)",
        {.choices = {"skip", "refuse"}, .may_change = true});
  c.add("cache", s.cache, "preprocessed volumes: memory, or a folder for a memory-mapped cache",
        {.may_change = true});
  c.add("spacing", s.spacing, "voxel edge in mm after preprocessing; 0 keeps the file's",
        {.at_least = 0, .at_most = 20});
  c.add("compare", s.compare, "folder of another run, whose numbers stand beside this one's in the report",
        {.may_change = true});
  c.add("also", s.also,
        "folder of further scans that are only evaluated, real ones for a run on virtual subjects",
        {.may_change = true});
  c.add("checkpoint_every", s.checkpoint_every, "steps between checkpoints",
        {.at_least = 0, .may_change = true});
  c.add("keep", s.keep, "checkpoints kept besides the best", {.at_least = 1, .may_change = true});
  c.add("log_every", s.log_every, "steps between rows of metrics", {.at_least = 1, .may_change = true});
  c.add("evaluate_every", s.evaluate_every,
        "steps between evaluations on held-out subjects; 0: only at the end",
        {.at_least = 0, .may_change = true});
  c.add("snapshot_every", s.snapshot_every, "steps between pictures of reconstructions; 0: only at the end",
        {.at_least = 0, .may_change = true});
  c.add("rank_every", s.rank_every, "steps between effective ranks of the queue; 0: never",
        {.at_least = 0, .may_change = true});
  c.add("optim.rate", s.rate, "peak learning rate", {.above = 0, .at_most = 10});
  c.add("optim.minimum", s.rate_minimum, "learning rate at the end", {.at_least = 0});
  c.add("optim.warm_up", s.warm_up, "share of the steps with rising rate", {.at_least = 0, .below = 1});
  c.add("optim.decay", s.decay, "decoupled weight decay", {.at_least = 0});
  c.add("optim.clip", s.clip, "largest global gradient norm; 0: no clipping", {.at_least = 0});
  insula::umbra_recipe::fields(s.recipe, [&](char const* name, auto& field) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(field)>, double>)
      c.add(insula::text("augment.", name), field, "augmentation as published; see insula::umbra_recipe",
            {.at_least = 0});
  });
  c.add("ssl.mask_low", s.mask_low, "smallest share of masked cells", {.above = 0, .at_most = 1});
  c.add("ssl.mask_high", s.mask_high, "largest share of masked cells", {.above = 0, .at_most = 1});
  c.add("ssl.alpha_start", s.alpha_start,
        "weight of the contrastive beside the masked term, up to 5 % of the steps", {.at_least = 0});
  c.add("ssl.alpha_end", s.alpha_end, "from 10 % of the steps on", {.at_least = 0});
  c.add("ssl.momentum_start", s.momentum_start, "of the momentum encoder, up to 5 % of the steps",
        {.at_least = 0, .at_most = 1});
  c.add("ssl.momentum_end", s.momentum_end, "from 20 % of the steps on", {.at_least = 0, .at_most = 1});
}
