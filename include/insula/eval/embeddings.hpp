// SPDX-License-Identifier: Apache-2.0
// A table of embeddings: one vector per scan, with the patient, session, file and contrast it comes from.
#pragma once

#include <string>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/config.hpp"
#include "insula/eval/summary.hpp"

namespace insula {

/// Where an embedding comes from. Ids are text, as in the published metadata files.
struct embedding_source {
  std::string patient, session, file, modality;
};

/// values is (rows, width), row-major; sources has one entry per row.
struct embedding_table {
  index_t width = 0;
  std::vector<float> values;
  std::vector<embedding_source> sources;

  index_t rows() const { return index_t(sources.size()); }
  float const* row(index_t i) const { return values.data() + i * width; }
};

/// Throws unless the values fill rows x width and there is at least one row.
inline void check_table(embedding_table const& t, char const* who) {
  check(t.width > 0, who, ": the embeddings are ", t.width, " wide, they need at least one component");
  check(t.rows() > 0, who, ": the table has no rows, there is nothing to compare");
  check(index_t(t.values.size()) == t.rows() * t.width, who, ": ", t.values.size(), " values do not fill ",
        t.rows(), " rows of ", t.width, " components; every row needs one source and ", t.width, " values");
}

/// A table without any pair of the kind that is compared; other faults of a table are plain errors.
struct no_pairs : error {
  using error::error;
};

}  // namespace insula
