// SPDX-License-Identifier: Apache-2.0
// Part of the library of compiled CPU kernels.
#include "insula/kernels/cpu/copy.hpp"
#include "insula/kernels/cpu/gather.hpp"
#include "insula/kernels/cpu/modality.hpp"
#include "insula/kernels/cpu/pad.hpp"
#include "insula/kernels/cpu/pointwise.hpp"
#include "insula/kernels/cpu/reduce.hpp"
#include "insula/kernels/cpu/resample.hpp"
#include "insula/kernels/cpu/segmentation.hpp"
#include "insula/kernels/cpu/target_loss.hpp"

#include "insula/kernels/cpu/instantiate.hpp"

INSULA_INSTANTIATE(copy)
INSULA_INSTANTIATE(fill)
INSULA_INSTANTIATE(merge_patches)
INSULA_INSTANTIATE(merge_patches_grad)
INSULA_INSTANTIATE(depth_to_space)
INSULA_INSTANTIATE(depth_to_space_grad)
INSULA_INSTANTIATE(concat)
INSULA_INSTANTIATE(concat_grad)
INSULA_INSTANTIATE(pad_end)
INSULA_INSTANTIATE(pad_end_grad)
INSULA_INSTANTIATE(split_modalities)
INSULA_INSTANTIATE(split_modalities_grad)
INSULA_INSTANTIATE(fuse_modalities)
INSULA_INSTANTIATE(fuse_modalities_grad)
INSULA_INSTANTIATE(add)
INSULA_INSTANTIATE(axpy)
INSULA_INSTANTIATE(mask_token)
INSULA_INSTANTIATE(mask_token_grad)
INSULA_INSTANTIATE(drop_path)
INSULA_INSTANTIATE(drop_path_grad)
INSULA_INSTANTIATE(average_pool)
INSULA_INSTANTIATE(average_pool_grad)
INSULA_INSTANTIATE(l2_normalise)
INSULA_INSTANTIATE(l2_normalise_grad)
INSULA_INSTANTIATE(sum_of_squares)
INSULA_INSTANTIATE(decayed_norms)
INSULA_INSTANTIATE(masked_mse)
INSULA_INSTANTIATE(masked_mse_grad)
INSULA_INSTANTIATE(info_nce)
INSULA_INSTANTIATE(cross_entropy)
INSULA_INSTANTIATE(resize)
INSULA_INSTANTIATE(resize_grad)
INSULA_INSTANTIATE(absolute_error)
INSULA_INSTANTIATE(absolute_error_grad)
INSULA_INSTANTIATE(bce_with_logits)
INSULA_INSTANTIATE(bce_with_logits_grad)
INSULA_INSTANTIATE(dice_bce)
