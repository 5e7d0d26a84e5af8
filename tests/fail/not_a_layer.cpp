// SPDX-License-Identifier: Apache-2.0
// A template of a layer stands in a network without its arguments filled in.
// expect: (template constraint failure for|constraints not satisfied for class template).*seq
#include "insula/layer/linear.hpp"
#include "insula/net/program.hpp"

using namespace insula;

struct options {
  static constexpr int width = 64;
};
#ifdef INSULA_FAIL
seq<linear<128>, options>* net = nullptr;
#else
seq<linear<128>, linear<options::width>>* net = nullptr;
#endif
