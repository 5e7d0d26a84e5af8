// SPDX-License-Identifier: Apache-2.0
// The run with the small network.
#include "pretrain.hpp"

int pretrain_small(settings const& s) { return pretrain<insula::umbra::small>(s); }
