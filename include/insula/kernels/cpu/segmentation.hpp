// SPDX-License-Identifier: Apache-2.0
// The loss of binary segmentation on the CPU: sums chunk by chunk, then the gradient in a second pass.
#pragma once

#include <algorithm>
#include <cmath>

#include "insula/kernels/cpu/row.hpp"
#include "insula/op/segmentation.hpp"

namespace insula {

template <scalar T>
struct kernel<op::dice_bce, cpu, T> {
  using args = typename op::dice_bce::args<T>;
  struct sums {
    double both, predicted, labelled, bce;
  };

  static void run(context<cpu>& cx, args const& a) {
    index_t const each = chunk_rows(a.channels), chunks = chunk_count(a.positions, each);  // of one sample
    scratch s(cx);
    sums* const part = s.take<sums>(a.batch * chunks * a.channels);
    cx.pool.run(a.batch * chunks, [&](index_t task, int) {
      index_t const first = task % chunks * each, left = a.positions - first;
      add_up(a, task / chunks * a.positions + first, left < each ? left : each, part + task * a.channels);
    });
    sums* const total = s.take<sums>(a.batch * a.channels);
    double const share = 1 / double(a.batch * a.channels), all = share / double(a.positions);
    *a.dice = 0, *a.bce = 0;
    for (index_t r = 0; r < a.batch * a.channels; ++r) {
      index_t const n = r / a.channels, c = r % a.channels;
      sums& t = total[r] = {};
      for (index_t k = 0; k < chunks; ++k) {
        sums const& p = part[(n * chunks + k) * a.channels + c];
        t.both += p.both, t.predicted += p.predicted, t.labelled += p.labelled, t.bce += p.bce;
      }
      *a.dice += share * (1 - overlap(t)), *a.bce += all * t.bce;
    }
    if (!a.gx) return;
    cx.pool.run(a.batch * chunks, [&](index_t task, int) {
      index_t const n = task / chunks, first = task % chunks * each, left = a.positions - first;
      gradient(a, n * a.positions + first, left < each ? left : each, total + n * a.channels,
               a.dice_weight * share, a.bce_weight * all);
    });
  }

 private:
  static double size(sums const& s) { return s.predicted + s.labelled + op::dice_bce::smooth; }
  static double overlap(sums const& s) { return (2 * s.both + op::dice_bce::smooth) / size(s); }

  static void add_up(args const& a, index_t row, index_t rows, sums* part) {
    for (index_t c = 0; c < a.channels; ++c) {
      T const* x = a.x + row * a.channels + c;
      std::uint8_t const* y = a.y + row * a.channels + c;
      sums s{};
      for (index_t p = 0; p < rows; ++p, x += a.channels, y += a.channels) {
        double const z = double(*x), e = std::exp(-std::abs(z)), sigmoid = (z < 0 ? e : 1) / (1 + e);
        s.predicted += sigmoid, s.bce += std::max(z, 0.0) + std::log1p(e);
        if (*y) s.both += sigmoid, s.labelled += 1, s.bce -= z;
      }
      part[c] = s;
    }
  }
  static void gradient(args const& a, index_t row, index_t rows, sums const* of, double dice, double bce) {
    for (index_t c = 0; c < a.channels; ++c) {
      T const* x = a.x + row * a.channels + c;
      std::uint8_t const* y = a.y + row * a.channels + c;
      T* gx = a.gx + row * a.channels + c;
      double const outside = dice * overlap(of[c]) / size(of[c]), inside = outside - 2 * dice / size(of[c]);
      for (index_t p = 0; p < rows; ++p, x += a.channels, y += a.channels, gx += a.channels) {
        double const z = double(*x), e = std::exp(-std::abs(z)), sigmoid = (z < 0 ? e : 1) / (1 + e);
        double const slope = e / ((1 + e) * (1 + e));  // sigmoid (1 - sigmoid), exact at both ends
        *gx = T((*y ? inside : outside) * slope + bce * (*y ? sigmoid - 1 : sigmoid));
      }
    }
  }
};

}  // namespace insula
