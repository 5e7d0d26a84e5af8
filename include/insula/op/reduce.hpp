// SPDX-License-Identifier: Apache-2.0
// Pooling, normalisation of vectors, losses and sums.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// y[n,c] = mean over positions of x[n,p,c]
struct average_pool {
  template <class T>
  struct args {
    index_t batch, positions, channels;
    T const* x;
    T* y;
  };
};
struct average_pool_grad {
  template <class T>
  struct args {
    index_t batch, positions, channels;
    T const* gy;
    bool adds;
    T* gx;
  };
};

/// y[r,:] = x[r,:] / max(||x[r,:]||_2, 1e-12)
struct l2_normalise {
  template <class T>
  struct args {
    index_t rows, width;
    T const* x;
    T* y;
  };
};
struct l2_normalise_grad {
  template <class T>
  struct args {
    index_t rows, width;
    T const *x, *gy;
    bool adds;
    T* gx;
  };
};

/// *sum = sum over i of x[i]^2, accumulated in double. NaN or Inf in x gives a non-finite sum.
struct sum_of_squares {
  template <class T>
  struct args {
    index_t n;
    T const* x;
    double* sum;
  };
};

/// *w_squares = sum of w^2, *g_squares = sum of (grad_scale g + decay w)^2, in double: the norms of LARS.
struct decayed_norms {
  template <class T>
  struct args {
    index_t n;
    double grad_scale, decay;
    T const *g, *w;
    double *w_squares, *g_squares;
  };
};

/// Masked mean squared error: *sum = sum over masked positions of (x - target)^2 over channels, in double;
/// *count = number of masked elements. The mean is sum / count.
struct masked_mse {
  template <class T>
  struct args {
    index_t positions, channels;
    std::uint8_t const* mask;  // (positions), null: all
    T const *x, *target;       // (positions, channels)
    double* sum;
    index_t* count;
  };
};
/// gx (+)= mask ? scale (x - target) : 0;   scale = 2 g / count for the mean with upstream gradient g.
struct masked_mse_grad {
  template <class T>
  struct args {
    index_t positions, channels;
    std::uint8_t const* mask;
    T const *x, *target;
    T scale;
    bool adds;
    T* gx;
  };
};

/// What a queue slot that is no valid negative contributes.
enum class invalid_negative {
  clamped,  ///< similarity -1: the -10 fill of UMBRA's code after its clamp to [-1, 1] (the trained behaviour)
  excluded  ///< nothing
};

/// InfoNCE with a queue of negatives; He et al. 2020 (arXiv 1911.05722), patient-aware as in UMBRA
/// (models/foundation.py: contrastive_loss). Per row i, with clamp to [-1, 1] of every similarity:
///   l_0 = q_i.k_i,  l_j = valid(i,j) ? q_i.queue_j : -1,  valid = queue_patient[j] != 0 && != patient[i]
///   *loss = mean_i ( logsumexp(l / temperature) - l_0 / temperature )
/// gq[i,:] = d loss / d q_i (=): a clamped similarity passes gradient inside [-1, 1], bounds included.
/// No gradient for keys and queue. One pass over the queue in tiles; no logits in memory.
struct info_nce {
  template <class T>
  struct args {
    index_t batch, width, length;
    double temperature;
    invalid_negative invalid;
    T const *q, *k;                     // (batch, width), rows of unit length
    T const* queue;                     // (length, width), one key per row
    std::int64_t const* patient;        // (batch)
    std::int64_t const* queue_patient;  // (length), 0 = empty slot
    T* gq;                              // (batch, width) or null
    double* loss;
    index_t* negatives;  // total number of valid (i, j), or null
  };
};

/// *loss = mean_r ( logsumexp(x[r,:]) - x[r, label[r]] );  gx = d loss / d x (=) or null.
struct cross_entropy {
  template <class T>
  struct args {
    index_t rows, classes;
    T const* x;
    std::int32_t const* label;  // (rows), 0 .. classes-1
    T* gx;
    double* loss;
  };
};

}  // namespace insula::op
