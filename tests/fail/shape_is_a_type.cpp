// SPDX-License-Identifier: Apache-2.0
// A view is declared over a number in place of a shape.
// expect: (template constraint failure for|constraints not satisfied for class template).*view
#include "insula/device/backend.hpp"

#ifdef INSULA_FAIL
insula::view<float, int, insula::cpu>* x = nullptr;
#else
insula::view<float, insula::shape<96>, insula::cpu>* x = nullptr;
#endif
