// SPDX-License-Identifier: Apache-2.0
// Part of the library of compiled CPU kernels.
#include "insula/kernels/cpu/window_attention.hpp"
#include "insula/kernels/cpu/window_attention_backward.hpp"

#include "insula/kernels/cpu/instantiate.hpp"

INSULA_INSTANTIATE(window_attention)
INSULA_INSTANTIATE(window_attention_grad)
