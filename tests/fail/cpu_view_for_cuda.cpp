// SPDX-License-Identifier: Apache-2.0
// Data in the memory of the processor is handed to a function that reads the memory of a device.
// expect: (could not convert|no known conversion).*view<.*cpu>.*view<.*cuda>
#include "insula/device/backend.hpp"

using brain = insula::shape<1, 8, 8, 8>;
void on_device(insula::view<float, brain, insula::cuda>);

void call(float* data) {
#ifdef INSULA_FAIL
  insula::view<float, brain, insula::cpu> const x{data, 1};
#else
  insula::view<float, brain, insula::cuda> const x{data, 1};
#endif
  on_device(x);
}
