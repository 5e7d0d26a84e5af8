// SPDX-License-Identifier: Apache-2.0
// Reference twins of layer_norm, group_norm and their gradients: two-pass statistics, sums in double.
#pragma once

#include <cmath>

#include "insula/base/scalar.hpp"
#include "insula/device/cpu.hpp"
#include "insula/kernels/plain/activation.hpp"
#include "insula/op/norm.hpp"

namespace insula {

namespace detail {

/// What the backward pass needs of one set of numbers: the mean as two numbers of T, else its rounding would be an error of all.
template <scalar T>
void keep_statistics(double mean, double rstd, T* stats) {
  stats[0] = T(mean), stats[1] = T(rstd), stats[2] = T(mean - double(stats[0]));
}
template <scalar T>
double kept_mean(T const* stats) {
  return double(stats[0]) + double(stats[2]);
}

}  // namespace detail

template <scalar T>
struct kernel<op::layer_norm, plain, T> {
  static void run(context<plain>&, op::layer_norm::args<T> const& a) {
    for (index_t r = 0; r < a.rows; ++r) {
      T const* const x = a.x + r * a.width;
      T* const y = a.y + r * a.width;
      double mean = 0, variance = 0;
      for (index_t c = 0; c < a.width; ++c) mean += double(x[c]);
      mean /= double(a.width);
      for (index_t c = 0; c < a.width; ++c) variance += (double(x[c]) - mean) * (double(x[c]) - mean);
      double const rstd = 1 / std::sqrt(variance / double(a.width) + a.eps);
      for (index_t c = 0; c < a.width; ++c)
        y[c] = T((double(x[c]) - mean) * rstd * (a.w ? double(a.w[c]) : 1.0) + (a.b ? double(a.b[c]) : 0.0));
      if (a.stats) detail::keep_statistics(mean, rstd, a.stats + 3 * r);
    }
  }
};

template <scalar T>
struct kernel<op::layer_norm_grad, plain, T> {
  static void run(context<plain>&, op::layer_norm_grad::args<T> const& a) {
    for (index_t r = 0; r < a.rows; ++r) {
      T const *const x = a.x + r * a.width, *const gy = a.gy + r * a.width;
      double const mean = detail::kept_mean(a.stats + 3 * r), rstd = double(a.stats[3 * r + 1]);
      double sum = 0, slope = 0;
      for (index_t c = 0; c < a.width; ++c) {
        double const unit = (double(x[c]) - mean) * rstd;
        double const gunit = double(gy[c]) * (a.w ? double(a.w[c]) : 1.0);
        sum += gunit, slope += gunit * unit;
        if (a.gw) a.gw[c] += T(double(gy[c]) * unit);
        if (a.gb) a.gb[c] += gy[c];
      }
      sum /= double(a.width), slope /= double(a.width);
      if (!a.gx) continue;
      for (index_t c = 0; c < a.width; ++c) {
        double const unit = (double(x[c]) - mean) * rstd;
        double const gunit = double(gy[c]) * (a.w ? double(a.w[c]) : 1.0);
        T const g = T(rstd * (gunit - sum - unit * slope));
        a.gx[r * a.width + c] = a.adds ? a.gx[r * a.width + c] + g : g;
      }
    }
  }
};

template <scalar T>
struct kernel<op::group_norm, plain, T> {
  static void run(context<plain>&, op::group_norm::args<T> const& a) {
    index_t const per_group = a.channels / a.groups;
    double const count = double(a.positions * per_group);
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t g = 0; g < a.groups; ++g) {
        auto const each = [&](auto&& visit) {
          for (index_t p = 0; p < a.positions; ++p)
            for (index_t c = g * per_group; c < (g + 1) * per_group; ++c)
              visit((n * a.positions + p) * a.channels + c, c);
        };
        double mean = 0, variance = 0;
        each([&](index_t i, index_t) { mean += double(a.x[i]); });
        mean /= count;
        each([&](index_t i, index_t) { variance += (double(a.x[i]) - mean) * (double(a.x[i]) - mean); });
        double const rstd = 1 / std::sqrt(variance / count + a.eps);
        each([&](index_t i, index_t c) {
          double const u = (double(a.x[i]) - mean) * rstd * (a.w ? double(a.w[c]) : 1.0) +
                           (a.b ? double(a.b[c]) : 0.0) + (a.skip ? double(a.skip[i]) : 0.0);
          a.y[i] = T(activation_value(a.act, u));
        });
        detail::keep_statistics(mean, rstd, a.stats + 3 * (n * a.groups + g));
      }
  }
};

template <scalar T>
struct kernel<op::group_norm_grad, plain, T> {
  static void run(context<plain>&, op::group_norm_grad::args<T> const& a) {
    index_t const per_group = a.channels / a.groups;
    double const count = double(a.positions * per_group);
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t g = 0; g < a.groups; ++g) {
        T const* const stats = a.stats + 3 * (n * a.groups + g);
        double const mean = detail::kept_mean(stats), rstd = double(stats[1]);
        auto const each =
            [&](auto&& visit) {  // visit(element, channel, unit, gradient before the activation)
              for (index_t p = 0; p < a.positions; ++p)
                for (index_t c = g * per_group; c < (g + 1) * per_group; ++c) {
                  index_t const i = (n * a.positions + p) * a.channels + c;
                  double const unit = (double(a.x[i]) - mean) * rstd;
                  double const u = unit * (a.w ? double(a.w[c]) : 1.0) + (a.b ? double(a.b[c]) : 0.0) +
                                   (a.skip ? double(a.skip[i]) : 0.0);
                  visit(i, c, unit, through_activation(a.act, u, double(a.gy[i])));
                }
            };
        double sum = 0, slope = 0;
        each([&](index_t, index_t c, double unit, double gu) {
          double const gunit = gu * (a.w ? double(a.w[c]) : 1.0);
          sum += gunit, slope += gunit * unit;
          if (a.gw) a.gw[c] += T(gu * unit);
          if (a.gb) a.gb[c] += T(gu);
        });
        sum /= count, slope /= count;
        each([&](index_t i, index_t c, double unit, double gu) {
          double const gunit = gu * (a.w ? double(a.w[c]) : 1.0);
          T const gx = T(rstd * (gunit - sum - unit * slope));
          if (a.gskip) a.gskip[i] = a.skip_adds ? a.gskip[i] + T(gu) : T(gu);
          if (a.gx) a.gx[i] = a.adds ? a.gx[i] + gx : gx;
        });
      }
  }
};

}  // namespace insula
