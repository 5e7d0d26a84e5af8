// SPDX-License-Identifier: Apache-2.0
// pad_end and its gradient on the CPU, one task per plane.
#pragma once

#include <algorithm>
#include <cstring>

#include "insula/device/cpu.hpp"
#include "insula/op/gather.hpp"

namespace insula {

template <class T>
struct kernel<op::pad_end, cpu, T> {
  static void run(context<cpu>& cx, op::pad_end::args<T> const& a) {
    index_t const row = a.in.w * a.channels, wide = a.out.w * a.channels;
    cx.pool.run(a.batch * a.out.d, [&](index_t t, int) {
      index_t const n = t / a.out.d, d = t % a.out.d;
      T* y = a.y + t * a.out.h * wide;
      std::fill_n(y, a.out.h * wide, T(0));
      if (d >= a.in.d) return;
      T const* x = a.x + (n * a.in.d + d) * a.in.h * row;
      for (index_t h = 0; h < a.in.h; ++h)
        std::memcpy(y + h * wide, x + h * row, std::size_t(row) * sizeof(T));
    });
  }
};

template <class T>
struct kernel<op::pad_end_grad, cpu, T> {
  static void run(context<cpu>& cx, op::pad_end_grad::args<T> const& a) {
    if (!a.gx) return;
    index_t const row = a.in.w * a.channels, wide = a.out.w * a.channels;
    cx.pool.run(a.batch * a.in.d, [&](index_t t, int) {
      index_t const n = t / a.in.d, d = t % a.in.d;
      T const* gy = a.gy + (n * a.out.d + d) * a.out.h * wide;
      T* gx = a.gx + t * a.in.h * row;
      for (index_t h = 0; h < a.in.h; ++h)
        for (index_t i = 0; i < row; ++i)
          gx[h * row + i] = (a.adds ? gx[h * row + i] : T(0)) + gy[h * wide + i];
    });
  }
};

}  // namespace insula
