// SPDX-License-Identifier: Apache-2.0
// A buffer in device memory is asked for, but the CUDA headers are not included.
// expect: (buffer<float, insula::cuda>.*incomplete type|implicit instantiation of undefined template.*buffer<float, insula::cuda>)
#include "insula/device/buffer.hpp"

void make() {
#ifdef INSULA_FAIL
  insula::buffer<float, insula::cuda> weights(8);
#else
  insula::buffer<float, insula::cpu> weights(8);
#endif
  (void)weights;
}
