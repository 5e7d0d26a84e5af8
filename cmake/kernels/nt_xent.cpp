// SPDX-License-Identifier: Apache-2.0
// Part of the library of compiled CPU kernels.
#include "insula/kernels/cpu/nt_xent.hpp"

#include "insula/kernels/cpu/instantiate.hpp"

INSULA_INSTANTIATE(nt_xent)
