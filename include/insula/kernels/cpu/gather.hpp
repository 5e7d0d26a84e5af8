// SPDX-License-Identifier: Apache-2.0
// Patch merging, voxel shuffle and concatenation on the CPU: copies of whole channel runs, row by row.
#pragma once

#include <type_traits>

#include "insula/kernels/cpu/row.hpp"
#include "insula/op/gather.hpp"

namespace insula {

template <scalar T>
struct kernel<op::merge_patches, cpu, T> {
  static void run(context<cpu>& cx, typename op::merge_patches::args<T> const& a) {
    extent const half{(a.in.d + 1) / 2, (a.in.h + 1) / 2, (a.in.w + 1) / 2};
    index_t const channels = a.channels, rows = a.batch * half.d * half.h, width = half.w * 8 * channels;
    run_chunks(cx, rows, chunk_rows(width), [&](index_t begin, index_t end, index_t, int) {
      for (index_t row = begin; row < end; ++row) {
        index_t const n = row / (half.d * half.h), d = row / half.h % half.d, h = row % half.h;
        T const* from[8];  // first voxel of the row that sub-grid s reads, null beyond the end
        for (int s = 0; s < 8; ++s) {
          int const start = a.order.at[s];
          index_t const z = 2 * d + (start >> 2 & 1), r = 2 * h + (start >> 1 & 1);
          bool const inside = z < a.in.d && r < a.in.h;
          from[s] = inside ? a.x + ((n * a.in.d + z) * a.in.h + r) * a.in.w * channels : nullptr;
        }
        T* y = a.y + row * width;
        for (index_t w = 0; w < half.w; ++w)
          for (int s = 0; s < 8; ++s, y += channels) {
            index_t const q = 2 * w + (a.order.at[s] & 1);
            if (from[s] && q < a.in.w)
              simd::copy(channels, from[s] + q * channels, y);
            else
              simd::clear(channels, y);
          }
      }
    });
  }
};

template <scalar T>
struct kernel<op::merge_patches_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::merge_patches_grad::args<T> const& a) {
    if (!a.gx) return;
    extent const half{(a.in.d + 1) / 2, (a.in.h + 1) / 2, (a.in.w + 1) / 2};
    index_t const channels = a.channels, rows = a.batch * a.in.d * a.in.h, width = a.in.w * channels;
    int from[8][8], count[8] = {};  // the sub-grids that start at offset o
    for (int s = 0; s < 8; ++s) {
      int const o = a.order.at[s];
      from[o][count[o]++] = s;
    }
    run_chunks(cx, rows, chunk_rows(width), [&](index_t begin, index_t end, index_t, int) {
      for (index_t row = begin; row < end; ++row) {
        index_t const n = row / (a.in.d * a.in.h), z = row / a.in.h % a.in.d, r = row % a.in.h;
        T const* gy = a.gy + ((n * half.d + z / 2) * half.h + r / 2) * half.w * 8 * channels;
        T* gx = a.gx + row * width;
        for (index_t q = 0; q < a.in.w; ++q, gx += channels) {
          auto const o = (z & 1) << 2 | (r & 1) << 1 | (q & 1);
          if (count[o] == 0 && !a.adds) simd::clear(channels, gx);
          for (int k = 0; k < count[o]; ++k)
            simd::assign(a.adds || k > 0, channels, gy + (q / 2 * 8 + from[o][k]) * channels, gx);
        }
      }
    });
  }
};

namespace detail::gather {

/// Calls move(fine, coarse, stride, run) for the runs of the voxel shuffle in parallel: element i of a run is at
/// fine + i in the fine volume and at coarse + i * stride in the coarse one.
template <class Args, class F>
void each_shuffle_run(context<cpu>& cx, Args const& a, F const& move) {
  index_t const cells = a.block.size(), channels = a.channels, depth = channels * cells;
  index_t const rows = a.batch * a.in.d * a.in.h;
  index_t const fine_w = a.in.w * a.block.w * channels;
  run_chunks(cx, rows, chunk_rows(a.in.w * depth), [&](index_t begin, index_t end, index_t, int) {
    for (index_t row = begin; row < end; ++row) {
      index_t const nd = row / a.in.h, h = row % a.in.h;
      for (index_t i = 0; i < a.block.d; ++i)
        for (index_t j = 0; j < a.block.h; ++j) {
          index_t fine = ((nd * a.block.d + i) * a.in.h * a.block.h + h * a.block.h + j) * fine_w;
          index_t coarse = row * a.in.w * depth + (i * a.block.h + j) * a.block.w;
          for (index_t w = 0; w < a.in.w; ++w, coarse += depth) {
            if (channels == 1 && a.block.w == 2) {
              move(fine, coarse, index_t{1}, std::integral_constant<index_t, 2>{}), fine += 2;
            } else if (channels == 1) {
              move(fine, coarse, index_t{1}, a.block.w), fine += a.block.w;
            } else {
              for (index_t k = 0; k < a.block.w; ++k, fine += channels)
                move(fine, coarse + k, cells, channels);
            }
          }
        }
    }
  });
}

}  // namespace detail::gather

template <scalar T>
struct kernel<op::depth_to_space, cpu, T> {
  static void run(context<cpu>& cx, typename op::depth_to_space::args<T> const& a) {
    detail::gather::each_shuffle_run(cx, a, [&](index_t fine, index_t coarse, index_t stride, auto run) {
      for (index_t i = 0; i < run; ++i) a.y[fine + i] = a.x[coarse + i * stride];
    });
  }
};

template <scalar T>
struct kernel<op::depth_to_space_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::depth_to_space_grad::args<T> const& a) {
    if (!a.gx) return;
    detail::gather::each_shuffle_run(cx, a, [&](index_t fine, index_t coarse, index_t stride, auto run) {
      if (a.adds)
        for (index_t i = 0; i < run; ++i) a.gx[coarse + i * stride] += a.gy[fine + i];
      else
        for (index_t i = 0; i < run; ++i) a.gx[coarse + i * stride] = a.gy[fine + i];
    });
  }
};

template <scalar T>
struct kernel<op::concat, cpu, T> {
  static void run(context<cpu>& cx, typename op::concat::args<T> const& a) {
    index_t const ca = a.a_channels, cb = a.b_channels, width = ca + cb;
    run_chunks(cx, a.rows, chunk_rows(width), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        simd::copy(ca, a.a + r * ca, a.y + r * width);
        simd::copy(cb, a.b + r * cb, a.y + r * width + ca);
      }
    });
  }
};

template <scalar T>
struct kernel<op::concat_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::concat_grad::args<T> const& a) {
    index_t const ca = a.a_channels, cb = a.b_channels, width = ca + cb;
    run_chunks(cx, a.rows, chunk_rows(width), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        if (a.ga) simd::assign(a.a_adds, ca, a.gy + r * width, a.ga + r * ca);
        if (a.gb) simd::assign(a.b_adds, cb, a.gy + r * width + ca, a.gb + r * cb);
      }
    });
  }
};

}  // namespace insula
