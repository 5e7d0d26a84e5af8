// SPDX-License-Identifier: Apache-2.0
// Metrics of all trainings of a run, and tables beside those of other runs and of the paper.
#include "results.hpp"

#include <map>

#include "insula/eval/bootstrap.hpp"
#include "insula/eval/classification.hpp"
#include "insula/eval/regression.hpp"
#include "insula/eval/summary.hpp"
#include "insula/train/progress.hpp"
#include "insula/train/report.hpp"
#include "program/table.hpp"

namespace {

using program::table_row;
using columns = std::pair<std::vector<double>, std::vector<double>>;  // outputs, labels

// Kaczmarek et al. 2025, Table 2: mean and standard deviation of five runs
table_row const paper_head{"model", "stroke, MAE", "AD, AUC", "sex, AUC", "age, MAE (years)"};
std::vector<table_row> const paper{
    {"ResNet-18 supervised", "5.47 ± 0.09", "0.869 ± 0.030", "0.988 ± 0.005", "4.85 ± 0.13"},
    {"ViT-T supervised", "6.02 ± 0.09", "0.844 ± 0.054", "0.876 ± 0.014", "7.53 ± 0.25"},
    {"MAE-LP", "6.12 ± 0.02", "0.539 ± 0.053", "0.839 ± 0.026", "15.28 ± 0.18"},
    {"MAE-FT", "6.15 ± 0.15", "0.798 ± 0.042", "0.864 ± 0.025", "8.53 ± 0.28"},
    {"SimCLR-LP", "5.87 ± 0.07", "0.904 ± 0.008", "0.896 ± 0.006", "5.90 ± 0.16"},
    {"SimCLR-FT", "5.37 ± 0.24", "0.929 ± 0.028", "0.991 ± 0.004", "4.35 ± 0.22"}};

std::string csv_of(settings const& s, std::vector<prediction> const& rows) {
  std::string csv = "fraction,seed,fold,image,patient,label,output";
  csv += s.classification() ? ",probability\n" : "\n";
  for (auto const& p : rows) {
    csv += insula::text(p.fraction, ',', p.seed, ',', p.round, ',', insula::csv_cell(p.image), ',',
                        insula::csv_cell(p.patient), ',', p.label, ',', p.output);
    csv += s.classification() ? insula::text(',', 1 / (1 + std::exp(-p.output)), '\n') : std::string("\n");
  }
  return csv;
}

/// The tests of one fraction: subjects numbered, and the outputs of every seed over the same scans.
struct tests {
  std::vector<insula::index_t> subject;  // per scan
  std::vector<double> label;
  std::map<std::uint64_t, std::vector<double>> output;
};

tests tests_of(std::vector<prediction> const& all, double fraction) {
  tests t;
  std::map<std::string, insula::index_t> number;
  std::uint64_t const first = all.front().seed;
  for (auto const& p : all) {
    if (p.fraction != fraction) continue;
    t.output[p.seed].push_back(p.output);
    if (p.seed != first) continue;
    t.subject.push_back(number.emplace(p.patient, insula::index_t(number.size())).first->second);
    t.label.push_back(p.label);
  }
  return t;
}

double main_metric(bool classification, std::span<double const> y, std::span<double const> label) {
  return classification ? insula::roc_auc_or_nan(y, label) : insula::mean_absolute_error(y, label);
}

/// 95 % interval of the mean over seeds, test subjects drawn with replacement; null where most draws have one class only.
nlohmann::ordered_json interval(settings const& s, tests const& t) {
  std::vector<double> y, label;
  auto const mean = [&](std::span<insula::index_t const> rows) {
    double sum = 0;
    label.clear();
    for (auto const i : rows) label.push_back(t.label[std::size_t(i)]);
    for (auto const& [seed, output] : t.output) {
      y.clear();
      for (auto const i : rows) y.push_back(output[std::size_t(i)]);
      sum += main_metric(s.classification(), y, label);
    }
    return sum / double(t.output.size());
  };
  try {
    auto const ci =
        insula::bootstrap(std::span<insula::index_t const>(t.subject), mean, {.replicates = s.replicates});
    return {{"low", ci.low}, {"high", ci.high}};
  } catch (insula::error const& e) {  // the table must not be lost for an interval
    if (!s.quiet) std::fprintf(stderr, "no interval: %s\n", e.what());
    return {{"low", nullptr}, {"high", nullptr}};
  }
}

/// All numbers of one fraction.
nlohmann::ordered_json result_of(settings const& s, tests const& t, double fraction,
                                 insula::index_t trained) {
  std::vector<double> main, second, third;
  for (auto const& [seed, y] : t.output) {
    main.push_back(main_metric(s.classification(), y, t.label));
    if (s.classification()) {
      auto const c = insula::confusion_at(0, y, t.label);
      second.push_back(insula::accuracy(c)), third.push_back(insula::f1_or_nan(c));
    } else {
      second.push_back(insula::mean_squared_error(y, t.label));
    }
  }
  auto const over = insula::over_runs(main);
  auto const ci = interval(s, t);
  nlohmann::ordered_json j{
      {"fraction", fraction}, {"training_scans", trained}, {"test_scans", t.label.size()},
      {"mean", over.mean},    {"low", ci["low"]},          {"high", ci["high"]}};
  j["deviation"] = over.count > 1 ? nlohmann::ordered_json(over.deviation) : nlohmann::ordered_json(nullptr);
  j["per_seed"] = main;
  j[s.classification() ? "accuracy" : "mse"] = insula::over_runs(second).mean;
  if (s.classification()) {
    double const f1 = insula::over_runs(third).mean;
    j["f1"] = std::isfinite(f1) ? nlohmann::ordered_json(f1) : nlohmann::ordered_json(nullptr);
  }
  return j;
}

std::string cell(nlohmann::ordered_json const& j, int digits = 3) {
  return j.is_number() ? insula::decimals(j.get<double>(), digits) : "-";
}
std::string mean_of(nlohmann::ordered_json const& r) {
  auto const d = r["deviation"];
  return cell(r["mean"]) + (d.is_number() ? " ± " + cell(d) : "");
}

/// One run's rows in full.
table_row const own_head{"run",
                         "labels used",
                         "training scans",
                         "target",
                         "mean ± SD over seeds",
                         "95 % interval",
                         "accuracy / MSE",
                         "F1"};
std::vector<table_row> own_rows(nlohmann::ordered_json const& run) {
  std::vector<table_row> rows;
  for (auto const& r : run["results"])
    rows.push_back({run["name"], insula::decimals(100 * r["fraction"].get<double>(), 0) + " %",
                    insula::text(r["training_scans"].get<insula::index_t>()),
                    run["target"].get<std::string>() + ", " + run["metric"].get<std::string>(), mean_of(r),
                    cell(r["low"]) + " to " + cell(r["high"]),
                    cell(r.contains("accuracy") ? r["accuracy"] : r["mse"]),
                    r.contains("f1") ? cell(r["f1"]) : "-"});
  return rows;
}

/// Models as rows and targets as columns, as in the paper.
void pivot(std::vector<nlohmann::ordered_json> const& runs, table_row& head, std::vector<table_row>& rows) {
  head = {"model", "labels used"};
  std::map<std::pair<std::string, std::string>, std::size_t> place;
  for (auto const& run : runs) {
    std::string const column = run["target"].get<std::string>() + ", " + run["metric"].get<std::string>();
    std::size_t at = 2;
    while (at < head.size() && head[at] != column) ++at;
    if (at == head.size()) {
      head.push_back(column);
      for (auto& r : rows) r.push_back("-");
    }
    for (auto const& r : run["results"]) {
      std::pair<std::string, std::string> const key{
          run["name"].get<std::string>(), insula::decimals(100 * r["fraction"].get<double>(), 0) + " %"};
      auto const [found, fresh] = place.emplace(key, rows.size());
      if (fresh) {
        rows.push_back({key.first, key.second});
        rows.back().resize(head.size(), "-");
      }
      rows[found->second][at] = mean_of(r);
    }
  }
}

}  // namespace

