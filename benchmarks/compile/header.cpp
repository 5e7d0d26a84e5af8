// SPDX-License-Identifier: Apache-2.0
// insula.hpp and nothing else.
#include "insula/insula.hpp"
