// SPDX-License-Identifier: Apache-2.0
// Fine-tunes, probes or trains from scratch an encoder on labelled brain scans, and reports the test over seeds:
//   20_finetune --train train.csv --validation val.csv --test test.csv --task classification --init checkpoint.tar --out run
// Exit status: 0 done; 1 an error; 2 wrong usage; 75 stopped by SIGTERM or SIGUSR1 after saving; 130 by SIGINT.
#include "declare.hpp"
#include "insula/base/text.hpp"
#include "insula/train/environment.hpp"
#include "program/command_line.hpp"
#include "results.hpp"
#include "training.hpp"

namespace {

namespace fs = std::filesystem;

/// The run's folder is new, or holds the same run and is to be resumed.
void open_folder(settings const& s) {
  auto const file = s.out + "/settings.json";
  if (fs::exists(file)) {
    insula::check(s.resume, s.out, " holds a run; resume it or choose an empty folder");
    s.require_fixed(insula::read_file(file), file);
  }
  fs::create_directories(s.out);
  s.save_resolved();
  insula::write_file(file, s.fixed);
}

job job_of(settings const& s, labelled_data const& data, double fraction, insula::index_t seed,
           insula::index_t round) {
  job j{insula::text(s.out, "/fraction-", fraction, "/seed-", seed,
                     s.folds > 0 ? insula::text("/fold-", round) : std::string()),
        data.parts(round, fraction), std::uint64_t(seed)};
  if (!s.standardise) return j;
  std::vector<double> labels;
  for (auto const i : j.parts.train) labels.push_back(data.label(i));
  double squares = 0;
  for (double const l : labels) j.mean += l / double(labels.size());
  for (double const l : labels) squares += (l - j.mean) * (l - j.mean) / double(labels.size());
  insula::check(squares > 0, "all ", labels.size(), " training labels are ", labels[0],
                ": there is nothing to learn");
  j.deviation = std::sqrt(squares);
  return j;
}

/// Trains and tests one job unless its predictions are there; adds them. Gives an exit status.
int work(settings const& s, labelled_data const& data, trainer& t, job const& j, double fraction,
         insula::index_t round, std::vector<prediction>& all) {
  auto const file = j.folder + "/predictions.csv";
  std::vector<prediction> rows;
  if (fs::exists(file)) {
    rows = read_predictions(file);
  } else {
    std::vector<double> output;
    if (int const code = t.train(j, output); code != 0) return code;
    for (std::size_t k = 0; k < output.size(); ++k) {
      auto const i = j.parts.test[k];
      rows.push_back({fraction, j.seed, round, data.image(i), data.patient(i), data.label(i), output[k]});
    }
    write_predictions(file, s, rows);
  }
  all.insert(all.end(), rows.begin(), rows.end());
  return 0;
}

int finetune(settings s) {
  int const threads = s.threads > 0 ? s.threads : insula::usable_threads();
  insula::context<insula::cpu> cx(threads);
  auto const net = network_of(s);
  labelled_data const data(s, net.grid, cx.pool);
  if (!s.quiet) std::fprintf(stderr, "%s", data.described().c_str());
  for (insula::index_t round = 0; round < data.rounds(); ++round)
    for (double const fraction : s.fractions)
      (void)data.parts(round, fraction);  // wrong parts are told before any work
  open_folder(s);
  insula::write_environment(s.out, {.kernels = "", .threads = threads});
  auto const t = net.make(s, data, cx);
  std::vector<prediction> all;
  std::vector<insula::index_t> trained;
  for (double const fraction : s.fractions) {
    for (insula::index_t seed = 0; seed < s.seeds; ++seed)
      for (insula::index_t round = 0; round < data.rounds(); ++round) {
        auto const j = job_of(s, data, fraction, seed, round);
        if (seed == 0 && round == 0) trained.push_back(insula::index_t(j.parts.train.size()));
        if (int const code = work(s, data, *t, j, fraction, round, all); code != 0) return code;
      }
  }
  write_results(s, all, trained, data.described());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  insula::config c("20_finetune",
                   "Fine-tunes, probes or trains from scratch an encoder on labelled brain scans.");
  declare(c, s);
  program::commands p{"20_finetune",
                      "Fine-tunes, probes or trains from scratch an encoder on labelled brain scans."};
  for (char const* key :
       {"data", "train", "validation", "test", "out", "label", "task", "method", "network", "init",
        "fractions", "seeds", "folds", "epochs", "batch", "threads", "name", "compare"})
    p.flags.push_back({key});
  p.toggles.push_back({"--probe", "method=probe", "train only the head on a frozen encoder"});
  p.configurations.insert(p.configurations.end(), {"paper-base", "paper-large"});
  p.complete = [&] {
    check_settings(s);
    if (s.epochs == 0) c.set(s.method == "scratch" ? "epochs=300" : "epochs=100");
  };
  p.run = [&] {
    program::record(c, s);
    return finetune(s);
  };
  return program::main(argc, argv, c, p);
}
