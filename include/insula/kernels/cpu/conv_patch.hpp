// SPDX-License-Identifier: Apache-2.0
// Convolutions that are matrix products: one tap, and patches that do not overlap.
#pragma once

#include "insula/kernels/cpu/conv_lattice.hpp"
#include "insula/kernels/cpu/product.hpp"

namespace insula::detail::conv {

/// Whether y = x w, one row per voxel.
inline bool is_product(op::conv3d_geometry const& g) {
  return g.kernel == cube(1) && g.stride == cube(1) && g.pad == extent{0, 0, 0} && g.groups == 1;
}

/// Whether every input belongs to one output at most, as in patch embeddings.
inline bool is_patches(op::conv3d_geometry const& g) {
  return g.kernel == g.stride && g.pad == extent{0, 0, 0} && g.groups == 1;
}

/// gx (+)= the input gradient of a convolution over patches: per row of outputs one product with the transposed weights,
/// whose columns (tap, channel) are then put where they belong. Inputs behind the last whole patch get nothing.
template <scalar T>
void patch_gradient(context<cpu>& cx, op::conv3d_geometry const& g, T const* gy, T const* w, bool adds,
                    T* gx) {
  extent const out = g.out(), k = g.kernel;
  index_t const columns = k.size() * g.in_channels, segment = k.w * g.in_channels;
  index_t const row = g.in.w * g.in_channels, length = out.w * segment;
  simd::columns<T> const c{columns};
  scratch shared(cx);
  auto const b =
      detail::pack_weights<true>(cx, g.out_channels, columns, w, shared.take<T>(g.out_channels * c.padded()));
  // a task: the input rows of one row of outputs, or one row or plane that no output reaches
  index_t const rows_h = ceil_divide(g.in.h, k.h), planes = ceil_divide(g.in.d, k.d);
  cx.pool.run(g.batch * planes * rows_h, [&](index_t task, int worker) {
    index_t const oh = task % rows_h, od = task / rows_h % planes, sample = task / rows_h / planes;
    bool const reached = od < out.d && oh < out.h;
    scratch memory(cx, worker);
    T* const part = memory.take<T>(out.w * columns);
    if (reached)
      simd::panel_product(out.w, c, 0, c.panels(), g.out_channels,
                          gy + ((sample * out.d + od) * out.h + oh) * out.w * g.out_channels, g.out_channels,
                          b, 0, {}, part, columns);
    for (index_t d = od * k.d; d < (od + 1) * k.d && d < g.in.d; ++d)
      for (index_t h = oh * k.h; h < (oh + 1) * k.h && h < g.in.h; ++h) {
        T* const y = gx + ((sample * g.in.d + d) * g.in.h + h) * row;
        index_t const filled = reached ? length : 0;
        T const* from = part + ((d - od * k.d) * k.h + h - oh * k.h) * segment;
        for (index_t i = 0; i < filled; i += segment, from += columns)
          for (index_t j = 0; j < segment; ++j) y[i + j] = adds ? y[i + j] + from[j] : from[j];
        if (!adds) simd::clear(row - filled, y + filled);
      }
  });
}

}  // namespace insula::detail::conv
