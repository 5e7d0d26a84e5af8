// SPDX-License-Identifier: Apache-2.0
// Pretraining of the small masked autoencoder.
#include "mae.hpp"

int pretrain_small_mae(settings const& s) { return pretrain_mae<program::small_mae>(s); }
