// SPDX-License-Identifier: Apache-2.0
// Pretraining of the published masked autoencoder with ViT-Tiny.
#include "mae.hpp"

int pretrain_paper_mae(settings const& s) { return pretrain_mae<program::paper_mae>(s); }
