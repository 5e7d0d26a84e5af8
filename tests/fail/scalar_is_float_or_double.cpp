// SPDX-License-Identifier: Apache-2.0
// A function of networks is called with integers.
// expect: no matching function for call to .mean
#include "insula/base/config.hpp"
#include "insula/base/scalar.hpp"

template <insula::scalar T>
T mean(T const* x, insula::index_t n);

void call(int const* labels, float const* voxels) {
#ifdef INSULA_FAIL
  mean(labels, 8);
#else
  mean(voxels, 8);
#endif
  (void)labels, (void)voxels;
}
