// SPDX-License-Identifier: Apache-2.0
// The numbers of a run over its steps, as a CSV table and as JSON lines.
#pragma once

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "insula/io/atomic_file.hpp"
#include "insula/io/csv.hpp"

namespace insula {

struct metric {
  std::string name;
  double value = 0;
};

/// Appends rows to <stem>.csv (column "step", then one per metric, empty if not given) and <stem>.jsonl (one
/// object a line; NaN and infinities as the strings "nan", "inf", "-inf").
///   metrics_log log("run1/metrics");  log.append(step, {{"train/loss", .3}, {"lr", 1e-4}});
/// Opening an existing log keeps the rows up to `resumes_at` and drops later ones and torn last lines, so
/// that a run that was killed and resumed leaves the same files as one that was not. Both files always hold
/// whole lines: a failed write is cut back. A metric seen for the first time adds a column; the CSV file is
/// then rewritten. Throws error.
class metrics_log {
 public:
  /// resumes_at: the last step that counts; -1 starts afresh, the greatest index_t keeps everything.
  explicit metrics_log(std::string stem, index_t resumes_at = -1)
      : csv_{stem + ".csv", {}, 0}, jsonl_{stem + ".jsonl", {}, 0} {
    std::error_code e;
    std::filesystem::create_directories(folder_of(stem), e);
    if (e) fail_errno("create the folder", folder_of(stem), e.value());
    keep_csv(resumes_at);
    keep_jsonl(resumes_at);
    open(csv_), open(jsonl_);
  }

  /// One row. Names must not repeat; steps must not fall.
  void append(index_t step, std::span<metric const> values) {
    check(step >= last_step_, "metrics_log ", quote(csv_.path, 4096), ": step ", step, " comes after step ",
          last_step_, "; steps must not fall");
    auto const known = columns_.size();
    std::vector<std::string> cells(columns_.size());
    nlohmann::ordered_json object{{"step", step}};
    for (auto const& m : values) {
      check(m.name != "step" && !object.contains(m.name), "metrics_log ", quote(csv_.path, 4096),
            ": the metric ", quote(m.name), " is given twice in step ", step);
      auto const at = std::size_t(std::find(columns_.begin(), columns_.end(), m.name) - columns_.begin());
      if (at == columns_.size()) columns_.push_back(m.name), cells.emplace_back();
      cells[at] = std::isnan(m.value) ? "nan" : text(m.value);
      if (std::isfinite(m.value))
        object[m.name] = m.value;
      else
        object[m.name] = cells[at];
    }
    if (columns_.size() != known) widen();
    auto row = text(step);
    for (auto const& c : cells) row += ',', row += c;
    put(csv_, row += '\n');
    put(jsonl_, object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n');
    last_step_ = step;
  }
  void append(index_t step, std::initializer_list<metric> values) {
    append(step, std::span<metric const>(values.begin(), values.size()));
  }

  std::string const& csv_path() const { return csv_.path; }
  std::string const& jsonl_path() const { return jsonl_.path; }
  std::vector<std::string> const& columns() const { return columns_; }

 private:
  struct sink {
    std::string path;
    descriptor file;
    std::size_t good;  // bytes of whole lines
  };

  std::string header() const {
    std::string s = "step";
    for (auto const& c : columns_) s += ',', s += csv_cell(c);
    return s += '\n';
  }
  /// The text up to the last line break: a line that a crash cut off does not count.
  static std::string whole_lines(std::string const& path) {
    auto s = read_file(path);
    s.resize(s.rfind('\n') + 1);  // npos + 1 == 0
    return s;
  }
  void keep_csv(index_t resumes_at) {
    std::string kept;
    if (resumes_at >= 0 && std::filesystem::exists(csv_.path)) {
      auto const old = whole_lines(csv_.path);
      if (!old.empty()) {
        auto const t = parse_csv(old, ',', csv_.path);
        check(t.columns().front() == "step", csv_.path, ": the first column is ", quote(t.columns().front()),
              ", not step; move the file away or choose another name");
        columns_.assign(t.columns().begin() + 1, t.columns().end());
        for (std::size_t r = 0; r < t.rows(); ++r) {
          auto const step = t.number(r, "step");
          if (!step || *step > double(resumes_at)) continue;
          last_step_ = std::max(last_step_, index_t(*step));
          for (std::size_t c = 0; c < t.columns().size(); ++c)
            kept += (c ? "," : "") + csv_cell(t.cell(r, c));
          kept += '\n';
        }
      }
    }
    write_file(csv_.path, header() + kept);
  }
  void keep_jsonl(index_t resumes_at) {
    std::string kept;
    if (resumes_at >= 0 && std::filesystem::exists(jsonl_.path)) {
      auto const old = whole_lines(jsonl_.path);
      std::size_t line = 1;
      for (std::size_t at = 0; at < old.size(); ++line) {
        auto const end = old.find('\n', at) + 1;
        std::string_view const text(old.data() + at, end - at);
        at = end;
        auto const o = nlohmann::json::parse(text, nullptr, false);
        check(o.is_object() && o.contains("step") && o["step"].is_number_integer(), jsonl_.path, ":", line,
              ": not a JSON object with an integer step; move the file away or choose another name");
        if (o["step"].get<index_t>() <= resumes_at) kept += text;
      }
    }
    write_file(jsonl_.path, kept);
  }
  void open(sink& s) {
    s.file = descriptor(::open(s.path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    if (!s.file.open()) fail_errno("open", s.path, errno);
    s.good = std::size_t(std::filesystem::file_size(s.path));
  }
  void put(sink& s, std::string const& line) {
    if (int const e = write_fully(s.file.get(), line.data(), line.size())) {
      (void)!ftruncate(s.file.get(), off_t(s.good));
      fail_errno("write", s.path, e);
    }
    s.good += line.size();
  }
  /// Gives the rows of the CSV file the columns that are new.
  void widen() {
    auto const old = read_file(csv_.path);
    auto const t = parse_csv(old, ',', csv_.path);
    std::string const more(columns_.size() + 1 - t.columns().size(), ',');
    std::string s = header();
    for (std::size_t r = 0; r < t.rows(); ++r) {
      for (std::size_t c = 0; c < t.columns().size(); ++c) {
        if (c > 0) s += ',';
        s += csv_cell(t.cell(r, c));
      }
      s += more + '\n';
    }
    write_file(csv_.path, s);
    open(csv_);
  }

  sink csv_, jsonl_;
  std::vector<std::string> columns_;
  index_t last_step_ = -1;
};

}  // namespace insula
