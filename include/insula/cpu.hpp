// SPDX-License-Identifier: Apache-2.0
// The CPU kernels: AVX-512, AVX2 or portable, chosen by the compiler's flags.
#pragma once

#include "insula/device/cpu.hpp"
#include "insula/kernels/cpu/simd.hpp"

#ifndef INSULA_LINKED_KERNELS  // else the program is linked to them
#include "insula/kernels/cpu/activation.hpp"
#include "insula/kernels/cpu/attention.hpp"
#include "insula/kernels/cpu/batch_norm.hpp"
#include "insula/kernels/cpu/conv.hpp"
#include "insula/kernels/cpu/copy.hpp"
#include "insula/kernels/cpu/gather.hpp"
#include "insula/kernels/cpu/gemm.hpp"
#include "insula/kernels/cpu/modality.hpp"
#include "insula/kernels/cpu/norm.hpp"
#include "insula/kernels/cpu/nt_xent.hpp"
#include "insula/kernels/cpu/pad.hpp"
#include "insula/kernels/cpu/patch.hpp"
#include "insula/kernels/cpu/pointwise.hpp"
#include "insula/kernels/cpu/pool.hpp"
#include "insula/kernels/cpu/reduce.hpp"
#include "insula/kernels/cpu/resample.hpp"
#include "insula/kernels/cpu/segmentation.hpp"
#include "insula/kernels/cpu/target_loss.hpp"
#include "insula/kernels/cpu/token.hpp"
#include "insula/kernels/cpu/update.hpp"
#include "insula/kernels/cpu/window_attention.hpp"
#include "insula/kernels/cpu/window_attention_backward.hpp"
#endif
