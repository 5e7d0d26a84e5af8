// SPDX-License-Identifier: Apache-2.0
// NT-Xent, the contrastive loss of SimCLR.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// Normalised temperature-scaled cross-entropy; Chen et al. 2020 (arXiv 2002.05709), equation 1, as in Spijkervet/SimCLR
/// (simclr/modules/nt_xent.py). Rows 0 .. pairs - 1 are the first views, row a + pairs is the second view of row a; N = 2 pairs.
///   n_a = z_a / max(||z_a||, 1e-8),  s_ab = n_a.n_b / temperature,  p(a) = (a + pairs) mod N
///   *loss = 1/N sum_a ( log sum_{b != a} exp(s_ab) - s_{a,p(a)} )
/// gz[a,:] = d loss / d z_a (=); the bound 1e-8 of the norm passes no gradient of the norm. At least two pairs. No N x N matrix in
/// memory.
struct nt_xent {
  template <class T>
  struct args {
    index_t pairs, width;
    double temperature;
    T const* z;  // (2 pairs, width)
    T* gz;       // same shape, or null
    double* loss;
  };
};

}  // namespace insula::op
