// SPDX-License-Identifier: Apache-2.0
// A user's program: threads fill a buffer, a second unit adds it up, a third asks the file libraries who they are.
#include <cstdio>

#include "insula/base/check.hpp"
#include "insula/device/buffer.hpp"

double sum_of(insula::context<insula::cpu>& cx, insula::buffer<double, insula::cpu> const& values);
bool has_file_libraries();

int main() {
  insula::context<insula::cpu> cx(2);
  insula::buffer<double, insula::cpu> values(1000);
  cx.pool.run(values.size(), [&](insula::index_t i, int) { values[i] = double(i); });
  double const sum = sum_of(cx, values);
  std::printf("insula %s: the sum is %.0f\n", insula::version_text, sum);
  return sum == 499500 && has_file_libraries() ? 0 : 1;
}