void write_predictions(std::string const& path, settings const& s, std::vector<prediction> const& rows) {
  insula::write_file(path, csv_of(s, rows));
}

std::vector<prediction> read_predictions(std::string const& path) {
  auto const t = insula::read_csv(path);
  std::vector<prediction> all;
  auto const number = [&](std::size_t r, char const* name) {
    auto const v = t.number(r, name);
    insula::check(v.has_value(), path, ":", t.line(r), ": ", name,
                  " is no number; remove this folder to train again");
    return *v;
  };
  for (std::size_t r = 0; r < t.rows(); ++r)
    all.push_back({number(r, "fraction"), std::uint64_t(number(r, "seed")),
                   insula::index_t(number(r, "fold")), t.cell(r, "image"), t.cell(r, "patient"),
                   number(r, "label"), number(r, "output")});
  return all;
}

void write_results(settings const& s, std::vector<prediction> const& all,
                   std::vector<insula::index_t> const& trained, std::string const& data) {
  write_predictions(s.out + "/predictions.csv", s, all);
  std::string const name = s.name.empty() ? s.network + ", " + s.method : s.name;
  nlohmann::ordered_json run{{"name", name},         {"target", s.target.empty() ? s.label : s.target},
                             {"metric", s.metric()}, {"task", s.task},
                             {"method", s.method},   {"network", s.network},
                             {"model", s.model},     {"init", s.init},
                             {"seeds", s.seeds},     {"results", nlohmann::ordered_json::array()}};
  for (std::size_t f = 0; f < s.fractions.size(); ++f)
    run["results"].push_back(result_of(s, tests_of(all, s.fractions[f]), s.fractions[f], trained[f]));
  program::write_results(s.out + "/results.json", run);
  std::vector<nlohmann::ordered_json> runs;
  for (auto const& folder : s.compare)
    runs.push_back(program::read_results(folder + "/results.json", "results"));
  runs.push_back(run);
  std::vector<table_row> rows;
  for (auto const& r : runs)
    for (auto& row : own_rows(r)) rows.push_back(std::move(row));
  program::print_table(own_head, rows);

  insula::report r(name + ": " + s.task + " of " + run["target"].get<std::string>(),
                   insula::text("written ", insula::iso_time()));
  table_row head;
  std::vector<table_row> models;
  pivot(runs, head, models);
  r.section("Results")
      .paragraph(
          "Test scans, at the epoch that the validation chose: highest AUC, or lowest loss. Mean and sample "
          "standard "
          "deviation over seeds; the interval is a bootstrap over test subjects of the mean over seeds. Rows "
          "of this "
          "library come from the data named in the configuration below; what 09_make_cohort writes are "
          "virtual "
          "subjects, warped from a few real volumes.")
      .table(head, models)
      .paragraph(
          "The paper's Table 2 (Kaczmarek et al. 2025): other data (SOOP, AIBL, IXI), other sizes and "
          "lengths; it shows "
          "what such a table looks like, not a target for the rows above.")
      .table(paper_head, paper)
      .section("All numbers")
      .table(own_head, rows);
  r.section("Data").verbatim(data);
  r.section("Configuration").verbatim(insula::read_file(s.out + "/config.resolved.toml"));
  r.section("Environment").verbatim(insula::read_file(s.out + "/env.json"));
  r.write(s.out + "/report.html");
}
