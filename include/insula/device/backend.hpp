// SPDX-License-Identifier: Apache-2.0
// Backends as tags, contexts that carry what a backend needs to run, and views whose type says where data lives.
#pragma once

#include "insula/base/dims.hpp"

namespace insula {

struct cpu {};    ///< this machine's processor: vectorised, threaded kernels
struct plain {};  ///< the reference twin of every kernel: straightforward loops on one thread, any scalar
struct cuda {};   ///< an NVIDIA device

/// What a backend needs at run time: threads and scratch, or stream and handles. Passed explicitly, never global.
template <class B>
struct context;

template <class B>
concept backend = requires {
  sizeof(context<B>);
};

/// Data of `batch` samples of shape S in the memory of backend B. Never owns.
template <class T, static_shape S, class B>
struct view {
  T* data;
  index_t batch;
  static constexpr dims extents = S::value;
  constexpr index_t size() const { return batch * S::size; }
};

}  // namespace insula
