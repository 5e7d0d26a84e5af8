// SPDX-License-Identifier: Apache-2.0
// Pretrains an encoder of 3D-Neuro-SimCLR, by SimCLR or by a masked autoencoder, from a table or a folder of scans:
//   12_pretrain_simclr --data train.csv --out run --method simclr --config small
// Exit status: 0 done; 1 an error; 2 wrong usage; 75 stopped by SIGTERM or SIGUSR1 after saving; 130 by SIGINT.
#include "declare.hpp"
#include "program/command_line.hpp"

int main(int argc, char** argv) {
  settings s;
  insula::config c("12_pretrain_simclr",
                   "Pretrains an encoder of brain MRI by SimCLR or by a masked autoencoder.");
  declare(c, s);
  program::commands p{"12_pretrain_simclr",
                      "Pretrains an encoder of brain MRI by SimCLR or by a masked autoencoder."};
  for (char const* key : {"data", "out", "method", "steps", "epochs", "batch", "threads", "seed"})
    p.flags.push_back({key});
  p.configurations.insert(p.configurations.end(), {"paper-base", "paper-large"});
  p.complete = [&] {
    insula::check(s.mae() || s.batch >= 2, "batch is ", s.batch,
                  ": simclr needs at least 2 patients, or there are no negatives");
    insula::check(s.mae() || !s.model.starts_with("paper-"), "model is ", s.model,
                  ": that is a size of mae; simclr has small and paper");
    insula::check(s.mae() || s.accumulate == 1,
                  "accumulate is of mae: simclr compares the patients of one batch");
    if (s.epochs == 0) c.set(s.published() ? "epochs=150" : "epochs=30");
    insula::check(!s.mae() || s.rule == "adam", "optim.rule is ", s.rule, ": it is of simclr, mae has adamw");
    if (s.rate == 0 && s.rule == "adam" && !s.mae()) c.set("optim.rate=3e-4");
  };
  p.run = [&] {
    program::record(c, s);
    return pretrain(s);
  };
  return program::main(argc, argv, c, p);
}
