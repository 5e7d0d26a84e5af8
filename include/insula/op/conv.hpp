// SPDX-License-Identifier: Apache-2.0
// 3D convolution and transposed convolution.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// The geometry of a 3D convolution. out = (in + 2 pad - kernel) / stride + 1 per axis (rounded down).
/// groups divides both channel counts; groups == in_channels == out_channels is depth-wise.
struct conv3d_geometry {
  index_t batch;
  extent in;
  index_t in_channels, out_channels;
  extent kernel{3, 3, 3}, stride{1, 1, 1}, pad{0, 0, 0};
  index_t groups = 1;

  constexpr extent out() const {
    extent o;
    for (int i = 0; i < 3; ++i) o[i] = (in[i] + 2 * pad[i] - kernel[i]) / stride[i] + 1;
    return o;
  }
  constexpr index_t weights() const { return kernel.size() * (in_channels / groups) * out_channels; }
};

/// Cross-correlation with zero padding:
/// y[n,p,o] = b[o] + sum_{k,i} x[n, p stride - pad + k, i] w[k, i, o],  i over the channels of o's group.
struct conv3d {
  template <class T>
  struct args {
    conv3d_geometry g;
    T const* x;  // (batch, in.d, in.h, in.w, in_channels)
    T const* w;  // (kd, kh, kw, in_channels / groups, out_channels)
    T const* b;  // (out_channels) or null
    T* y;        // (batch, out.d, out.h, out.w, out_channels)
  };
};

/// gx may be x if gw is null and adds is false.
struct conv3d_grad {
  template <class T>
  struct args {
    conv3d_geometry g;
    T const *x, *w, *gy;
    bool adds;
    T *gx, *gw, *gb;
  };
};

/// Transposed convolution without overlap (stride = kernel), as in U-shaped decoders:
/// y[n, p kernel + k, o] = b[o] + sum_i x[n,p,i] w[k,i,o].  out = in * kernel per axis.
struct conv3d_transpose {
  template <class T>
  struct args {
    index_t batch;
    extent in;
    index_t in_channels, out_channels;
    extent kernel;
    T const* x;  // (batch, in, in_channels)
    T const* w;  // (kd, kh, kw, in_channels, out_channels)
    T const* b;  // (out_channels) or null
    T* y;        // (batch, in * kernel, out_channels)
  };
};

struct conv3d_transpose_grad {
  template <class T>
  struct args {
    index_t batch;
    extent in;
    index_t in_channels, out_channels;
    extent kernel;
    T const *x, *w, *gy;
    bool adds;
    T *gx, *gw, *gb;
  };
};

}  // namespace insula::op
