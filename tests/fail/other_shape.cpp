// SPDX-License-Identifier: Apache-2.0
// A volume of 8 x 8 x 8 voxels is handed to a function of 8 x 8 x 16 voxels.
// expect: (could not convert|no known conversion).*view<.*shape<.*>.*view<.*shape<
#include "insula/device/backend.hpp"

void forward(insula::view<float, insula::shape<1, 8, 8, 16>, insula::cpu>);

void call(float* data) {
#ifdef INSULA_FAIL
  insula::view<float, insula::shape<1, 8, 8, 8>, insula::cpu> const x{data, 1};
#else
  insula::view<float, insula::shape<1, 8, 8, 16>, insula::cpu> const x{data, 1};
#endif
  forward(x);
}
