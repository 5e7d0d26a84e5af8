// SPDX-License-Identifier: Apache-2.0
// Functions of variables on the tape: sums, scaling, and user-defined steps.
#pragma once

#include "insula/autograd/tape.hpp"
#include "insula/op/pointwise.hpp"

namespace insula {

/// y = a + b; gradients are added to both.
template <scalar T, static_shape S, backend B>
var<T, S, B> sum(var<T, S, B> a, var<T, S, B> b) {
  tape<B>& t = *a.on;
  var<T, S, B> y{t.template take<T>(a.size()), t.template zeros<T>(a.size()), a.batch, &t};
  run<op::add, B, T>(t.cx, {a.size(), a.value, b.value, y.value});
  t.on_backward([=](context<B>& cx) {
    if (a.grad) run<op::axpy, B, T>(cx, {y.size(), T(1), y.grad, a.grad});
    if (b.grad) run<op::axpy, B, T>(cx, {y.size(), T(1), y.grad, b.grad});
  });
  return y;
}

/// y = alpha x
template <scalar T, static_shape S, backend B>
var<T, S, B> scaled(var<T, S, B> x, T alpha) {
  tape<B>& t = *x.on;
  var<T, S, B> y{t.template zeros<T>(x.size()), t.template zeros<T>(x.size()), x.batch, &t};
  run<op::axpy, B, T>(t.cx, {x.size(), alpha, x.value, y.value});
  t.on_backward([=](context<B>& cx) {
    if (x.grad) run<op::axpy, B, T>(cx, {y.size(), alpha, y.grad, x.grad});
  });
  return y;
}

}  // namespace insula
