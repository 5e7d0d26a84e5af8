// SPDX-License-Identifier: Apache-2.0
// Layer, group and instance normalisation, fused with the residual addition and the activation that follow.
#pragma once

#include "insula/op/pointwise.hpp"

namespace insula::op {

/// y[r,c] = (x[r,c] - mean_r) rstd_r w[c] + b[c];  mean and biased variance over the width of each row.
struct layer_norm {
  template <class T>
  struct args {
    index_t rows, width;
    double eps;
    T const* x;      // (rows, width)
    T const *w, *b;  // (width) or both null
    T* y;            // (rows, width), may be x if stats is null
    T* stats;  // (rows, 3): mean, 1/sqrt(var + eps), what rounding took from the mean; null if no gradient will be
               // asked for
  };
};

/// gx may be gy (then adds must be false).
struct layer_norm_grad {
  template <class T>
  struct args {
    index_t rows, width;
    T const *x, *w, *stats, *gy;
    bool adds;
    T *gx, *gw, *gb;
  };
};

/// y = act( (x - mean) rstd w[c] + b[c] + skip ); statistics per sample over (channels of the group x positions),
/// biased variance. groups == channels is instance norm, groups == 1 normalises the whole sample.
struct group_norm {
  template <class T>
  struct args {
    index_t batch, positions, channels, groups;
    double eps;
    activation act;
    T const* x;      // (batch, positions, channels)
    T const* skip;   // same shape, or null
    T const *w, *b;  // (channels) or both null
    T* y;            // same shape as x; may be x or skip if no gradient will be asked for
    T* stats;        // (batch, groups, 3): mean, 1/sqrt(var + eps), what rounding took from the mean
  };
};

/// Recomputes the input of the activation from x, stats and skip. gx and gskip get their own `adds`;
/// either may be gy if its flag is false (but not both).
struct group_norm_grad {
  template <class T>
  struct args {
    index_t batch, positions, channels, groups;
    activation act;
    T const *x, *skip, *w, *b, *stats, *gy;
    bool adds;
    T* gx;
    bool skip_adds;
    T* gskip;
    T *gw, *gb;
  };
};

}  // namespace insula::op
