// SPDX-License-Identifier: Apache-2.0
// Part of the library of compiled CPU kernels.
#include "insula/kernels/cpu/norm.hpp"
#include "insula/kernels/cpu/activation.hpp"
#include "insula/kernels/cpu/update.hpp"

#include "insula/kernels/cpu/instantiate.hpp"

INSULA_INSTANTIATE(layer_norm)
INSULA_INSTANTIATE(layer_norm_grad)
INSULA_INSTANTIATE(group_norm)
INSULA_INSTANTIATE(group_norm_grad)
INSULA_INSTANTIATE(adam)
INSULA_INSTANTIATE(adamw)
INSULA_INSTANTIATE(momentum_step)
INSULA_INSTANTIATE(ema)
INSULA_INSTANTIATE(scale)
INSULA_INSTANTIATE(activate)
INSULA_INSTANTIATE(activate_grad)
