// SPDX-License-Identifier: Apache-2.0
// One tensor of a file: its name, element type and shape, with sizes that are checked for overflow.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "insula/io/dtype.hpp"

namespace insula {

/// One tensor of a file: row-major, the last axis contiguous. Where its bytes lie is a matter of the file's kind: in a
/// safetensors file they are [begin, end) of the file's data, in a torch file begin is 0 and end their number.
struct tensor_info {
  std::string name;
  dtype type = dtype::f32;
  std::vector<index_t> shape;
  std::size_t begin = 0, end = 0;

  index_t count() const {
    index_t n = 1;
    for (auto const e : shape) n *= e;
    return n;
  }
};

/// "[2, 3, 4]"
inline std::string shape_text(std::span<index_t const> shape) {
  std::string s = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) s += text(i ? ", " : "", shape[i]);
  return s += "]";
}

/// Number of elements, or nothing if it does not fit index_t (zero extents do not hide an overflow of the
/// others).
inline std::optional<index_t> checked_count(std::span<index_t const> shape) {
  index_t n = 1;
  bool empty = false;
  for (auto const e : shape) {
    if (e < 0) return {};
    if (e == 0)
      empty = true;
    else if (__builtin_mul_overflow(n, e, &n))
      return {};
  }
  return empty ? 0 : n;
}

/// Bytes of count elements, or nothing on overflow or if the bits do not fill whole bytes (F4, F6).
inline std::optional<std::size_t> checked_bytes(dtype type, index_t count) {
  std::size_t bits = 0;
  if (__builtin_mul_overflow(std::size_t(count), std::size_t(bits_of(type)), &bits)) return {};
  if (bits % 8 != 0) return {};
  return bits / 8;
}

}  // namespace insula
