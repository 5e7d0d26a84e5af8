// SPDX-License-Identifier: Apache-2.0
// Tables of results: on standard output, and in JSON files that later runs read for comparison.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "insula/io/atomic_file.hpp"

namespace program {

using table_row = std::vector<std::string>;

/// Prints columns padded to equal width.
inline void print_table(table_row const& head, std::vector<table_row> const& rows) {
  std::vector<std::size_t> width;
  for (std::size_t c = 0; c < head.size(); ++c) {
    width.push_back(head[c].size());
    for (auto const& r : rows) width[c] = std::max(width[c], r[c].size());
  }
  auto const line = [&](table_row const& cells) {
    for (std::size_t c = 0; c < cells.size(); ++c) std::printf("%-*s  ", int(width[c]), cells[c].c_str());
    std::printf("\n");
  };
  line(head);
  for (auto const& r : rows) line(r);
}

/// The JSON object in a file that a finished run wrote. Throws error if it is none or has no entry `key`.
inline nlohmann::ordered_json read_results(std::string const& file, char const* key) {
  auto json = nlohmann::ordered_json::parse(insula::read_file(file), nullptr, false);
  insula::check(json.is_object() && json.contains(key), file,
                ": this is no table of results; name the folder of a finished run");
  return json;
}
inline void write_results(std::string const& file, nlohmann::ordered_json const& json) {
  insula::write_file(file, json.dump(2) + "\n");
}

}  // namespace program
