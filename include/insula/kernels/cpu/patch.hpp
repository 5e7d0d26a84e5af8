// SPDX-License-Identifier: Apache-2.0
// Patchify, unpatchify and the error of masked patches on the CPU: a patch is a list of contiguous runs along x.
#pragma once

#include <cmath>

#include "insula/kernels/cpu/reduce.hpp"
#include "insula/kernels/cpu/row.hpp"
#include "insula/op/patch.hpp"

namespace insula {

namespace detail::patch {

/// Calls move(place in the volumes, place in the patch's row) for the runs of patch.w channels numbers of one patch.
template <class F>
INSULA_INLINE void each_run(op::patch_geometry const& g, index_t n, index_t id, F move) {
  extent const grid = g.grid();
  index_t const z = id / (grid.h * grid.w) * g.patch.d, y = id / grid.w % grid.h * g.patch.h;
  index_t const run = g.patch.w * g.channels, line = g.in.w * g.channels;
  index_t const first = ((n * g.in.d + z) * g.in.h + y) * line + id % grid.w * run;
  for (index_t d = 0, i = 0; d < g.patch.d; ++d)
    for (index_t h = 0; h < g.patch.h; ++h, i += run) move(first + (d * g.in.h + h) * line, i);
}

/// Patch of row k of sample n.
template <class Args>
INSULA_INLINE index_t number(Args const& a, index_t n, index_t k) {
  return a.ids ? a.ids[n * a.g.patches() + k] : k;
}

/// row = what patch p of all samples is compared with. Sums in double.
template <scalar T>
void target(op::patch_geometry const& g, bool normalised, T const* volume, index_t p, T* row) {
  index_t const run = g.patch.w * g.channels, n = g.row();
  each_run(g, p / g.patches(), p % g.patches(),
           [=](index_t from, index_t to) { simd::copy(run, volume + from, row + to); });
  if (!normalised) return;
  double const mean =
      reduce::sum_registers(n, [=](index_t i, auto lanes) { return simd::load_double(row + i, lanes); }) /
      double(n);
  double squares = 0;
  for (index_t i = 0; i < n; ++i) {  // lanes beyond the end would not be 0 here
    double const d = double(row[i]) - mean;
    squares += d * d;
  }
  double const factor = 1 / std::sqrt(squares / double(n - 1) + 1e-6);
  for (index_t i = 0; i < n; ++i) row[i] = T((double(row[i]) - mean) * factor);
}

}  // namespace detail::patch

template <scalar T>
struct kernel<op::patchify, cpu, T> {
  static void run(context<cpu>& cx, typename op::patchify::args<T> const& a) {
    index_t const row = a.g.row(), run = a.g.patch.w * a.g.channels;
    run_chunks(cx, a.g.batch * a.rows, chunk_rows(row), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        index_t const n = r / a.rows;
        detail::patch::each_run(
            a.g, n, detail::patch::number(a, n, r % a.rows),
            [&](index_t from, index_t to) { simd::assign(a.adds, run, a.x + from, a.y + r * row + to); });
      }
    });
  }
};

/// Tasks are rows; what no row names is cleared before, plane by plane.
template <scalar T>
struct kernel<op::unpatchify, cpu, T> {
  static void run(context<cpu>& cx, typename op::unpatchify::args<T> const& a) {
    index_t const row = a.g.row(), run = a.g.patch.w * a.g.channels;
    if (!a.adds && a.rows < a.g.patches())
      run_chunks(cx, a.g.batch * a.g.patches() * row, chunk_elements,
                 [&](index_t begin, index_t end, index_t, int) { simd::clear(end - begin, a.y + begin); });
    run_chunks(cx, a.g.batch * a.rows, chunk_rows(row), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        index_t const n = r / a.rows;
        detail::patch::each_run(
            a.g, n, detail::patch::number(a, n, r % a.rows),
            [&](index_t to, index_t from) { simd::assign(a.adds, run, a.x + r * row + from, a.y + to); });
      }
    });
  }
};

template <scalar T>
struct kernel<op::masked_patch_mse, cpu, T> {
  static void run(context<cpu>& cx, typename op::masked_patch_mse::args<T> const& a) {
    index_t const row = a.g.row(), patches = a.g.batch * a.g.patches(), each = chunk_rows(row);
    index_t const chunks = chunk_count(patches, each);
    scratch s(cx);
    double* const part = s.take<double>(chunks);
    run_chunks(cx, patches, each, [&](index_t begin, index_t end, index_t t, int worker) {
      scratch own(cx, worker);
      T* const target = own.take<T>(row);
      double sum = 0;
      for (index_t p = begin; p < end; ++p) {
        if (!a.mask[p]) continue;
        detail::patch::target(a.g, a.normalised, a.volume, p, target);
        sum += detail::reduce::squared_distance<T>(row, a.x + p * row, target);
      }
      part[t] = sum;
    });
    *a.sum = detail::reduce::ordered_sum(chunks, part) / double(row), *a.count = 0;
    for (index_t p = 0; p < patches; ++p) *a.count += a.mask[p] != 0;
  }
};

template <scalar T>
struct kernel<op::masked_patch_mse_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::masked_patch_mse_grad::args<T> const& a) {
    if (!a.gx) return;
    index_t const row = a.g.row(), patches = a.g.batch * a.g.patches();
    auto const scale = simd::broadcast(a.scale);
    run_chunks(cx, patches, chunk_rows(row), [&](index_t begin, index_t end, index_t, int worker) {
      scratch own(cx, worker);
      T* const target = own.take<T>(row);
      for (index_t p = begin; p < end; ++p) {
        T* const gx = a.gx + p * row;
        if (!a.mask[p]) {
          if (!a.adds) simd::clear(row, gx);
          continue;
        }
        T const* const x = a.x + p * row;
        detail::patch::target(a.g, a.normalised, a.volume, p, target);
        simd::each_register<T>(row, [&](index_t i, auto lanes) {
          auto g = scale * (simd::load(x + i, lanes) - simd::load(target + i, lanes));
          if (a.adds) g += simd::load(gx + i, lanes);
          simd::store(gx + i, g, lanes);
        });
      }
    });
  }
};

}  // namespace insula
