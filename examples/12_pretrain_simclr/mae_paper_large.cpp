// SPDX-License-Identifier: Apache-2.0
// Pretraining of the published masked autoencoder with ViT-Large.
#include "mae.hpp"

int pretrain_paper_large_mae(settings const& s) { return pretrain_mae<program::paper_large_mae>(s); }
