// SPDX-License-Identifier: Apache-2.0
// Matrix products of layers: linear, and the transformer's feed-forward half-block.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// y[r,o] = b[o] + sum_i x[r,i] w[i,o]
struct linear {
  template <class T>
  struct args {
    index_t rows, in, out;
    T const* x;  // (rows, in)
    T const* w;  // (in, out)
    T const* b;  // (out) or null
    T* y;        // (rows, out)
  };
};

/// u[r,o] = b[o] + sum_i x[r,i] w[i,o],  y = gelu(u), the exact form. The gradient is that of activate at u, then linear_grad.
struct linear_gelu {
  template <class T>
  struct args {
    index_t rows, in, out;
    T const* x;  // (rows, in)
    T const* w;  // (in, out)
    T const* b;  // (out) or null
    T* u;        // (rows, out) for the backward pass, or null; not y
    T* y;        // (rows, out)
  };
};

/// gx (+)= gy w^T,  gw += x^T gy,  gb += column sums of gy. gx may be x if gw is null and adds is false.
struct linear_grad {
  template <class T>
  struct args {
    index_t rows, in, out;
    T const *x, *w, *gy;
    bool adds;
    T *gx, *gw, *gb;
  };
};

/// Feed-forward half-block, fused: y = x + W2 gelu(W1 norm(x) + b1) + b2, norm = affine LayerNorm over width,
/// gelu(u) = u/2 (1 + erf(u / sqrt 2)). The hidden layer never leaves the cache. y may be x.
struct mlp {
  template <class T>
  struct args {
    index_t rows, width, hidden;
    double eps;
    T const* x;                // (rows, width)
    T const *norm_w, *norm_b;  // (width)
    T const *w1, *b1;          // (width, hidden), (hidden)
    T const *w2, *b2;          // (hidden, width), (width)
    T* y;                      // (rows, width)
  };
};

/// Gradient of mlp from its input x alone: everything inside is computed again. gx contains the residual's gy.
/// gx may be gy (then adds must be false).
struct mlp_grad {
  template <class T>
  struct args {
    index_t rows, width, hidden;
    double eps;
    T const *x, *norm_w, *norm_b, *w1, *b1, *w2, *b2, *gy;
    bool adds;
    T *gx, *gnorm_w, *gnorm_b, *gw1, *gb1, *gw2, *gb2;
  };
};

}  // namespace insula::op
