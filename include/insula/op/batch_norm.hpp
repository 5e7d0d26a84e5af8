// SPDX-License-Identifier: Apache-2.0
// Batch normalisation, fused with the residual addition and activation, or the activation and max-pooling, that follow.
#pragma once

#include "insula/device/ranks.hpp"
#include "insula/op/pointwise.hpp"
#include "insula/op/pool.hpp"

namespace insula {

/// What a batch norm normalises with.
enum class norm_statistics {
  batch,    ///< mean and biased variance of this pass's rows, over all ranks
  running,  ///< the running mean and variance: evaluation
  kept      ///< `stats` as an earlier pass over the same x left it
};

namespace op {

/// y = act( (x - mean_c) rstd_c w[c] + b[c] + skip ) per channel; Ioffe and Szegedy 2015 (arXiv 1502.03167).
/// Statistics over rows = batch x positions of all ranks; rstd = 1 / sqrt(var + eps). With norm_statistics::batch, where running_mean
/// is not null:  running <- (1 - momentum) running + momentum batch, the variance with divisor rows - 1 (PyTorch's rule).
/// Throws error if norm_statistics::batch has fewer than two rows.
struct batch_norm {
  template <class T>
  struct args {
    index_t rows, channels;
    double eps;
    activation act;
    norm_statistics from;
    rank_group ranks;
    T const* x;      // (rows, channels)
    T const* skip;   // same shape, or null
    T const *w, *b;  // (channels) or both null
    double momentum;
    T *running_mean, *running_var;  // (channels); read for norm_statistics::running
    T* y;                           // same shape as x; may be x or skip if no gradient will be asked for
    T* stats;  // (3, channels): mean, rstd, what rounding took from the mean; null if no gradient will be asked for
               // (not with norm_statistics::kept)
  };
};

/// Recomputes the input of the activation from x, stats and skip. `from` is that of the forward pass: with norm_statistics::running
/// mean and rstd are constants. gw and gb are sums over this rank's rows. gx and gskip get their own `adds`; either may be gy if
/// its flag is false (but not both).
struct batch_norm_grad {
  template <class T>
  struct args {
    index_t rows, channels;
    activation act;
    norm_statistics from;
    rank_group ranks;
    T const *x, *skip, *w, *b, *stats, *gy;
    bool adds;
    T* gx;
    bool skip_adds;
    T* gskip;
    T *gw, *gb;
  };
};

/// y = max_pool3d( act( (x - mean_c) rstd_c w[c] + b[c] ) ) without the normalised volume in memory: the stem of a residual
/// network. Statistics as batch_norm, pick as max_pool3d.
struct batch_norm_pool {
  template <class T>
  struct args {
    pool3d_geometry g;
    double eps;
    activation act;
    norm_statistics from;
    rank_group ranks;
    T const* x;      // (batch, in, channels)
    T const *w, *b;  // (channels) or both null
    double momentum;
    T *running_mean, *running_var;
    T* y;                // (batch, out, channels)
    T* stats;            // (3, channels) or null, as batch_norm
    std::uint8_t* pick;  // same shape as y, or null
  };
};
/// gx may be x if adds is false.
struct batch_norm_pool_grad {
  template <class T>
  struct args {
    pool3d_geometry g;
    activation act;
    norm_statistics from;
    rank_group ranks;
    T const *x, *w, *b, *stats;
    std::uint8_t const* pick;
    T const* gy;
    bool adds;
    T *gx, *gw, *gb;
  };
};

}  // namespace op
}  // namespace insula
