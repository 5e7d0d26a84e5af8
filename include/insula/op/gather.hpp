// SPDX-License-Identifier: Apache-2.0
// Ops that move data: patch merging, voxel shuffle, concatenation, padding.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// Order in which patch merging concatenates the eight sub-grids: start offsets (d, h, w) as bits 4, 2, 1.
struct merge_order {
  std::uint8_t at[8];
  friend constexpr bool operator==(merge_order const&, merge_order const&) = default;
};
/// MONAI 1.5 "merging": 000, 100, 010, 001, 110, 101, 011, 111.
inline constexpr merge_order merging{{0, 4, 2, 1, 6, 5, 3, 7}};
/// MONAI <= 1.4 "merging" (two sub-grids twice, 110 and 011 missing): 000, 100, 010, 001, 101, 010, 001, 111.
inline constexpr merge_order merging_before_1_5{{0, 4, 2, 1, 5, 2, 1, 7}};
/// MONAI "mergingv2", lexicographic.
inline constexpr merge_order merging_v2{{0, 1, 2, 3, 4, 5, 6, 7}};

/// y[n, (d,h,w), s*C + c] = x[n, (2d,2h,2w) + order[s], c], zero beyond the end of an odd axis.
/// Output extent ceil(in / 2), channels 8 C.
struct merge_patches {
  template <class T>
  struct args {
    index_t batch;
    extent in;
    index_t channels;
    merge_order order;
    T const* x;  // (batch, in, C)
    T* y;        // (batch, ceil(in/2), 8 C)
  };
};
/// gx (+)= the transposed map (sub-grids that occur twice add up, those that never occur get 0).
struct merge_patches_grad {
  template <class T>
  struct args {
    index_t batch;
    extent in;
    index_t channels;
    merge_order order;
    T const* gy;
    bool adds;
    T* gx;
  };
};

/// Voxel shuffle: y[n, p*block + (i,j,k), c] = x[n, p, ((c*block.d + i)*block.h + j)*block.w + k].
/// in is the coarse extent; x has channels * block.size() channels, y has `channels`.
struct depth_to_space {
  template <class T>
  struct args {
    index_t batch;
    extent in;
    index_t channels;  // of the fine output
    extent block;
    T const* x;
    T* y;
  };
};
struct depth_to_space_grad {
  template <class T>
  struct args {
    index_t batch;
    extent in;
    index_t channels;
    extent block;
    T const* gy;
    bool adds;
    T* gx;
  };
};

/// y[n, p, :] = p inside `in` ? x[n, p, :] : 0;  out >= in per axis.
struct pad_end {
  template <class T>
  struct args {
    index_t batch;
    extent in, out;
    index_t channels;
    T const* x;  // (batch, in, channels)
    T* y;        // (batch, out, channels)
  };
};
struct pad_end_grad {
  template <class T>
  struct args {
    index_t batch;
    extent in, out;
    index_t channels;
    T const* gy;
    bool adds;
    T* gx;
  };
};

/// y[r,:] = [a[r,:], b[r,:]]
struct concat {
  template <class T>
  struct args {
    index_t rows, a_channels, b_channels;
    T const *a, *b;
    T* y;
  };
};
struct concat_grad {
  template <class T>
  struct args {
    index_t rows, a_channels, b_channels;
    T const* gy;
    bool a_adds;
    T* ga;
    bool b_adds;
    T* gb;
  };
};

}  // namespace insula::op
