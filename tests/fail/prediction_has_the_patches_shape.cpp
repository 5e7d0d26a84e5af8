// SPDX-License-Identifier: Apache-2.0
// Predicted patches of another size than those of the volume.
// expect: masked_patches: the prediction must have one row of voxels for each patch of the volume
#include "insula/loss/masked_patches.hpp"

#include "insula/cpu.hpp"

using namespace insula;

#ifdef INSULA_FAIL
using prediction = shape<8, 63>;
#else
using prediction = shape<8, 64>;
#endif
double loss(var<float, prediction, cpu> y, var<float, shape<1, 8, 8, 8>, cpu> x, std::uint8_t const* mask) {
  return masked_patches<cube(4)>(y, x, mask);
}
