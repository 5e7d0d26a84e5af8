// SPDX-License-Identifier: Apache-2.0
// Part of the library of compiled CPU kernels.
#include "insula/kernels/cpu/attention.hpp"
#include "insula/kernels/cpu/gemm.hpp"

#include "insula/kernels/cpu/instantiate.hpp"

INSULA_INSTANTIATE(linear)
INSULA_INSTANTIATE(linear_gelu)
INSULA_INSTANTIATE(linear_grad)
INSULA_INSTANTIATE(mlp)
INSULA_INSTANTIATE(mlp_grad)
INSULA_INSTANTIATE(attention)
INSULA_INSTANTIATE(attention_grad)
INSULA_INSTANTIATE(softmax)
INSULA_INSTANTIATE(softmax_grad)
