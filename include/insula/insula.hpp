// SPDX-License-Identifier: Apache-2.0
// Networks, tape, losses, optimisers and pretraining objectives: what a program needs before it picks a backend.
#pragma once

// Add the kernels of a backend in the file that runs networks:
//   insula/cpu.hpp      this machine's processor        insula/plain.hpp    the reference loops
// and what is not needed by every program, one header per idea:
//   insula/data/...     volumes, NIfTI, preprocessing, augmentation, cohorts      insula/io/...    checkpoints, settings, tables
//   insula/train/...    the training loop and its reports                         insula/eval/...  metrics
//   insula/testing/...  gradient checks of one's own layers

#include "insula/autograd/apply.hpp"
#include "insula/autograd/functions.hpp"
#include "insula/layer/activation.hpp"
#include "insula/layer/attention.hpp"
#include "insula/layer/batch_norm.hpp"
#include "insula/layer/concat.hpp"
#include "insula/layer/conv.hpp"
#include "insula/layer/linear.hpp"
#include "insula/layer/modalities.hpp"
#include "insula/layer/norm.hpp"
#include "insula/layer/patch.hpp"
#include "insula/layer/patch_embedding.hpp"
#include "insula/layer/pool.hpp"
#include "insula/layer/position.hpp"
#include "insula/layer/resample.hpp"
#include "insula/layer/token.hpp"
#include "insula/layer/window_attention.hpp"
#include "insula/loss/classification.hpp"
#include "insula/loss/dice_bce.hpp"
#include "insula/loss/info_nce.hpp"
#include "insula/loss/masked_patches.hpp"
#include "insula/loss/masked_reconstruction.hpp"
#include "insula/loss/nt_xent.hpp"
#include "insula/loss/regression.hpp"
#include "insula/net/model.hpp"
#include "insula/optim/adam.hpp"
#include "insula/optim/adamw.hpp"
#include "insula/optim/clip.hpp"
#include "insula/optim/lars.hpp"
#include "insula/optim/layer_decay.hpp"
#include "insula/optim/schedule.hpp"
#include "insula/optim/sgd.hpp"
#include "insula/ssl/contrastive_masked.hpp"
#include "insula/ssl/masked_autoencoder.hpp"
#include "insula/ssl/simclr.hpp"
#include "insula/zoo/mae.hpp"
#include "insula/zoo/neuro_simclr.hpp"
#include "insula/zoo/umbra.hpp"
#include "insula/zoo/vit.hpp"
