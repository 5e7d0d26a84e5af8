// SPDX-License-Identifier: Apache-2.0
// The number types networks compute in.
#pragma once

#include <concepts>

namespace insula {

template <class T>
concept scalar = std::same_as<T, float> || std::same_as<T, double>;

}  // namespace insula
