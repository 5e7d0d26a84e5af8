// SPDX-License-Identifier: Apache-2.0
// Part of the library of compiled CPU kernels.
#include "insula/kernels/cpu/token.hpp"
#include "insula/kernels/cpu/patch.hpp"

#include "insula/kernels/cpu/instantiate.hpp"

INSULA_INSTANTIATE(patchify)
INSULA_INSTANTIATE(unpatchify)
INSULA_INSTANTIATE(masked_patch_mse)
INSULA_INSTANTIATE(masked_patch_mse_grad)
INSULA_INSTANTIATE(lead_tokens)
INSULA_INSTANTIATE(lead_tokens_grad)
INSULA_INSTANTIATE(restore_tokens)
INSULA_INSTANTIATE(restore_tokens_grad)
INSULA_INSTANTIATE(slice_tokens)
INSULA_INSTANTIATE(slice_tokens_grad)
