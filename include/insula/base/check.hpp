// SPDX-License-Identifier: Apache-2.0
// Run-time errors: one exception type, and a check that builds its message only when it fails.
#pragma once

#include <stdexcept>
#include <string>

#include "insula/base/text.hpp"

namespace insula {

/// Thrown for every failure that a user can cause or repair. The message names the function or file, the field,
/// both values and what to do.
struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... A>
[[noreturn]] void fail(A const&... parts) {
  throw error(text(parts...));
}

/// check(keys == width, "info_nce: keys have ", keys, " columns, the queue is ", width, " wide");
template <class... A>
constexpr void check(bool holds, A const&... parts) {
  if (!holds) [[unlikely]]
    fail(parts...);
}

}  // namespace insula
