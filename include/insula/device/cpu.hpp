// SPDX-License-Identifier: Apache-2.0
// The CPU contexts: a thread pool with scratch memory for kernels, and the plain reference context.
#pragma once

#include <vector>

#include "insula/device/backend.hpp"
#include "insula/device/memory.hpp"
#include "insula/device/threads.hpp"

namespace insula {

/// Threads and scratch of the CPU backend. Not copyable: kernels hold references to it while they run.
template <>
struct context<cpu> {
  explicit context(int threads = 1) : pool(threads), private_scratch(std::size_t(threads)) {}

  thread_pool pool;
  scratch_stack shared_scratch;  ///< for what all workers of one kernel read (packed weights, ...)
  std::vector<scratch_stack> private_scratch;  ///< one per worker

  int threads() const { return pool.size(); }
  std::size_t scratch_bytes() const {
    std::size_t s = shared_scratch.bytes();
    for (int i = 0; i < threads(); ++i) s += private_scratch[std::size_t(i)].bytes();
    return s;
  }
};

/// The reference context: nothing but a tag; plain kernels run on the calling thread.
template <>
struct context<plain> {
  constexpr int threads() const { return 1; }
};

/// Scratch memory for the length of a scope: of one worker, or shared by all workers of a kernel.
///   scratch s(cx, worker);  float* row = s.take<float>(n);
class scratch {
 public:
  explicit scratch(context<cpu>& cx) : stack_(cx.shared_scratch), mark_(stack_.here()) {}
  scratch(context<cpu>& cx, int worker)
      : stack_(cx.private_scratch[std::size_t(worker)]), mark_(stack_.here()) {}
  scratch(scratch const&) = delete;
  scratch& operator=(scratch const&) = delete;
  ~scratch() { stack_.release(mark_); }

  /// `count` elements, 64-byte aligned, contents indeterminate.
  template <class T>
  T* take(index_t count) {
    return stack_.take<T>(count);
  }

 private:
  scratch_stack& stack_;
  scratch_stack::mark mark_;
};

}  // namespace insula
