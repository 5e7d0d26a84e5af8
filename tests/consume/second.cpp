// SPDX-License-Identifier: Apache-2.0
// The same headers in a second translation unit: both must link into one program.
#include "insula/base/check.hpp"
#include "insula/device/buffer.hpp"

double sum_of(insula::context<insula::cpu>& cx, insula::buffer<double, insula::cpu> const& values) {
  insula::check(values.size() > 0, "sum_of: no values");
  insula::scratch const hold(cx);
  double sum = 0;
  for (double v : values) sum += v;
  return sum;
}
