// SPDX-License-Identifier: Apache-2.0
// Volumes as rows of patches and back, and the error of predicted patches where they were masked.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// Volumes cut into patches without overlap. `in` is a multiple of `patch`. Patches are numbered z-major, then y, then x; the
/// numbers in a patch's row are ordered (z, y, x, channel): number ((z patch.h + y) patch.w + x) channels + c. With one
/// plane, the order of patchify() in facebookresearch/mae models_mae.py.
struct patch_geometry {
  index_t batch;
  extent in, patch;
  index_t channels;

  constexpr extent grid() const { return {in.d / patch.d, in.h / patch.h, in.w / patch.w}; }
  constexpr index_t patches() const { return grid().size(); }
  constexpr index_t row() const { return patch.size() * channels; }
};

/// y[n,k,:] (+)= patch id of x[n],  id = ids ? ids[n,k] : k, for k < rows.
struct patchify {
  template <class T>
  struct args {
    patch_geometry g;
    index_t rows;             // per sample, at most patches()
    std::int32_t const* ids;  // (batch, patches()), the first `rows` of each sample are read; or null
    T const* x;               // (batch, in, channels)
    bool adds;
    T* y;  // (batch, rows, row())
  };
};

/// The transposed map: patch id of y[n] (+)= x[n,k,:]; what no row names gets 0, or is left as it is if adds. No id may occur
/// twice in a sample.
struct unpatchify {
  template <class T>
  struct args {
    patch_geometry g;
    index_t rows;
    std::int32_t const* ids;
    T const* x;  // (batch, rows, row())
    bool adds;
    T* y;  // (batch, in, channels)
  };
};

/// *sum = sum over masked patches of mean over the row of (x - target)^2, in double;  *count = number of masked patches.
/// target = the patch of the volume, or with `normalised` (patch - mean) / sqrt(variance + 1e-6), variance with divisor
/// row() - 1 (He et al. 2022, arXiv 2111.06377; facebookresearch/mae models_mae.py forward_loss).
struct masked_patch_mse {
  template <class T>
  struct args {
    patch_geometry g;
    bool normalised;
    std::uint8_t const* mask;  // (batch, patches()), 0 or 1
    T const* x;                // (batch, patches(), row())
    T const* volume;           // (batch, in, channels)
    double* sum;
    index_t* count;
  };
};
/// gx (+)= mask ? scale (x - target) : 0;   scale = 2 g / (row() count) for the mean sum / count with upstream gradient g.
struct masked_patch_mse_grad {
  template <class T>
  struct args {
    patch_geometry g;
    bool normalised;
    std::uint8_t const* mask;
    T const *x, *volume;
    T scale;
    bool adds;
    T* gx;
  };
};

}  // namespace insula::op
