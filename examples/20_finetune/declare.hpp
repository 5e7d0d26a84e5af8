// SPDX-License-Identifier: Apache-2.0
// Names, meanings and ranges of the settings, for files, overrides and --print-config.
#pragma once

#include "settings.hpp"

inline void declare(insula::config& c, settings& s) {
  c.add("data", s.scans.data,
        "table of all labelled scans, to be split by patient; or give train, validation and test",
        {.may_change = true});
  c.add("train", s.train, "table of the scans to train on", {.may_change = true});
  c.add("validation", s.validation, "table of the scans that choose the epoch", {.may_change = true});
  c.add("test", s.test, "table of the scans that are reported", {.may_change = true});
  c.add("out", s.out, "folder of the run, created if missing", {.required = true, .may_change = true});
  c.add("label", s.label, "column of the targets: 0 and 1, or numbers");
  c.add("task", s.task, "what is predicted", {.choices = {"classification", "regression"}});
  c.add("method", s.method,
        "finetune: everything learns; probe: only the head; scratch: without pretrained weights",
        {.choices = {"finetune", "probe", "scratch"}});
  c.add("network", s.network, "architecture of the encoder", {.choices = {"resnet", "vit"}});
  c.add("model", s.model,
        "its size: small, or paper with the published sizes (vit: ViT-Tiny; -base and -large: ViT-Base, "
        "-Large)",
        {.choices = {"small", "paper", "paper-base", "paper-large"}});
  c.add(
      "init", s.init,
      "pretrained encoder: a checkpoint of 12_pretrain_simclr, or a published .tar, .pt or .safetensors file",
      {.may_change = true});
  c.add("init_partial", s.init_partial, "start although tensors of the encoder are missing or do not fit");
  c.add(
      "probe_norm", s.probe_norm,
      "batch norms of a probed encoder: moving (as published: batch statistics, running ones move) or fixed",
      {.choices = {"moving", "fixed"}});
  c.add("augment", s.augment,
        "published: as the paper for this method; none; supervised: that of the paper's baselines",
        {.choices = {"published", "none", "supervised"}});
  program::declare(c, s.scans);
  c.add("split.validation", s.part_validation, "of `data`: share of patients that choose the epoch",
        {.at_least = 0, .below = 1});
  c.add("split.test", s.part_test, "of `data`: share of patients that are reported",
        {.at_least = 0, .below = 1});
  c.add("split.seed", s.split_seed, "of the split, the folds and the fractions");
  c.add("folds", s.folds, "of `data`: k-fold cross-validation over patients; 0: one split",
        {.at_least = 0, .at_most = 1000});
  c.add("fractions", s.fractions, "shares of the training patients to train on, one result each");
  c.add("seeds", s.seeds, "trainings per result, with seeds 0, 1, ...", {.at_least = 1, .at_most = 1000});
  c.add("epochs", s.epochs, "0: as the paper: 100, from scratch 300", {.at_least = 0});
  c.add("patience", s.patience,
        "epochs without a better validation score after which a training ends; 0: never", {.at_least = 0});
  c.add("batch", s.batch, "scans per step; the last, smaller batch of an epoch is dropped",
        {.at_least = 1, .at_most = 4096});
  c.add("standardise", s.standardise,
        "regression: train on targets with mean 0 and deviation 1, report in their units");
  c.add("threads", s.threads, "compute threads; 0: all usable cores",
        {.at_least = 0, .at_most = 1024, .may_change = true});
  c.add("loaders", s.loaders, "threads that make batches; 0: none", {.at_least = 0, .may_change = true});
  c.add("resume", s.resume, "go on: finished trainings are kept, the others continue", {.may_change = true});
  c.add("quiet", s.quiet, "no progress lines", {.may_change = true});
  c.add("log_every", s.log_every, "steps between rows of metrics", {.at_least = 1, .may_change = true});
  c.add("bootstrap", s.replicates, "replicates of the confidence intervals",
        {.at_least = 100, .may_change = true});
  c.add("name", s.name, "of this run's row in tables; empty: method and network", {.may_change = true});
  c.add("target", s.target, "of this run's column in tables; empty: the label's column",
        {.may_change = true});
  c.add("compare", s.compare, "folders of other runs, whose numbers stand beside this one's",
        {.may_change = true});
  c.add("optim.rule", s.optimizer, "optimiser", {.choices = {"adam", "adamw"}});
  c.add("optim.rate", s.rate, "learning rate, or its peak", {.above = 0, .at_most = 10});
  c.add("optim.cosine", s.cosine, "let the rate fall along a cosine, in place of a constant one");
  c.add("optim.minimum", s.rate_minimum, "of the cosine", {.at_least = 0});
  c.add("optim.warm_up", s.warm_up, "of the cosine: epochs with rising rate", {.at_least = 0});
  c.add("optim.decay", s.decay, "of adamw: decoupled weight decay", {.at_least = 0});
  c.add("optim.layer_decay", s.layer_decay,
        "of vit: factor of the rate from block to block, downwards; 1: none", {.above = 0, .at_most = 1});
  c.add("optim.clip", s.clip, "largest global gradient norm; 0: no clipping", {.at_least = 0});
  c.add("optim.drop_path", s.drop_path, "of vit: rate of dropped paths in the last block",
        {.at_least = 0, .below = 1});
}

/// Throws error for settings that do not go together.
inline void check_settings(settings const& s) {
  bool const tables = !s.train.empty() || !s.validation.empty() || !s.test.empty();
  insula::check(tables != !s.scans.data.empty(),
                "give either data, one table that is split, or train, validation and test");
  insula::check(!tables || (!s.train.empty() && !s.test.empty()), "train and test must be given together");
  insula::check(s.folds != 1 && (s.folds == 0 || !tables), "folds is ", s.folds,
                ": it must be 0, or at least 2 with one table, data");
  insula::check(s.method != "scratch" || s.init.empty(), "method is scratch, but init is ", s.init,
                ": use --method finetune");
  insula::check(s.method == "scratch" || !s.init.empty(), "method is ", s.method,
                ", but there are no pretrained weights: give --init FILE, or use --method scratch");
  insula::check(!s.probe() || s.augment != "supervised",
                "a probe sees every volume as it is: augment must not be supervised");
  insula::check(!s.standardise || !s.classification(), "standardise is for regression");
  insula::check(s.network == "vit" || !s.model.starts_with("paper-"), "model is ", s.model,
                ": that is a size of network=vit; resnet has small and paper");
  insula::check(s.layer_decay == 1 || (s.network == "vit" && s.optimizer == "adamw"),
                "optim.layer_decay needs network=vit and optim.rule=adamw");
  insula::check(s.drop_path == 0 || s.network == "vit", "optim.drop_path needs network=vit");
  insula::check(s.decay == 0 || s.optimizer == "adamw", "optim.decay needs optim.rule=adamw");
  insula::check(!s.fractions.empty(), "fractions is empty");
  for (double const f : s.fractions)
    insula::check(f > 0 && f <= 1, "a fraction is ", f, ", it must be above 0 and at most 1");
}
