// SPDX-License-Identifier: Apache-2.0
// SimCLR of the small ResNet.
#include "simclr.hpp"

int pretrain_small_simclr(settings const& s) { return pretrain_simclr<program::small_resnet>(s); }
