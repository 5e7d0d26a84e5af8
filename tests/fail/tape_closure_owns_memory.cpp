// SPDX-License-Identifier: Apache-2.0
// A step on the tape captures a vector, which nobody would ever free.
// expect: a tape closure is never destroyed: capture views and numbers, not owners
#include <vector>

#include "insula/autograd/tape.hpp"

void scale_backwards(insula::tape<insula::cpu>& t, std::vector<float>& gradient) {
#ifdef INSULA_FAIL
  t.on_backward([gradient](insula::context<insula::cpu>&) mutable { gradient[0] *= 2; });
#else
  t.on_backward([first = gradient.data()](insula::context<insula::cpu>&) { first[0] *= 2; });
#endif
}
