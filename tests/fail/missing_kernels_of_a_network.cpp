// SPDX-License-Identifier: Apache-2.0
// A network runs on a backend whose kernels nobody included.
// expect: no kernel<Op, Backend, Scalar> is visible: include insula/cpu\.hpp
#include "insula/autograd/apply.hpp"
#include "insula/layer/conv.hpp"
#include "insula/layer/norm.hpp"
#ifndef INSULA_FAIL
#include "insula/plain.hpp"
#endif

using namespace insula;

using net = seq<conv3d<8, cube(3)>, group_norm<4, activation::gelu>>;
void forward(weights<float> w, var<float, shape<1, 8, 8, 8>, plain> x) { (void)apply<net>(w, x); }
