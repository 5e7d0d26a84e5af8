// SPDX-License-Identifier: Apache-2.0
// The one door to numerics: run<Op, Backend, Scalar>(context, args) finds kernel<Op, Backend, Scalar>.
#pragma once

#include <type_traits>

#include "insula/device/backend.hpp"

namespace insula {

/// HOW an op is computed. Specialised under kernels/<backend>/ with  static void run(context<B>&, args<T> const&).
///
/// Rules for the argument structs of op/ and for every kernel:
///  - Memory is channels-last. Linear weights are (in, out), convolution weights (kd, kh, kw, in/groups, out),
///    vectors as they are: io converts from and to the published layouts.
///  - Inputs are const, outputs come last. A forward output is written with `=`.
///  - Weight gradients (gw, gb, ...) are always `+=`. An input gradient gx is `+=` if its `adds` flag is set, else `=`.
///  - A null weight gradient or input gradient is not computed. A null bias or norm weight is absent.
///  - No two pointers overlap, unless the op's comment allows it.
///  - The result does not depend on the number of threads, bit for bit.
template <class Op, class B, class T>
struct kernel;

template <class Op, class B, class T>
concept implemented = requires(context<B>& cx, typename Op::template args<T> const& a) {
  kernel<Op, B, T>::run(cx, a);
};

namespace detail {
template <class B, class T, bool Visible>
struct kernels_of {  // one error for a backend, however many ops miss their kernel
  static_assert(
      Visible,
      "no kernel<Op, Backend, Scalar> is visible: include insula/cpu.hpp (or the kernels of this backend), "
      "or write one under kernels/<backend>/");
};
}  // namespace detail

#ifdef INSULA_LINKED_KERNELS

/// The CPU kernels of a library that was compiled once (kernels/cpu/instantiate.hpp): a program that is built with
/// INSULA_LINKED_KERNELS, in all its parts, compiles no kernel itself. See docs/decisions/0003-linked-kernels.md.
template <class Op, class T>
void linked_kernel(context<cpu>& cx, typename Op::template args<T> const& a);

inline namespace linked {
template <class Op, class B, class T>
void run(context<B>& cx, typename Op::template args<T> const& a) {
  if constexpr (std::is_same_v<B, cpu>) {
    linked_kernel<Op, T>(cx, a);
  } else {
    static_assert(implemented<Op, B, T>,
                  "no kernel<Op, Backend, Scalar> is visible: include the kernels of this backend, "
                  "or write one under kernels/<backend>/");
    if constexpr (implemented<Op, B, T>) kernel<Op, B, T>::run(cx, a);
  }
}
}  // namespace linked

#else

template <class Op, class B, class T>
void run(context<B>& cx, typename Op::template args<T> const& a) {
  static_assert(sizeof(detail::kernels_of<B, T, implemented<Op, B, T>>));
  if constexpr (implemented<Op, B, T>) kernel<Op, B, T>::run(cx, a);
}

#endif

}  // namespace insula
