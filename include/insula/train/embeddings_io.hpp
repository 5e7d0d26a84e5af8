// SPDX-License-Identifier: Apache-2.0
// Embeddings on disk: a tensor in a safetensors file, and a table that says which scan each row is of.
#pragma once

#include "insula/eval/embeddings.hpp"
#include "insula/io/csv.hpp"
#include "insula/io/safetensors.hpp"

namespace insula {

/// Writes <path>.safetensors with the tensor "embeddings" (rows, width) in float32, and <path>.csv with UMBRA's columns
/// filename, embedding_index, modality, patient_id, session_id; both atomically. Throws error.
inline void write_embeddings(std::string const& path, embedding_table const& t) {
  check_table(t, "write_embeddings");
  safetensors_writer w;
  w.add("embeddings", {t.rows(), t.width}, t.values.data());
  w.write(path + ".safetensors");
  std::string s = "filename,embedding_index,modality,patient_id,session_id\n";
  for (index_t i = 0; i < t.rows(); ++i) {
    auto const& from = t.sources[std::size_t(i)];
    s += text(csv_cell(from.file), ',', i, ',', csv_cell(from.modality), ',', csv_cell(from.patient), ',',
              csv_cell(from.session), '\n');
  }
  write_file(path + ".csv", s);
}

/// The table that write_embeddings() wrote, or one with the same columns in any order; rows of the table may be in any order,
/// embedding_index says which row of the tensor each is. Throws error if the two do not belong together.
inline embedding_table read_embeddings(std::string const& path) {
  safetensors_file const file(path + ".safetensors");
  auto const& tensor = file.at("embeddings");
  check(tensor.shape.size() == 2, file.path(), ": the tensor \"embeddings\" is ", shape_text(tensor.shape),
        ", it must be (rows, width)");
  auto const sources = read_csv(path + ".csv");
  embedding_table t;
  index_t const rows = tensor.shape[0];
  t.width = tensor.shape[1];
  t.values.resize(std::size_t(rows * t.width));
  file.read<float>(tensor, t.values, rounding::nearest);
  check(index_t(sources.rows()) == rows, path, ".csv has ", sources.rows(),
        " rows, the tensor \"embeddings\" ", rows, "; do the two files belong together?");
  t.sources.resize(std::size_t(rows));
  std::vector<bool> seen(static_cast<std::size_t>(rows));
  for (std::size_t r = 0; r < std::size_t(rows); ++r) {
    auto const i = sources.number(r, "embedding_index");
    check(i && *i >= 0 && *i < double(rows) && *i == std::floor(*i) && !seen[std::size_t(*i)], path,
          ".csv:", sources.line(r), ": embedding_index is ", quote(sources.cell(r, "embedding_index")),
          "; it must be 0 to ", rows - 1, ", each once");
    seen[std::size_t(*i)] = true;
    t.sources[std::size_t(*i)] = {sources.cell(r, "patient_id"), sources.cell(r, "session_id"),
                                  sources.cell(r, "filename"), sources.cell(r, "modality")};
  }
  return t;
}

}  // namespace insula
