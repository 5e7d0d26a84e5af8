// SPDX-License-Identifier: Apache-2.0
// Ops of networks that see several modalities: channels to samples of their own, and weighted sums over modalities.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// y[n, m, p, c] = x[n, p, m*C + c]: every group of C channels becomes a volume of its own.
struct split_modalities {
  template <class T>
  struct args {
    index_t batch, modalities, positions, channels;  // channels: C, of one modality
    T const* x;                                      // (batch, positions, modalities * C)
    T* y;                                            // (batch, modalities, positions, C)
  };
};
/// gx[n, p, m*C + c] (+)= gy[n, m, p, c]
struct split_modalities_grad {
  template <class T>
  struct args {
    index_t batch, modalities, positions, channels;
    T const* gy;
    bool adds;
    T* gx;
  };
};

/// y[n, i] = sum over m of w[n * stride + m] x[n, m, i]
struct fuse_modalities {
  template <class T>
  struct args {
    index_t batch, modalities, size, stride;
    T const *x, *w;  // (batch, modalities, size), (batch, stride)
    T* y;            // (batch, size)
  };
};
/// gx[n, m, i] (+)= w[n * stride + m] gy[n, i];  gw[n * stride + m] += sum over i of gy[n, i] x[n, m, i], in double.
struct fuse_modalities_grad {
  template <class T>
  struct args {
    index_t batch, modalities, size, stride;
    T const *x, *w, *gy;
    bool adds;
    T *gx, *gw;
  };
};

}  // namespace insula::op
