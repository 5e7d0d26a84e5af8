// SPDX-License-Identifier: Apache-2.0
// Shapes as values (dims) and as types (shape<...>), the three spatial axes (extent), and faults of inference.
#pragma once

#include <concepts>

#include "insula/base/config.hpp"

namespace insula {

/// Extents of one sample, the batch not included. An aggregate on purpose: it is a constexpr value everywhere.
/// Logical order is channels first: (C, D, H, W) for a volume, (tokens, width) for a sequence, (width) for a
/// vector. Memory is always channels-last: (D, H, W, C), (tokens, width), (width).
struct dims {
  int rank;
  index_t n[5];

  constexpr index_t operator[](int i) const { return n[i]; }
  constexpr index_t size() const {
    index_t s = 1;
    for (int i = 0; i < rank; ++i) s *= n[i];
    return s;
  }
  /// Extent of the axis that is contiguous in memory: C of a volume, width of a sequence or vector.
  constexpr index_t channels() const { return rank == 4 ? n[0] : rank == 0 ? 1 : n[rank - 1]; }
  /// Number of voxels or tokens.
  constexpr index_t positions() const { return rank == 0 ? 1 : size() / channels(); }
  friend constexpr bool operator==(dims const&, dims const&) = default;
};

constexpr dims make_dims(std::integral auto... e) { return {int(sizeof...(e)), {index_t(e)...}}; }

/// A static sample shape: shape<C, D, H, W>, shape<tokens, width> or shape<width>.
template <index_t... E>
struct shape {
  static constexpr dims value = make_dims(E...);
  static constexpr index_t size = (E * ... * 1);
};

template <class S>
concept static_shape = requires {
  { S::value } -> std::convertible_to<dims>;
};

/// One number per spatial axis: depth, height, width = array axes 0, 1, 2 of a volume.
struct extent {
  index_t d = 1, h = 1, w = 1;

  constexpr index_t size() const { return d * h * w; }
  constexpr index_t operator[](int axis) const { return axis == 0 ? d : axis == 1 ? h : w; }
  constexpr index_t& operator[](int axis) { return axis == 0 ? d : axis == 1 ? h : w; }
  friend constexpr bool operator==(extent const&, extent const&) = default;
};

/// The same number on all three axes: cube(3) is a 3 x 3 x 3 kernel.
constexpr extent cube(index_t n) { return {n, n, n}; }

/// Spatial extent of a volume's dims (rank 4).
constexpr extent spatial(dims const& v) { return {v.n[1], v.n[2], v.n[3]}; }
constexpr dims volume_dims(index_t channels, extent e) { return make_dims(channels, e.d, e.h, e.w); }

}  // namespace insula
