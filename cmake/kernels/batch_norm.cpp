// SPDX-License-Identifier: Apache-2.0
// Part of the library of compiled CPU kernels.
#include "insula/kernels/cpu/batch_norm.hpp"

#include "insula/kernels/cpu/instantiate.hpp"

INSULA_INSTANTIATE(batch_norm)
INSULA_INSTANTIATE(batch_norm_grad)
INSULA_INSTANTIATE(batch_norm_pool)
INSULA_INSTANTIATE(batch_norm_pool_grad)
INSULA_INSTANTIATE(max_pool3d)
INSULA_INSTANTIATE(max_pool3d_grad)
