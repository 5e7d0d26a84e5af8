// SPDX-License-Identifier: Apache-2.0
// The run with the published network sizes.
#include "pretrain.hpp"

int pretrain_paper(settings const& s) { return pretrain<insula::umbra::paper>(s); }
