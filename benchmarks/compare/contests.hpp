// SPDX-License-Identifier: Apache-2.0
// The contests between insula and C++ libraries; groups are the rows of the table in docs/performance.md.
#pragma once

#include "measure.hpp"

namespace compare {

/// Each holds its contests that the settings want and gives how many results of insula disagreed.
int convolutions(settings const& s);  // conv3 conv3_wide conv_other depthwise
int matrices(settings const& s);      // linear linear_gelu mlp

}  // namespace compare
