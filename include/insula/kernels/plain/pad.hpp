// SPDX-License-Identifier: Apache-2.0
// Reference twins of pad_end and its gradient.
#pragma once

#include "insula/device/cpu.hpp"
#include "insula/op/gather.hpp"

namespace insula {

namespace detail {
/// Calls f(row of the small grid, row of the large grid) for every (sample, d, h) of the small grid.
template <class F>
void matching_rows(index_t batch, extent in, extent out, F f) {
  for (index_t n = 0; n < batch; ++n)
    for (index_t d = 0; d < in.d; ++d)
      for (index_t h = 0; h < in.h; ++h) f((n * in.d + d) * in.h + h, (n * out.d + d) * out.h + h);
}
}  // namespace detail

template <class T>
struct kernel<op::pad_end, plain, T> {
  static void run(context<plain>&, op::pad_end::args<T> const& a) {
    for (index_t i = 0; i < a.batch * a.out.size() * a.channels; ++i) a.y[i] = T(0);
    detail::matching_rows(a.batch, a.in, a.out, [&](index_t from, index_t to) {
      for (index_t i = 0; i < a.in.w * a.channels; ++i)
        a.y[to * a.out.w * a.channels + i] = a.x[from * a.in.w * a.channels + i];
    });
  }
};

template <class T>
struct kernel<op::pad_end_grad, plain, T> {
  static void run(context<plain>&, op::pad_end_grad::args<T> const& a) {
    if (!a.gx) return;
    detail::matching_rows(a.batch, a.in, a.out, [&](index_t to, index_t from) {
      for (index_t i = 0; i < a.in.w * a.channels; ++i) {
        T& gx = a.gx[to * a.in.w * a.channels + i];
        gx = (a.adds ? gx : T(0)) + a.gy[from * a.out.w * a.channels + i];
      }
    });
  }
};

}  // namespace insula
