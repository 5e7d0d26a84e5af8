// SPDX-License-Identifier: Apache-2.0
// 3D max-pooling.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// The geometry of a 3D pooling. out = (in + 2 pad - kernel) / stride + 1 per axis (rounded down); pad is at most half the
/// kernel, so that no window lies outside. A window has at most 255 voxels.
struct pool3d_geometry {
  index_t batch;
  extent in;
  index_t channels;
  extent kernel{3, 3, 3}, stride{2, 2, 2}, pad{1, 1, 1};

  constexpr extent out() const {
    extent o;
    for (int i = 0; i < 3; ++i) o[i] = (in[i] + 2 * pad[i] - kernel[i]) / stride[i] + 1;
    return o;
  }
};

/// y[n,p,c] = max over taps k of x[n, p stride - pad + k, c]; what lies outside the volume does not count. pick[n,p,c] is the tap
/// of the first maximum in the order depth, height, width: k = (kd kernel.h + kh) kernel.w + kw. NaN wins, as in PyTorch.
struct max_pool3d {
  template <class T>
  struct args {
    pool3d_geometry g;
    T const* x;          // (batch, in, channels)
    T* y;                // (batch, out, channels)
    std::uint8_t* pick;  // same shape as y; null if no gradient will be asked for
  };
};
/// gx (+)= sum of gy over the windows that picked the voxel.
struct max_pool3d_grad {
  template <class T>
  struct args {
    pool3d_geometry g;
    std::uint8_t const* pick;
    T const* gy;
    bool adds;
    T* gx;
  };
};

}  // namespace insula::op
