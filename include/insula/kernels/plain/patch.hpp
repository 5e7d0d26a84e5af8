// SPDX-License-Identifier: Apache-2.0
// Reference twins of patchify, unpatchify and the error of masked patches.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "insula/device/cpu.hpp"
#include "insula/op/patch.hpp"

namespace insula {

namespace detail {

/// Place in the volumes of number i of the row of patch `id` of sample n.
inline index_t patch_place(op::patch_geometry const& g, index_t n, index_t id, index_t i) {
  extent const grid = g.grid();
  index_t const c = i % g.channels, v = i / g.channels;
  index_t const z = id / (grid.h * grid.w) * g.patch.d + v / (g.patch.h * g.patch.w);
  index_t const y = id / grid.w % grid.h * g.patch.h + v / g.patch.w % g.patch.h;
  index_t const x = id % grid.w * g.patch.w + v % g.patch.w;
  return (((n * g.in.d + z) * g.in.h + y) * g.in.w + x) * g.channels + c;
}

/// The row that a masked patch is compared with.
template <class T>
std::vector<double> patch_target(op::patch_geometry const& g, bool normalised, T const* volume, index_t p) {
  std::vector<double> t(static_cast<std::size_t>(g.row()));
  double mean = 0, squares = 0;
  for (index_t i = 0; i < g.row(); ++i)
    t[std::size_t(i)] = double(volume[patch_place(g, p / g.patches(), p % g.patches(), i)]);
  if (!normalised) return t;
  for (double v : t) mean += v / double(g.row());
  for (double v : t) squares += (v - mean) * (v - mean);
  double const deviation = std::sqrt(squares / double(g.row() - 1) + 1e-6);
  for (double& v : t) v = (v - mean) / deviation;
  return t;
}

}  // namespace detail

template <class T>
struct kernel<op::patchify, plain, T> {
  static void run(context<plain>&, typename op::patchify::args<T> const& a) {
    index_t const row = a.g.row();
    for (index_t n = 0; n < a.g.batch; ++n)
      for (index_t k = 0; k < a.rows; ++k)
        for (index_t i = 0; i < row; ++i) {
          T const v = a.x[detail::patch_place(a.g, n, a.ids ? a.ids[n * a.g.patches() + k] : k, i)];
          T& y = a.y[(n * a.rows + k) * row + i];
          y = a.adds ? y + v : v;
        }
  }
};

template <class T>
struct kernel<op::unpatchify, plain, T> {
  static void run(context<plain>&, typename op::unpatchify::args<T> const& a) {
    index_t const row = a.g.row();
    if (!a.adds)
      for (index_t i = 0; i < a.g.batch * a.g.patches() * row; ++i) a.y[i] = T(0);
    for (index_t n = 0; n < a.g.batch; ++n)
      for (index_t k = 0; k < a.rows; ++k)
        for (index_t i = 0; i < row; ++i)
          a.y[detail::patch_place(a.g, n, a.ids ? a.ids[n * a.g.patches() + k] : k, i)] +=
              a.x[(n * a.rows + k) * row + i];
  }
};

template <class T>
struct kernel<op::masked_patch_mse, plain, T> {
  static void run(context<plain>&, typename op::masked_patch_mse::args<T> const& a) {
    *a.sum = 0, *a.count = 0;
    for (index_t p = 0; p < a.g.batch * a.g.patches(); ++p) {
      if (!a.mask[p]) continue;
      auto const target = detail::patch_target(a.g, a.normalised, a.volume, p);
      double sum = 0;
      for (index_t i = 0; i < a.g.row(); ++i) {
        double const d = double(a.x[p * a.g.row() + i]) - target[std::size_t(i)];
        sum += d * d;
      }
      *a.sum += sum / double(a.g.row()), ++*a.count;
    }
  }
};

template <class T>
struct kernel<op::masked_patch_mse_grad, plain, T> {
  static void run(context<plain>&, typename op::masked_patch_mse_grad::args<T> const& a) {
    if (!a.gx) return;
    for (index_t p = 0; p < a.g.batch * a.g.patches(); ++p) {
      std::vector<double> target;
      if (a.mask[p]) target = detail::patch_target(a.g, a.normalised, a.volume, p);
      for (index_t i = 0; i < a.g.row(); ++i) {
        index_t const at = p * a.g.row() + i;
        T const g = a.mask[p] ? T(double(a.scale) * (double(a.x[at]) - target[std::size_t(i)])) : T(0);
        a.gx[at] = a.adds ? a.gx[at] + g : g;
      }
    }
  }
};

}  // namespace insula
