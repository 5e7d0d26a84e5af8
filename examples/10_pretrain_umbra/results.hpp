// SPDX-License-Identifier: Apache-2.0
// The table a run ends with, beside another run's and the paper's.
#pragma once

#include <string>
#include <vector>

#include "settings.hpp"

using table_rows = std::vector<std::vector<std::string>>;

/// Prints the rows {name, cross-modality, cross-subject, reconstruction, subjects, scans}, those of s.compare and the paper's;
/// writes alignment.json and puts the table at the head of report.html. Throws error.
void write_results(settings const& s, table_rows const& own);
