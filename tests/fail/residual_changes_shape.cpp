// SPDX-License-Identifier: Apache-2.0
// The body of a residual block gives fewer channels than it takes, so the shortcut cannot be added.
// expect: a residual body must keep the size want<> of its input, but gives got<>
#include "insula/layer/activation.hpp"
#include "insula/layer/linear.hpp"
#include "insula/layer/norm.hpp"
#include "insula/net/program.hpp"

using namespace insula;

#ifdef INSULA_FAIL
constexpr int width = 32;
#else
constexpr int width = 48;
#endif
using net = residual<seq<layer_norm, linear<192>, gelu, linear<width>>>;
constexpr index_t weights_of_net = program<net, shape<216, 48>>::weights;
