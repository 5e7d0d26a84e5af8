// SPDX-License-Identifier: Apache-2.0
// Version of the library and its one integer type for sizes, offsets and counts.
#pragma once

#include <cstdint>

namespace insula {

inline constexpr int version_major = 0;
inline constexpr int version_minor = 1;
inline constexpr int version_patch = 0;
inline constexpr char const* version_text = "0.1.0";

using index_t = std::int64_t;

}  // namespace insula
