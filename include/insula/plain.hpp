// SPDX-License-Identifier: Apache-2.0
// The reference twins of all kernels: context<plain>, any scalar type.
#pragma once

#include "insula/kernels/plain/activation.hpp"
#include "insula/kernels/plain/attention.hpp"
#include "insula/kernels/plain/batch_norm.hpp"
#include "insula/kernels/plain/conv.hpp"
#include "insula/kernels/plain/copy.hpp"
#include "insula/kernels/plain/gather.hpp"
#include "insula/kernels/plain/gemm.hpp"
#include "insula/kernels/plain/modality.hpp"
#include "insula/kernels/plain/norm.hpp"
#include "insula/kernels/plain/nt_xent.hpp"
#include "insula/kernels/plain/pad.hpp"
#include "insula/kernels/plain/patch.hpp"
#include "insula/kernels/plain/pointwise.hpp"
#include "insula/kernels/plain/pool.hpp"
#include "insula/kernels/plain/reduce.hpp"
#include "insula/kernels/plain/resample.hpp"
#include "insula/kernels/plain/target_loss.hpp"
#include "insula/kernels/plain/token.hpp"
#include "insula/kernels/plain/update.hpp"
#include "insula/kernels/plain/window_attention.hpp"
