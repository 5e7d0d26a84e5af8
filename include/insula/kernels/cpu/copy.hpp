// SPDX-License-Identifier: Apache-2.0
// Copy and fill on the CPU, in chunks over the threads.
#pragma once

#include <algorithm>
#include <cstring>

#include "insula/device/cpu.hpp"
#include "insula/op/copy.hpp"

namespace insula {

namespace detail {
inline constexpr index_t copy_chunk = index_t(1) << 18;  // elements
}

template <class T>
struct kernel<op::copy, cpu, T> {
  static void run(context<cpu>& cx, op::copy::args<T> const& a) {
    cx.pool.run((a.n + detail::copy_chunk - 1) / detail::copy_chunk, [&](index_t t, int) {
      index_t const from = t * detail::copy_chunk, n = std::min(detail::copy_chunk, a.n - from);
      std::memcpy(a.y + from, a.x + from, std::size_t(n) * sizeof(T));
    });
  }
};

template <class T>
struct kernel<op::fill, cpu, T> {
  static void run(context<cpu>& cx, op::fill::args<T> const& a) {
    cx.pool.run((a.n + detail::copy_chunk - 1) / detail::copy_chunk, [&](index_t t, int) {
      index_t const from = t * detail::copy_chunk, n = std::min(detail::copy_chunk, a.n - from);
      std::fill_n(a.y + from, n, a.value);
    });
  }
};

}  // namespace insula
