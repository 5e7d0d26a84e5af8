// SPDX-License-Identifier: Apache-2.0
// Part of the library of compiled CPU kernels.
#include "insula/kernels/cpu/conv.hpp"

#include "insula/kernels/cpu/instantiate.hpp"

INSULA_INSTANTIATE(conv3d_grad)
INSULA_INSTANTIATE(conv3d_transpose_grad)
