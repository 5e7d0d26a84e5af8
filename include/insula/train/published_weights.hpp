// SPDX-License-Identifier: Apache-2.0
// How the checkpoints of the published systems map to the networks of insula/zoo: what else is in those files.
#pragma once

#include "insula/io/weights_file.hpp"
#include "insula/train/weights_io.hpp"

namespace insula {

/// Checkpoints of UMBRA (BraveDistribution/UMBRA, Lightning): "model." stands before the autoencoder's names; beside it are the
/// queue, the momentum copies, the projection, and index tables that are computed here. Loads the autoencoder, or the encoder
/// alone:
///   weights_file f("contrastive_modality.ckpt");
///   auto const report = load_tensors(f, m.places(), m.w(), "", umbra_checkpoint());
inline mapping_options umbra_checkpoint() {
  return {.prefixes = {"model.", "module.", "_orig_mod."},
          .ignored = {"queue", "encoder_m.", "projection.", "projection_m.", "feats_decoder.", "head."},
          .ignored_endings = {"relative_position_index"}};
}
/// The momentum copy of the encoder in a checkpoint of UMBRA. Give load_tensors the prefix "encoder_m.".
inline mapping_options umbra_momentum_encoder() {
  return {.renames = {{"", "encoder."}}, .prefixes = {}, .ignored_endings = {"relative_position_index"}};
}

}  // namespace insula
