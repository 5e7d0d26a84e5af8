// SPDX-License-Identifier: Apache-2.0
// Reference twins of patch merging, voxel shuffle and concatenation.
#pragma once

#include "insula/device/cpu.hpp"
#include "insula/op/gather.hpp"

namespace insula {

template <class T>
struct kernel<op::merge_patches, plain, T> {
  static void run(context<plain>&, typename op::merge_patches::args<T> const& a) {
    extent const half{(a.in.d + 1) / 2, (a.in.h + 1) / 2, (a.in.w + 1) / 2};
    T* y = a.y;
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t d = 0; d < half.d; ++d)
        for (index_t h = 0; h < half.h; ++h)
          for (index_t w = 0; w < half.w; ++w)
            for (int s = 0; s < 8; ++s) {
              int const start = a.order.at[s];
              index_t const z = 2 * d + (start >> 2 & 1), r = 2 * h + (start >> 1 & 1),
                            q = 2 * w + (start & 1);
              bool const inside = z < a.in.d && r < a.in.h && q < a.in.w;
              for (index_t c = 0; c < a.channels; ++c)
                *y++ = inside ? a.x[(((n * a.in.d + z) * a.in.h + r) * a.in.w + q) * a.channels + c] : T(0);
            }
  }
};

template <class T>
struct kernel<op::merge_patches_grad, plain, T> {
  static void run(context<plain>&, typename op::merge_patches_grad::args<T> const& a) {
    if (!a.gx) return;
    extent const half{(a.in.d + 1) / 2, (a.in.h + 1) / 2, (a.in.w + 1) / 2};
    if (!a.adds)
      for (index_t i = 0; i < a.batch * a.in.size() * a.channels; ++i) a.gx[i] = 0;
    T const* gy = a.gy;
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t d = 0; d < half.d; ++d)
        for (index_t h = 0; h < half.h; ++h)
          for (index_t w = 0; w < half.w; ++w)
            for (int s = 0; s < 8; ++s, gy += a.channels) {
              int const start = a.order.at[s];
              index_t const z = 2 * d + (start >> 2 & 1), r = 2 * h + (start >> 1 & 1),
                            q = 2 * w + (start & 1);
              if (z >= a.in.d || r >= a.in.h || q >= a.in.w) continue;
              for (index_t c = 0; c < a.channels; ++c)
                a.gx[(((n * a.in.d + z) * a.in.h + r) * a.in.w + q) * a.channels + c] += gy[c];
            }
  }
};

template <class T>
struct kernel<op::depth_to_space, plain, T> {
  static void run(context<plain>&, typename op::depth_to_space::args<T> const& a) {
    extent const out{a.in.d * a.block.d, a.in.h * a.block.h, a.in.w * a.block.w};
    T* y = a.y;
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t d = 0; d < out.d; ++d)
        for (index_t h = 0; h < out.h; ++h)
          for (index_t w = 0; w < out.w; ++w) {
            index_t const p =
                ((n * a.in.d + d / a.block.d) * a.in.h + h / a.block.h) * a.in.w + w / a.block.w;
            index_t const cell = (d % a.block.d * a.block.h + h % a.block.h) * a.block.w + w % a.block.w;
            for (index_t c = 0; c < a.channels; ++c) *y++ = a.x[(p * a.channels + c) * a.block.size() + cell];
          }
  }
};

template <class T>
struct kernel<op::depth_to_space_grad, plain, T> {
  static void run(context<plain>&, typename op::depth_to_space_grad::args<T> const& a) {
    if (!a.gx) return;
    extent const out{a.in.d * a.block.d, a.in.h * a.block.h, a.in.w * a.block.w};
    T const* gy = a.gy;
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t d = 0; d < out.d; ++d)
        for (index_t h = 0; h < out.h; ++h)
          for (index_t w = 0; w < out.w; ++w) {
            index_t const p =
                ((n * a.in.d + d / a.block.d) * a.in.h + h / a.block.h) * a.in.w + w / a.block.w;
            index_t const cell = (d % a.block.d * a.block.h + h % a.block.h) * a.block.w + w % a.block.w;
            for (index_t c = 0; c < a.channels; ++c) {
              T& g = a.gx[(p * a.channels + c) * a.block.size() + cell];
              g = a.adds ? g + *gy : *gy;
              ++gy;
            }
          }
  }
};

template <class T>
struct kernel<op::concat, plain, T> {
  static void run(context<plain>&, typename op::concat::args<T> const& a) {
    T* y = a.y;
    for (index_t r = 0; r < a.rows; ++r) {
      for (index_t c = 0; c < a.a_channels; ++c) *y++ = a.a[r * a.a_channels + c];
      for (index_t c = 0; c < a.b_channels; ++c) *y++ = a.b[r * a.b_channels + c];
    }
  }
};

template <class T>
struct kernel<op::concat_grad, plain, T> {
  static void run(context<plain>&, typename op::concat_grad::args<T> const& a) {
    T const* gy = a.gy;
    for (index_t r = 0; r < a.rows; ++r) {
      for (index_t c = 0; c < a.a_channels; ++c, ++gy)
        if (a.ga) a.ga[r * a.a_channels + c] = a.a_adds ? a.ga[r * a.a_channels + c] + *gy : *gy;
      for (index_t c = 0; c < a.b_channels; ++c, ++gy)
        if (a.gb) a.gb[r * a.b_channels + c] = a.b_adds ? a.gb[r * a.b_channels + c] + *gy : *gy;
    }
  }
};

}  // namespace insula
