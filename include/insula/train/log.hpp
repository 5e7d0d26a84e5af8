// SPDX-License-Identifier: Apache-2.0
// The records of a run in its folder: metrics as CSV, JSON lines and TensorBoard events, images, and lines on standard error.
#pragma once

#include "insula/io/metrics.hpp"
#include "insula/io/tensorboard.hpp"
#include "insula/train/progress.hpp"

namespace insula {

struct run_log_options {
  index_t resumes_at = -1;  ///< the step that the run goes on from; -1 starts all records afresh
  bool events = true;       ///< write TensorBoard event files
  console_options console{};
};

/// Writes to a run's folder, created if missing: metrics.csv, metrics.jsonl, events.out.tfevents.*, images/. On resume, rows
/// of later steps are dropped and TensorBoard hides later events, so a run that was killed leaves the rows of one that was
/// not. Throws error if a file cannot be written; rows are then whole, the new one present or absent.
///   run_log log("run1", {.resumes_at = 200});   log.append(201, {{"train/loss", .3}});
class run_log {
 public:
  explicit run_log(std::string folder, run_log_options const& options = run_log_options{})
      : folder_(std::move(folder)),
        console_(options.console),
        metrics_(folder_ + "/metrics", std::max<index_t>(options.resumes_at, -1)) {
    if (options.events)
      events_.emplace(folder_, event_options{.resumes_at = std::max<index_t>(options.resumes_at, -1) + 1});
  }

  /// One row of numbers. Names must not repeat; steps must not fall.
  void append(index_t step, std::span<metric const> values) {
    metrics_.append(step, values);
    if (!events_) return;
    for (auto const& m : values) events_->scalar(m.name, m.value, step);
  }
  void append(index_t step, std::initializer_list<metric> values) {
    append(step, std::span<metric const>(values.begin(), values.size()));
  }
  /// An image, as images/<tag>-<step>.png (slashes of the tag become underscores) and as an event.
  void image(std::string_view tag, raster const& picture, index_t step) {
    auto const folder = folder_ + "/images";
    std::error_code e;
    std::filesystem::create_directories(folder, e);
    if (e) fail_errno("create the folder", folder, e.value());
    std::string name(tag);
    std::replace(name.begin(), name.end(), '/', '_');
    auto digits = text(step);
    digits.insert(0, digits.size() < 8 ? 8 - digits.size() : 0, '0');
    write_png(folder + "/" + name + "-" + digits + ".png", picture);
    if (events_) events_->image(tag, picture, step);
  }
  /// Hands pending events to the system.
  void flush() {
    if (events_) events_->flush();
  }

  insula::console& terminal() { return console_; }
  /// Null if event files are off; for histograms.
  event_writer* events() { return events_ ? &*events_ : nullptr; }
  std::string const& folder() const { return folder_; }
  std::string const& csv_path() const { return metrics_.csv_path(); }

 private:
  std::string folder_;
  insula::console console_;
  metrics_log metrics_;
  std::optional<event_writer> events_;
};

}  // namespace insula
