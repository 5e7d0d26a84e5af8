// SPDX-License-Identifier: Apache-2.0
// Reference twins of the ops over modalities.
#pragma once

#include "insula/device/cpu.hpp"
#include "insula/op/modality.hpp"

namespace insula {

template <class T>
struct kernel<op::split_modalities, plain, T> {
  static void run(context<plain>&, typename op::split_modalities::args<T> const& a) {
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t m = 0; m < a.modalities; ++m)
        for (index_t p = 0; p < a.positions; ++p)
          for (index_t c = 0; c < a.channels; ++c)
            a.y[((n * a.modalities + m) * a.positions + p) * a.channels + c] =
                a.x[((n * a.positions + p) * a.modalities + m) * a.channels + c];
  }
};

template <class T>
struct kernel<op::split_modalities_grad, plain, T> {
  static void run(context<plain>&, typename op::split_modalities_grad::args<T> const& a) {
    if (!a.gx) return;
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t m = 0; m < a.modalities; ++m)
        for (index_t p = 0; p < a.positions; ++p)
          for (index_t c = 0; c < a.channels; ++c) {
            T& gx = a.gx[((n * a.positions + p) * a.modalities + m) * a.channels + c];
            T const gy = a.gy[((n * a.modalities + m) * a.positions + p) * a.channels + c];
            gx = a.adds ? gx + gy : gy;
          }
  }
};

template <class T>
struct kernel<op::fuse_modalities, plain, T> {
  static void run(context<plain>&, typename op::fuse_modalities::args<T> const& a) {
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t i = 0; i < a.size; ++i) {
        double sum = 0;
        for (index_t m = 0; m < a.modalities; ++m)
          sum += double(a.w[n * a.stride + m]) * double(a.x[(n * a.modalities + m) * a.size + i]);
        a.y[n * a.size + i] = T(sum);
      }
  }
};

template <class T>
struct kernel<op::fuse_modalities_grad, plain, T> {
  static void run(context<plain>&, typename op::fuse_modalities_grad::args<T> const& a) {
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t m = 0; m < a.modalities; ++m) {
        double sum = 0;
        for (index_t i = 0; i < a.size; ++i) {
          index_t const at = (n * a.modalities + m) * a.size + i;
          T const gy = a.gy[n * a.size + i];
          sum += double(gy) * double(a.x[at]);
          if (a.gx) a.gx[at] = a.adds ? a.gx[at] + a.w[n * a.stride + m] * gy : a.w[n * a.stride + m] * gy;
        }
        if (a.gw) a.gw[n * a.stride + m] += T(sum);
      }
  }
};

}  // namespace insula
