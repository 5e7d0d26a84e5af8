// SPDX-License-Identifier: Apache-2.0
// The tape: a linear list of backward steps around networks, and the typed variables they connect.
#pragma once

#include <new>
#include <type_traits>
#include <vector>

#include "insula/base/scalar.hpp"
#include "insula/device/cpu.hpp"
#include "insula/op/copy.hpp"

namespace insula {

/// Records what to do backwards. Memory comes from a stack that is reused after clear(): a repeated step allocates only the
/// first time. Entries are plain closures over views and numbers.
template <backend B>
class tape {
 public:
  explicit tape(context<B>& c) : cx(c) { entries_.reserve(64); }
  tape(tape const&) = delete;
  tape& operator=(tape const&) = delete;

  context<B>& cx;

  /// `n` elements, indeterminate, alive until clear().
  template <class T>
  T* take(index_t n) {
    return memory_.template take<T>(n);
  }
  /// `n` zeros.
  template <class T>
  T* zeros(index_t n) {
    T* p = take<T>(n);
    run<op::fill, B, T>(cx, {n, T(0), p});
    return p;
  }
  /// Adds f(context) to what backward() runs, last first.
  template <class F>
  void on_backward(F f) {
    static_assert(std::is_trivially_destructible_v<F> && std::is_trivially_copyable_v<F>,
                  "a tape closure is never destroyed: capture views and numbers, not owners");
    void* p = memory_.take(sizeof(F));
    ::new (p) F(f);
    entries_.push_back({[](void* self, context<B>& c) { (*static_cast<F*>(self))(c); }, p});
  }
  /// Runs the entries in reverse order. Gradients of variables and weights are added to (+=).
  void backward() {
    for (auto i = entries_.size(); i-- > 0;) entries_[i].back(entries_[i].self, cx);
    entries_.clear();
  }
  /// Forgets all entries and variables and makes their memory free for the next step.
  void clear() {
    entries_.clear();
    memory_.release({0, 0, 0});
  }
  /// Memory taken since `mark` can be given back early, by code that knows nothing refers to it.
  scratch_stack& memory() { return memory_; }
  std::size_t bytes() const { return memory_.bytes(); }

 private:
  struct entry {
    void (*back)(void*, context<B>&);
    void* self;
  };
  std::vector<entry> entries_;
  scratch_stack memory_;
};

/// A tensor on a tape: `batch` samples of shape S. grad is null where no gradient is wanted.
template <scalar T, static_shape S, backend B>
struct var {
  using scalar_type = T;
  using shape_type = S;
  static constexpr dims extents = S::value;

  T* value;
  T* grad;
  index_t batch;
  tape<B>* on;

  constexpr index_t size() const { return batch * S::size; }
};

/// A constant: data of the caller, no gradient.
template <static_shape S, scalar T, backend B>
var<T, S, B> constant(tape<B>& t, T const* data, index_t batch) {
  return {const_cast<T*>(data), nullptr, batch, &t};
}
/// A copy of the caller's data with a gradient that starts at zero.
template <static_shape S, scalar T, backend B>
var<T, S, B> leaf_variable(tape<B>& t, T const* data, index_t batch) {
  T* v = t.template take<T>(batch * S::size);
  run<op::copy, B, T>(t.cx, {batch * S::size, data, v});
  return {v, t.template zeros<T>(batch * S::size), batch, &t};
}

}  // namespace insula
