// SPDX-License-Identifier: Apache-2.0
// Reference twins of linear, linear_grad, mlp and mlp_grad: loops in the order of the formulas, sums in double.
#pragma once

#include <cstddef>
#include <vector>

#include "insula/base/scalar.hpp"
#include "insula/device/cpu.hpp"
#include "insula/kernels/plain/activation.hpp"
#include "insula/op/gemm.hpp"

namespace insula {

template <scalar T>
struct kernel<op::linear, plain, T> {
  static void run(context<plain>&, op::linear::args<T> const& a) {
    for (index_t r = 0; r < a.rows; ++r)
      for (index_t o = 0; o < a.out; ++o) {
        double sum = a.b ? double(a.b[o]) : 0.0;
        for (index_t i = 0; i < a.in; ++i) sum += double(a.x[r * a.in + i]) * double(a.w[i * a.out + o]);
        a.y[r * a.out + o] = T(sum);
      }
  }
};

template <scalar T>
struct kernel<op::linear_gelu, plain, T> {
  static void run(context<plain>& cx, op::linear_gelu::args<T> const& a) {
    T* const u = a.u ? a.u : a.y;
    kernel<op::linear, plain, T>::run(cx, {a.rows, a.in, a.out, a.x, a.w, a.b, u});
    kernel<op::activate, plain, T>::run(cx, {a.rows * a.out, activation::gelu, u, a.y});
  }
};

template <scalar T>
struct kernel<op::linear_grad, plain, T> {
  static void run(context<plain>&, op::linear_grad::args<T> const& a) {
    if (a.gx)
      for (index_t r = 0; r < a.rows; ++r)
        for (index_t i = 0; i < a.in; ++i) {
          double sum = a.adds ? double(a.gx[r * a.in + i]) : 0.0;
          for (index_t o = 0; o < a.out; ++o) sum += double(a.gy[r * a.out + o]) * double(a.w[i * a.out + o]);
          a.gx[r * a.in + i] = T(sum);
        }
    if (a.gw)
      for (index_t i = 0; i < a.in; ++i)
        for (index_t o = 0; o < a.out; ++o) {
          double sum = 0;
          for (index_t r = 0; r < a.rows; ++r) sum += double(a.x[r * a.in + i]) * double(a.gy[r * a.out + o]);
          a.gw[i * a.out + o] += T(sum);
        }
    if (a.gb)
      for (index_t o = 0; o < a.out; ++o) {
        double sum = 0;
        for (index_t r = 0; r < a.rows; ++r) sum += double(a.gy[r * a.out + o]);
        a.gb[o] += T(sum);
      }
  }
};

/// One row of the feed-forward half-block with everything its gradient needs.
class plain_mlp_row {
 public:
  plain_mlp_row(index_t width, index_t hidden)
      : unit(std::size_t(width)),
        normed(std::size_t(width)),
        before(std::size_t(hidden)),
        after(std::size_t(hidden)) {}

  /// x -> unit (zero mean, unit variance), normed = unit w + b, before = normed W1 + b1, after = gelu(before).
  template <class Args, scalar T>
  void forward(Args const& a, T const* x) {
    double mean = 0, variance = 0;
    for (std::size_t i = 0; i < unit.size(); ++i) mean += double(x[i]);
    mean /= double(a.width);
    for (std::size_t i = 0; i < unit.size(); ++i) variance += (double(x[i]) - mean) * (double(x[i]) - mean);
    rstd = 1 / std::sqrt(variance / double(a.width) + a.eps);
    for (std::size_t i = 0; i < unit.size(); ++i) {
      unit[i] = (double(x[i]) - mean) * rstd;
      normed[i] = unit[i] * (a.norm_w ? double(a.norm_w[i]) : 1.0) + (a.norm_b ? double(a.norm_b[i]) : 0.0);
    }
    for (std::size_t h = 0; h < before.size(); ++h) {
      double sum = a.b1 ? double(a.b1[h]) : 0.0;
      for (std::size_t i = 0; i < unit.size(); ++i) sum += normed[i] * double(a.w1[i * before.size() + h]);
      before[h] = sum;
      after[h] = activation_value(activation::gelu, sum);
    }
  }

  double rstd = 0;
  std::vector<double> unit, normed, before, after;
};

template <scalar T>
struct kernel<op::mlp, plain, T> {
  static void run(context<plain>&, op::mlp::args<T> const& a) {
    plain_mlp_row row(a.width, a.hidden);
    for (index_t r = 0; r < a.rows; ++r) {
      T const* const x = a.x + r * a.width;
      row.forward(a, x);
      for (index_t o = 0; o < a.width; ++o) {
        double sum = double(x[o]) + (a.b2 ? double(a.b2[o]) : 0.0);
        for (index_t h = 0; h < a.hidden; ++h)
          sum += row.after[std::size_t(h)] * double(a.w2[h * a.width + o]);
        a.y[r * a.width + o] = T(sum);
      }
    }
  }
};

template <scalar T>
struct kernel<op::mlp_grad, plain, T> {
  static void run(context<plain>&, op::mlp_grad::args<T> const& a) {
    auto const width = std::size_t(a.width), hidden = std::size_t(a.hidden);
    plain_mlp_row row(a.width, a.hidden);
    std::vector<double> gbefore(hidden), gunit(width);
    for (std::size_t r = 0; r < std::size_t(a.rows); ++r) {
      T const* const gy = a.gy + r * width;
      row.forward(a, a.x + r * width);
      for (std::size_t h = 0; h < hidden; ++h) {
        double sum = 0;
        for (std::size_t o = 0; o < width; ++o) sum += double(a.w2[h * width + o]) * double(gy[o]);
        gbefore[h] = sum * activation_slope(activation::gelu, row.before[h]);
        if (a.gb1) a.gb1[h] += T(gbefore[h]);
        for (std::size_t o = 0; a.gw2 && o < width; ++o)
          a.gw2[h * width + o] += T(row.after[h] * double(gy[o]));
      }
      for (std::size_t o = 0; a.gb2 && o < width; ++o) a.gb2[o] += gy[o];

      double mean = 0, slope = 0;  // of gunit, and of gunit * unit
      for (std::size_t i = 0; i < width; ++i) {
        double sum = 0;
        for (std::size_t h = 0; h < hidden; ++h) {
          sum += double(a.w1[i * hidden + h]) * gbefore[h];
          if (a.gw1) a.gw1[i * hidden + h] += T(row.normed[i] * gbefore[h]);
        }
        if (a.gnorm_w) a.gnorm_w[i] += T(sum * row.unit[i]);
        if (a.gnorm_b) a.gnorm_b[i] += T(sum);
        gunit[i] = sum * (a.norm_w ? double(a.norm_w[i]) : 1.0);
        mean += gunit[i] / double(width), slope += gunit[i] * row.unit[i] / double(width);
      }
      for (std::size_t i = 0; a.gx && i < width; ++i) {
        T const g = T(double(gy[i]) + row.rstd * (gunit[i] - mean - row.unit[i] * slope));
        a.gx[r * width + i] = a.adds ? a.gx[r * width + i] + g : g;
      }
    }
  }
};

}  // namespace insula
