// SPDX-License-Identifier: Apache-2.0
// Reference twins of addition, mask-token injection and drop path.
#pragma once

#include "insula/device/cpu.hpp"
#include "insula/op/pointwise.hpp"

namespace insula {

template <class T>
struct kernel<op::add, plain, T> {
  static void run(context<plain>&, typename op::add::args<T> const& a) {
    for (index_t i = 0; i < a.n; ++i) a.y[i] = a.a[i] + a.b[i];
  }
};

template <class T>
struct kernel<op::axpy, plain, T> {
  static void run(context<plain>&, typename op::axpy::args<T> const& a) {
    for (index_t i = 0; i < a.n; ++i) a.y[i] += a.alpha * a.x[i];
  }
};

template <class T>
struct kernel<op::mask_token, plain, T> {
  static void run(context<plain>&, typename op::mask_token::args<T> const& a) {
    for (index_t p = 0; p < a.batch * a.positions; ++p)
      for (index_t c = 0; c < a.channels; ++c)
        a.y[p * a.channels + c] = a.mask && a.mask[p] ? a.token[c] : a.x[p * a.channels + c];
  }
};

template <class T>
struct kernel<op::mask_token_grad, plain, T> {
  static void run(context<plain>&, typename op::mask_token_grad::args<T> const& a) {
    if (a.gtoken && a.mask)  // first: gx may be gy
      for (index_t c = 0; c < a.channels; ++c) {
        double sum = 0;
        for (index_t p = 0; p < a.batch * a.positions; ++p)
          if (a.mask[p]) sum += double(a.gy[p * a.channels + c]);
        a.gtoken[c] += T(sum);
      }
    if (!a.gx) return;
    for (index_t p = 0; p < a.batch * a.positions; ++p)
      for (index_t i = p * a.channels; i < (p + 1) * a.channels; ++i) {
        T const g = a.mask && a.mask[p] ? T(0) : a.gy[i];
        a.gx[i] = a.adds ? a.gx[i] + g : g;
      }
  }
};

template <class T>
struct kernel<op::drop_path, plain, T> {
  static void run(context<plain>&, typename op::drop_path::args<T> const& a) {
    bool const drops = a.training && a.rate > 0;
    for (index_t n = 0; n < a.batch; ++n) {
      bool const keep = !drops || uniform_at(a.key, std::uint32_t(n)) >= a.rate;
      for (index_t i = n * a.size; i < (n + 1) * a.size; ++i) {
        T const branch = !keep ? T(0) : drops ? T(1 / (1 - a.rate)) * a.x[i] : a.x[i];
        a.y[i] = a.skip ? a.skip[i] + branch : branch;
      }
    }
  }
};

template <class T>
struct kernel<op::drop_path_grad, plain, T> {
  static void run(context<plain>&, typename op::drop_path_grad::args<T> const& a) {
    if (!a.gx) return;
    bool const drops = a.training && a.rate > 0;
    for (index_t n = 0; n < a.batch; ++n) {
      bool const keep = !drops || uniform_at(a.key, std::uint32_t(n)) >= a.rate;
      for (index_t i = n * a.size; i < (n + 1) * a.size; ++i) {
        T const g = !keep ? T(0) : drops ? T(1 / (1 - a.rate)) * a.gy[i] : a.gy[i];
        a.gx[i] = a.adds ? a.gx[i] + g : g;
      }
    }
  }
};

}  // namespace insula
