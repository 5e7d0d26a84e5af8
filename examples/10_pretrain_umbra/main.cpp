// SPDX-License-Identifier: Apache-2.0
// Pretrains UMBRA from a folder of brain scans:
//   10_pretrain_umbra --data cohort --out run --mode mcl+mim --config small --steps 200
// Exit status: 0 done; 1 an error; 2 wrong usage; 75 stopped by SIGTERM or SIGUSR1 after saving; 130 by SIGINT.
#include "declare.hpp"
#include "program/command_line.hpp"

int main(int argc, char** argv) {
  settings s;
  insula::config c("10_pretrain_umbra",
                   "Pretrains UMBRA: contrastive learning and masked image modelling of brain MRI.");
  declare(c, s);
  program::commands p{"10_pretrain_umbra", "Pretrains UMBRA from a folder of brain scans."};
  for (char const* key :
       {"data", "mode", "steps", "batch", "threads", "seed", "out", "compare", "also", "cache", "init"})
    p.flags.push_back({key});
  p.complete = [&] {
    if (s.steps == 0) c.set(s.model == "paper" ? "steps=200000" : "steps=200");
    insula::check(s.mask_low <= s.mask_high, "ssl.mask_low is ", s.mask_low, ", above ssl.mask_high ",
                  s.mask_high);
  };
  p.run = [&] {
    program::record(c, s);
    return pretrain(s);
  };
  return program::main(argc, argv, c, p);
}
