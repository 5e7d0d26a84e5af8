// SPDX-License-Identifier: Apache-2.0
// UMBRA: SwinMAE (encoder, pyramid decoder, voxel-shuffle head) and the projection head, as types.
#pragma once

#include "insula/zoo/swin3d.hpp"

namespace insula::umbra {

/// The published encoder (Koutsouvelis et al. 2025, arXiv 2511.11311; BraveDistribution/UMBRA models/networks.py).
struct paper : swin::options {
  static constexpr int depths[4] = {2, 2, 6, 2};
  static constexpr int norm_groups = 8;
  static constexpr bool masks = true;
  static constexpr int decoder_width = 32;
  static constexpr int decoder_groups = 8;  ///< of its group norms; 0 = instance norm without weights
  static constexpr int projection_hidden = 512, projection_width = 128;
  static constexpr int queue_length = 16384;
  static constexpr int crop = 96;             ///< voxels per axis
  static constexpr int mask_downsamples = 4;  ///< halvings from tokens to cells of the mask
};

/// What the quickstart trains: the same architecture, narrower, with two blocks a stage and windows of 4^3, on crops of
/// 32^3. Its masks are drawn token by token, and its queue fills within a few steps.
struct small : paper {
  static constexpr int features = 24;
  static constexpr int depths[4] = {2, 2, 2, 2};
  static constexpr int window = 4;
  static constexpr int mask_downsamples = 0;
  static constexpr int decoder_width = 16;
  static constexpr int projection_hidden = 128, projection_width = 64;
  static constexpr int queue_length = 64;
  static constexpr int crop = 32;
};

/// The 1^3 convolution of a tap, which with O::plain_taps is normalised here.
template <class O, int Tap, fixed_string Lateral>
using lateral = seq<
    recall<Tap>,
    std::conditional_t<O::plain_taps,
                       recompute_before<plain_layer_norm,
                                        named<Lateral, swin::detail::conv_without_bias<O::decoder_width, 1>>>,
                       named<Lateral, swin::detail::conv_without_bias<O::decoder_width, 1>>>>;

/// One level of the decoder but for its norm: conv 3^3 of up(p) + lateral(f).
template <class O, int Tap, fixed_string Lateral, fixed_string Smooth>
using decoder_convolution =
    seq<branch<resize_add<>, identity, lateral<O, Tap, Lateral>>,
        named<Smooth, named<"conv", swin::detail::conv_without_bias<O::decoder_width, 3>>>>;

/// The norm of a level: group norm, GELU.
template <class O, fixed_string Smooth>
using decoder_norm =
    named<Smooth, named<"norm", swin::detail::norm_act<O::decoder_groups, activation::gelu>>>;

/// One level: p = smooth(up(p) + lateral(f)).
template <class O, int Tap, fixed_string Lateral, fixed_string Smooth>
using decoder_level = seq<decoder_convolution<O, Tap, Lateral, Smooth>, decoder_norm<O, Smooth>>;

/// Feature pyramid decoder over taps 4 .. 0 (models/blocks.py FPNDecoderFeaturesOnly) but for the last norm.
template <class O>
using decoder =
    seq<lateral<O, 4, "lat5">, decoder_level<O, 3, "lat4", "smooth4">, decoder_level<O, 2, "lat3", "smooth3">,
        decoder_level<O, 1, "lat2", "smooth2">, decoder_convolution<O, 0, "lat1", "smooth1">>;

/// Decoder and head: a 1^3 convolution to 8 * Out channels, spread over 2^3 voxels. The last norm, the largest of all, is
/// computed again when that convolution needs it.
template <class O, int Out>
using decoder_with_head = seq<named<"feats_decoder", decoder<O>>,
                              recompute_before<named<"feats_decoder", decoder_norm<O, "smooth1">>,
                                               named<"head", named<"proj", conv3d<8 * Out, cube(1)>>>>,
                              named<"head", voxel_shuffle<>>>;

/// The masked autoencoder: volume to reconstruction, the pyramid f1 .. f5 as taps 0 .. 4. Its weight range begins with
/// the encoder's, so encoder<O> runs on the same weights.
template <class O, int Out = 1>
using tapped_autoencoder = seq<named<"encoder", swin::pyramid<O>>, decoder_with_head<O, Out>>;

/// The same on the same weights, without taps: what masked modelling trains. The pyramid is normalised where the decoder reads
/// it, so neither it nor its gradient is held in between.
template <class O, int Out = 1>
using autoencoder = inner_taps<tapped_autoencoder<swin::with_plain_taps<O>, Out>>;

/// Late fusion of Modalities volumes with the published sizes (models/networks.py Swinv2LateFusionFPNDecoder): instance
/// norms without weights, no mask token.
template <int Modalities>
struct paper_late_fusion : paper {
  static constexpr int modalities = Modalities;
  static constexpr int norm_groups = 0, decoder_groups = 0;
  static constexpr bool masks = false;
};

/// Every modality through one shared encoder, sums of its five maps over modalities by learned weights (softmax of
/// fusion_weights, whose row 0 the published network computes and never uses), decoder, head. Input: the modalities as
/// channels; output: Out logits per voxel.
template <class O, int Out>
using late_fusion = seq<tap<swin::fusion_tap, modality_weights<6, O::modalities>>,
                        named<"encoder", swin::pyramid<O>>, decoder_with_head<O, Out>>;

/// The encoder alone: volume to f5.
template <class O>
using encoder = named<"encoder", swin::encoder<O>>;

/// Mean over voxels, linear, ReLU, linear, unit length (indices as in the published Sequential).
template <class O>
using projection = seq<global_average, named<"2", linear<O::projection_hidden>>, relu,
                       named<"4", linear<O::projection_width>>, l2_normalise>;

/// Input of one crop.
template <class O>
using crop = shape<1, O::crop, O::crop, O::crop>;

}  // namespace insula::umbra
