// SPDX-License-Identifier: Apache-2.0
// From the predictions of all trainings to tables: on standard output, in results.json and in report.html.
#pragma once

#include "settings.hpp"

/// What the model of one training says of one test scan.
struct prediction {
  double fraction;
  std::uint64_t seed;
  insula::index_t round;
  std::string image, patient;
  double label, output;  ///< output: a logit, or a number in the label's units
};

/// Predictions of one training in a file of their own, so that a finished training is known as such.
void write_predictions(std::string const& path, settings const& s, std::vector<prediction> const& rows);
std::vector<prediction> read_predictions(std::string const& path);

/// Writes predictions.csv, results.json and report.html of the run, and prints the table together with the runs of s.compare.
/// trained[f]: scans that fraction f trained on.
void write_results(settings const& s, std::vector<prediction> const& all,
                   std::vector<insula::index_t> const& trained, std::string const& data);
