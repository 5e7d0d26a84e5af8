// SPDX-License-Identifier: Apache-2.0
// SimCLR of the published ResNet.
#include "simclr.hpp"

int pretrain_paper_simclr(settings const& s) { return pretrain_simclr<program::paper_resnet>(s); }
