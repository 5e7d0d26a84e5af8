// SPDX-License-Identifier: Apache-2.0
// Row softmax, and global multi-head attention without a score matrix in memory.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// y[r,:] = softmax(x[r,:]). y may be x.
struct softmax {
  template <class T>
  struct args {
    index_t rows, width;
    T const* x;
    T* y;
  };
};
/// gx (+)= y (gy - sum(y gy))
struct softmax_grad {
  template <class T>
  struct args {
    index_t rows, width;
    T const *y, *gy;
    bool adds;
    T* gx;
  };
};

/// o = softmax(q k^T / sqrt(width)) v per sample and head, width = channels / heads. qkv rows are [q | k | v], each
/// head-major. Streaming soft-max over key blocks: Dao et al. 2022 (arXiv 2205.14135).
struct attention {
  template <class T>
  struct args {
    index_t batch, tokens, channels, heads;
    T const* qkv;  // (batch, tokens, 3 channels)
    T* o;          // (batch, tokens, channels)
    T* lse;        // (batch, heads, tokens) or null if no gradient follows
  };
};
struct attention_grad {
  template <class T>
  struct args {
    index_t batch, tokens, channels, heads;
    T const *qkv, *o, *lse, *go;
    bool adds;
    T* gqkv;
  };
};

}  // namespace insula::op
