// SPDX-License-Identifier: Apache-2.0
// The ops over modalities on the CPU: chunks of voxels, all modalities of a chunk at once.
#pragma once

#include "insula/kernels/cpu/reduce.hpp"
#include "insula/op/modality.hpp"

namespace insula {

namespace detail::modality {

/// Calls move(together, apart) for every voxel and modality in parallel: where its channels begin among those of all
/// modalities, and in the volume of its own.
template <class Args, class F>
void each_voxel(context<cpu>& cx, Args const& a, F const& move) {
  run_chunks(cx, a.batch * a.positions, chunk_rows(a.modalities * a.channels),
             [&](index_t begin, index_t end, index_t, int) {
               for (index_t m = 0; m < a.modalities; ++m)
                 for (index_t row = begin; row < end; ++row) {
                   index_t const n = row / a.positions, p = row % a.positions;
                   move((row * a.modalities + m) * a.channels,
                        ((n * a.modalities + m) * a.positions + p) * a.channels);
                 }
             });
}

}  // namespace detail::modality

template <scalar T>
struct kernel<op::split_modalities, cpu, T> {
  static void run(context<cpu>& cx, typename op::split_modalities::args<T> const& a) {
    detail::modality::each_voxel(cx, a, [&](index_t together, index_t apart) {
      if (a.channels == 1)
        a.y[apart] = a.x[together];
      else
        simd::copy(a.channels, a.x + together, a.y + apart);
    });
  }
};

template <scalar T>
struct kernel<op::split_modalities_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::split_modalities_grad::args<T> const& a) {
    if (!a.gx) return;
    detail::modality::each_voxel(cx, a, [&](index_t together, index_t apart) {
      simd::assign(a.adds, a.channels, a.gy + apart, a.gx + together);
    });
  }
};

template <scalar T>
struct kernel<op::fuse_modalities, cpu, T> {
  static void run(context<cpu>& cx, typename op::fuse_modalities::args<T> const& a) {
    index_t const chunks = chunk_count(a.size, chunk_elements);  // of one sample
    cx.pool.run(a.batch * chunks, [&](index_t task, int) {
      index_t const n = task / chunks, first = task % chunks * chunk_elements, left = a.size - first;
      T const *x = a.x + n * a.modalities * a.size + first, *w = a.w + n * a.stride;
      T* y = a.y + n * a.size + first;
      simd::each_register<T>(left < chunk_elements ? left : chunk_elements, [=](index_t i, auto lanes) {
        auto sum = simd::broadcast(w[0]) * simd::load(x + i, lanes);
        for (index_t m = 1; m < a.modalities; ++m)
          sum = simd::fma(simd::broadcast(w[m]), simd::load(x + m * a.size + i, lanes), sum);
        simd::store(y + i, sum, lanes);
      });
    });
  }
};

template <scalar T>
struct kernel<op::fuse_modalities_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::fuse_modalities_grad::args<T> const& a) {
    index_t const chunks = chunk_count(a.size, chunk_elements), rows = a.batch * a.modalities;
    scratch s(cx);
    double* const part = s.take<double>(rows * chunks);
    cx.pool.run(rows * chunks, [&](index_t task, int) {
      index_t const row = task / chunks, n = row / a.modalities, m = row % a.modalities;
      index_t const first = task % chunks * chunk_elements, left = a.size - first;
      index_t const count = left < chunk_elements ? left : chunk_elements;
      T const *gy = a.gy + n * a.size + first, *x = a.x + row * a.size + first;
      if (a.gw) part[task] = detail::reduce::dot(count, gy, x);
      if (!a.gx) return;
      T* gx = a.gx + row * a.size + first;
      auto const w = simd::broadcast(a.w[n * a.stride + m]);
      simd::each_register<T>(count, [=](index_t i, auto lanes) {
        auto g = w * simd::load(gy + i, lanes);
        if (a.adds) g += simd::load(gx + i, lanes);
        simd::store(gx + i, g, lanes);
      });
    });
    if (!a.gw) return;
    for (index_t row = 0; row < rows; ++row)
      a.gw[row / a.modalities * a.stride + row % a.modalities] +=
          T(detail::reduce::ordered_sum(chunks, part + row * chunks));
  }
};

}  // namespace insula
