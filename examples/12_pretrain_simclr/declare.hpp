// SPDX-License-Identifier: Apache-2.0
// Names, meanings and ranges of the settings, for files, overrides and --print-config.
#pragma once

#include "settings.hpp"

inline void declare(insula::config& c, settings& s) {
  c.add("data", s.scans.data,
        "table with the columns image_path and mask_path, or folder (FOMO, UMBRA or BIDS layout)",
        {.required = true, .may_change = true});
  c.add("out", s.out, "folder of the run, created if missing", {.required = true, .may_change = true});
  c.add("method", s.method,
        "simclr: 3D ResNet, NT-Xent of two views; mae: masked autoencoder, 3D vision transformer",
        {.choices = {"simclr", "mae"}});
  c.add(
      "model", s.model,
      "network: small, or paper with the published sizes (mae: ViT-Tiny; -base and -large: ViT-Base, -Large)",
      {.choices = {"small", "paper", "paper-base", "paper-large"}});
  program::declare(c, s.scans);
  c.add("epochs", s.epochs, "passes over all patients; 0: 30 for small, 150 for paper", {.at_least = 0});
  c.add("steps", s.steps, "optimiser steps; 0: as many as the epochs have", {.at_least = 0});
  c.add("batch", s.batch, "patients per step; with simclr, each is compared with the others of its batch",
        {.at_least = 1, .at_most = 4096});
  c.add("accumulate", s.accumulate, "of mae: batches per optimiser step", {.at_least = 1});
  c.add("threads", s.threads, "compute threads; 0: all usable cores",
        {.at_least = 0, .at_most = 1024, .may_change = true});
  c.add("loaders", s.loaders, "threads that make batches; 0: none, batches are made in between",
        {.at_least = 0, .may_change = true});
  c.add("seed", s.seed, "of weights, order, views and masks");
  c.add("resume", s.resume, "go on from the last checkpoint in out", {.may_change = true});
  c.add("quiet", s.quiet, "no progress lines", {.may_change = true});
  c.add("held_out", s.held_out,
        "share of patients that are only evaluated; simclr needs a whole batch of them",
        {.at_least = 0, .below = 1});
  c.add("checkpoint_every", s.checkpoint_every, "steps between checkpoints",
        {.at_least = 0, .may_change = true});
  c.add("keep", s.keep, "checkpoints kept", {.at_least = 1, .may_change = true});
  c.add("log_every", s.log_every, "steps between rows of metrics", {.at_least = 1, .may_change = true});
  c.add("snapshot_every", s.snapshot_every,
        "of mae: steps between pictures of reconstructions; 0: only at the end",
        {.at_least = 0, .may_change = true});
  c.add(
      "optim.rule", s.rule,
      "of simclr: adam with a constant rate; lars as published, or corrected, with a cosine over the epochs "
      "and a decay of 1e-6 (mae: always adamw)",
      {.choices = {"adam", "lars", "lars-corrected"}});
  c.add("optim.rate", s.rate,
        "learning rate; 0: as published: simclr 3e-4, with lars 0.3 per 256 patients of a batch; mae 1.5e-4 "
        "per 256 "
        "scans of a step",
        {.at_least = 0, .at_most = 10});
  c.add("optim.warm_up", s.warm_up, "of mae: share of the steps with rising rate",
        {.at_least = 0, .below = 1});
  c.add("optim.decay", s.decay, "of mae: decoupled weight decay", {.at_least = 0});
  c.add("ssl.temperature", s.temperature, "of simclr", {.above = 0, .at_most = 100});
  c.add("ssl.mask_ratio", s.mask_ratio, "of mae: share of patches that the encoder does not see",
        {.above = 0, .below = 1});
  c.add("ssl.normalise_patches", s.normalise_patches, "of mae: targets are normalised patch by patch");
  insula::simclr_recipe::fields(s.recipe, [&](char const* name, auto& field) {
    if (std::string(name).starts_with("out_")) return;  // the network's grid
    c.add(insula::text("augment.", name), field,
          "as insula::simclr_recipe has it; -1: as published for the method");
  });
}
