// SPDX-License-Identifier: Apache-2.0
// Resizing feature maps.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula {

/// How a resized value is made from its neighbours.
enum class resizing { nearest, trilinear };

namespace op {

/// Resize without corner alignment (PyTorch align_corners = false). Trilinear, per axis:
///   s = max((o + 0.5) in/out - 0.5, 0), i0 = floor(s), i1 = min(i0 + 1, in - 1), t = s - i0.
/// Nearest: min(floor(float(o) * (float(in)/float(out))), in - 1), the product in float32; out == in: o; out == 2 in: o/2.
struct resize {
  template <class T>
  struct args {
    index_t batch, channels;
    extent in, out;
    resizing how;
    T const* x;  // (batch, in, channels)
    T* y;        // (batch, out, channels)
  };
};
struct resize_grad {
  template <class T>
  struct args {
    index_t batch, channels;
    extent in, out;
    resizing how;
    T const* gy;
    bool adds;
    T* gx;
  };
};

}  // namespace op
}  // namespace insula
