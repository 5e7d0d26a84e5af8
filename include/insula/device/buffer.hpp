// SPDX-License-Identifier: Apache-2.0
// Owning flat ranges.
#pragma once

#include <concepts>
#include <utility>

#include "insula/device/cpu.hpp"

namespace insula {

/// Owns `size` elements of T in the memory of backend B, zero-filled, 64-byte aligned. Move-only.
template <class T, class B>
class buffer;

template <class T, class B>
requires(std::same_as<B, cpu> || std::same_as<B, plain>) class buffer<T, B> {
 public:
  buffer() = default;
  explicit buffer(index_t size) : block_(std::size_t(size) * sizeof(T)), size_(size) {}
  buffer(buffer&& o) noexcept : block_(std::move(o.block_)), size_(std::exchange(o.size_, 0)) {}
  buffer& operator=(buffer&& o) noexcept {
    block_ = std::move(o.block_), size_ = std::exchange(o.size_, 0);
    return *this;
  }

  T* data() { return reinterpret_cast<T*>(block_.data()); }
  T const* data() const { return reinterpret_cast<T const*>(block_.data()); }
  index_t size() const { return size_; }
  T& operator[](index_t i) { return data()[i]; }
  T const& operator[](index_t i) const { return data()[i]; }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  T const* begin() const { return data(); }
  T const* end() const { return data() + size_; }

 private:
  memory_block block_;
  index_t size_ = 0;
};

}  // namespace insula
