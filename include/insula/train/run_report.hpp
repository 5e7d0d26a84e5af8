// SPDX-License-Identifier: Apache-2.0
// The report of a training run, made from what its folder holds.
#pragma once

#include <map>

#include "insula/train/checkpoint_files.hpp"
#include "insula/train/montage.hpp"
#include "insula/train/progress.hpp"
#include "insula/train/report.hpp"

namespace insula {

namespace detail {

/// Columns of metrics.csv that have at least one number, as curves.
inline std::vector<curve> curves_of(table const& t) {
  std::vector<curve> all;
  for (std::size_t c = 1; c < t.columns().size(); ++c) {
    curve one{t.columns()[c], {}, {}};
    for (std::size_t r = 0; r < t.rows(); ++r) {
      auto const& cell = t.cell(r, c);
      auto const step = number_in(t.cell(r, 0));
      if (cell.empty() || !step) continue;
      one.x.push_back(*step);
      one.y.push_back(number_in(cell).value_or(std::numeric_limits<double>::quiet_NaN()));
    }
    if (!one.x.empty()) all.push_back(std::move(one));
  }
  return all;
}

/// True if the values are best shown on a logarithmic axis: all above 0, over more than three powers of ten.
inline bool spans_decades(curve const& c) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (double const v : c.y) {
    if (!std::isfinite(v)) continue;
    if (v <= 0) return false;
    widen(least, most, v);
  }
  return most > 1000 * least;
}

/// What stands before the first slash of a metric's name.
inline std::string group_of(std::string const& name) { return name.substr(0, name.find('/')); }

inline void report_curves(report& r, table const& metrics) {
  auto all = curves_of(metrics);
  std::vector<std::string> groups;
  for (auto const& c : all)
    if (std::find(groups.begin(), groups.end(), group_of(c.name)) == groups.end())
      groups.push_back(group_of(c.name));
  auto const place = [&](curve const& c) {
    return std::find(groups.begin(), groups.end(), group_of(c.name));
  };
  std::stable_sort(all.begin(), all.end(), [&](auto const& a, auto const& b) { return place(a) < place(b); });
  r.section("Curves");
  if (all.empty()) r.paragraph("No rows were recorded yet.");
  std::string group;
  for (auto const& c : all) {
    if (auto const g = group_of(c.name); g != group) r.section(group = g, 2);
    r.curves(c.name, {c}, {.log_y = spans_decades(c)});
  }
  if (all.empty()) return;
  std::vector<std::vector<std::string>> rows;
  for (auto const& c : all) {
    double least = std::numeric_limits<double>::infinity(), most = -least;
    for (double const v : c.y)
      if (std::isfinite(v)) widen(least, most, v);
    rows.push_back({c.name, short_number(c.y.front()), short_number(c.y.back()), short_number(least),
                    short_number(most)});
  }
  r.section("Numbers").table({"metric", "first", "last", "least", "greatest"}, rows,
                             text("Rows of metrics.csv up to step ", metrics.cell(metrics.rows() - 1, 0)));
}

/// Images "<tag>-<step>.png" of a folder; of every tag the first and the last three.
inline void report_images(report& r, std::string const& folder) {
  std::map<std::string, std::vector<std::string>> names;
  std::error_code e;
  for (std::filesystem::directory_iterator it(folder, e), end; !e && it != end; it.increment(e)) {
    auto const name = it->path().filename().string();
    auto const dash = name.rfind('-');
    if (name.ends_with(".png") && !name.starts_with('.') && dash != name.npos)
      names[name.substr(0, dash)].push_back(name);
  }
  if (names.empty()) return;
  r.section("Reconstructions").paragraph(montage_caption);
  for (auto& [tag, files] : names) {
    std::sort(files.begin(), files.end());
    r.section(tag, 2);
    for (std::size_t i = 0; i < files.size(); ++i) {
      if (i > 0 && i + 3 < files.size()) continue;
      auto const step =
          number_in(files[i].substr(tag.size() + 1, files[i].size() - tag.size() - 5)).value_or(0);
      auto const bytes = read_file(folder + "/" + files[i]);
      auto const words = text(tag, " after step ", index_t(step));
      r.png(std::as_bytes(std::span(bytes)), words + ": central planes of a volume", words);
    }
  }
}

inline void report_checkpoints(report& r, std::string const& folder) {
  std::vector<std::vector<std::string>> rows;
  for (auto const step : checkpoint_steps(folder)) {
    auto const name = checkpoint_name(step);
    try {
      auto const c = inspect_checkpoint(folder + "/" + name);
      rows.push_back({name, text(c.step), c.score ? short_number(*c.score) : "",
                      short_number(double(std::filesystem::file_size(c.path)) / 0x1p20)});
    } catch (std::exception const&) {
      rows.push_back({name, text(step), "unreadable", ""});
    }
  }
  r.section("Checkpoints");
  if (rows.empty())
    r.paragraph("None yet.");
  else
    r.table({"file", "step", "score", "MiB"}, rows);
}

/// A file of the run as it is; nothing if there is none.
inline void report_file(report& r, std::string_view heading, std::string const& path) {
  std::error_code none;
  if (std::filesystem::exists(path, none)) r.section(heading).verbatim(read_file(path, std::size_t{1} << 24));
}

}  // namespace detail

/// Writes report.html into the folder of a run, atomically: curves and numbers of metrics.csv, images/, checkpoints/,
/// config.resolved.toml and env.json, as far as they are there. `first` puts sections of the program's own before them. Works
/// while the run goes on. Throws error.
inline void write_run_report(std::string const& folder, std::string const& title = "Training run",
                             std::function<void(report&)> const& first = {}) {
  report r(title, text(std::filesystem::absolute(folder).filename().string(), ", written ", iso_time()));
  if (first) first(r);
  auto const metrics = folder + "/metrics.csv";
  if (std::filesystem::exists(metrics)) detail::report_curves(r, read_csv(metrics));
  detail::report_images(r, folder + "/images");
  detail::report_checkpoints(r, folder + "/checkpoints");
  detail::report_file(r, "Configuration", folder + "/config.resolved.toml");
  detail::report_file(r, "Environment", folder + "/env.json");
  r.write(folder + "/report.html");
}

}  // namespace insula
