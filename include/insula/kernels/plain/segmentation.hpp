// SPDX-License-Identifier: Apache-2.0
// Reference twin of the loss of binary segmentation.
#pragma once

#include <cmath>

#include "insula/device/cpu.hpp"
#include "insula/op/segmentation.hpp"

namespace insula {

template <class T>
struct kernel<op::dice_bce, plain, T> {
  static void run(context<plain>&, typename op::dice_bce::args<T> const& a) {
    double const each = 1 / double(a.batch * a.channels), all = each / double(a.positions);
    double dice = 0, bce = 0;
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t c = 0; c < a.channels; ++c) {
        double both = 0, predicted = 0, labelled = 0;
        for (index_t p = 0; p < a.positions; ++p) {
          index_t const i = (n * a.positions + p) * a.channels + c;
          double const x = double(a.x[i]), y = a.y[i] ? 1 : 0, s = sigmoid(x);
          both += s * y, predicted += s, labelled += y;
          bce += std::max(x, 0.0) - x * y + std::log1p(std::exp(-std::abs(x)));
        }
        double const size = predicted + labelled + op::dice_bce::smooth;
        double const overlap = (2 * both + op::dice_bce::smooth) / size;
        dice += 1 - overlap;
        for (index_t p = 0; a.gx && p < a.positions; ++p) {
          index_t const i = (n * a.positions + p) * a.channels + c;
          double const s = sigmoid(double(a.x[i])), y = a.y[i] ? 1 : 0;
          double const of_s = (overlap - 2 * y) / size;  // d dice / d s
          a.gx[i] = T(a.dice_weight * each * of_s * s * (1 - s) + a.bce_weight * all * (s - y));
        }
      }
    *a.dice = dice * each, *a.bce = bce * all;
  }

 private:
  static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
};

}  // namespace insula
