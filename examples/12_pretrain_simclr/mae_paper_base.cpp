// SPDX-License-Identifier: Apache-2.0
// Pretraining of the published masked autoencoder with ViT-Base.
#include "mae.hpp"

int pretrain_paper_base_mae(settings const& s) { return pretrain_mae<program::paper_base_mae>(s); }
