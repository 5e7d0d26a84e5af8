// SPDX-License-Identifier: Apache-2.0
// The table a run ends with: on standard output, in alignment.json and in the report.
#include "results.hpp"

#include "insula/train/run_report.hpp"
#include "program/table.hpp"

namespace {

// Koutsouvelis et al. 2025 (arXiv 2511.11311), section 3.1: FOMO60k validation, 96^3, 200,000 steps
table_rows const published{{"paper: MCL", "0.0066 +- 0.0104", "0.6094 +- 0.2500", "-", "147", "581"},
                           {"paper: MCL + MIM", "0.0068 +- 0.0175", "0.6232 +- 0.2732", "-", "147", "581"},
                           {"paper: CL", "0.5995 +- 0.1576", "0.6540 +- 0.2023", "-", "147", "581"},
                           {"paper: CL + MIM", "0.5028 +- 0.1592", "0.6146 +- 0.2198", "-", "147", "581"}};

table_rows rows_of(std::string const& folder) {
  return program::read_results(folder + "/alignment.json", "rows")["rows"].get<table_rows>();
}

std::vector<std::string> const head{"run",
                                    "cross-modality distance",
                                    "cross-subject distance (T1)",
                                    "reconstruction error / mean predictor",
                                    "subjects",
                                    "scans"};

}  // namespace

void write_results(settings const& s, table_rows const& own) {
  program::write_results(s.out + "/alignment.json", {{"head", head}, {"rows", own}});
  table_rows all = own;
  if (!s.compare.empty())
    for (auto& r : rows_of(s.compare)) all.push_back(std::move(r));
  all.insert(all.end(), published.begin(), published.end());
  program::print_table(head, all);
  insula::write_run_report(s.out, "UMBRA pretraining: " + s.mode + ", " + s.model, [&](insula::report& r) {
    r.section("Alignment and reconstruction")
        .paragraph(
            "Cosine distance between embeddings of different contrasts of one subject (small: the contrast "
            "does not "
            "matter) and between subjects (large: no collapse); squared error over masked voxels divided by "
            "that of "
            "each scan's mean.")
        .paragraph(
            "Rows of this library come from the data named in the configuration below; what 09_make_cohort "
            "writes are "
            "virtual subjects, warped from a few real volumes. The paper's rows were measured on other data, "
            "at other "
            "size and length: they show the direction, not a target.")
        .table(head, all, "");
  });
}
