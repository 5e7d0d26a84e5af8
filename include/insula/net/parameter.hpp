// SPDX-License-Identifier: Apache-2.0
// One trainable tensor of a layer: its published name, shape and order on disk, and how it starts.
#pragma once

#include "insula/base/dims.hpp"

namespace insula {

/// How the order in memory follows from the order on disk.
///   same            memory = disk
///   linear          disk (out, in)                    memory (in, out)
///   conv            disk (out, in/groups, kd, kh, kw) memory (kd, kh, kw, in/groups, out)
///   conv_transpose  disk (in, out, kd, kh, kw)        memory (kd, kh, kw, in, out)
enum class layout { same, linear, conv, conv_transpose };

/// How a tensor starts. fan_uniform: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the default of PyTorch's linear and
/// convolution layers for weight and bias; small_normal: N(0, 0.02^2); fan_out_normal: N(0, 2 / fan_out) with fan_out = outputs
/// x kernel, for convolutions before a ReLU (He et al. 2015, arXiv 1502.01852, equation 14); xavier_uniform: U(-b, b),
/// b = sqrt(6 / (fan_in + fan_out)), fan_out = first axis on disk (Glorot & Bengio 2010); table: element i is table(shape, i).
enum class start { zeros, ones, fan_uniform, small_normal, fan_out_normal, xavier_uniform, table };

struct parameter {
  char const* name;  ///< last part of the published name, e.g. "weight" or "attn.qkv.bias"
  dims shape;        ///< on disk
  layout order = layout::same;
  start how = start::zeros;
  index_t fan_in = 1;
  double (*table)(dims shape, index_t i) = nullptr;  ///< of start::table, i counts elements on disk
  bool fixed = false;  ///< part of the state_dict but never trained: no gradient, no update
};

inline constexpr int most_parameters = 10;       // per leaf layer
inline constexpr int most_states = 4;            // per leaf layer
inline constexpr index_t weight_alignment = 16;  // elements: every tensor starts on a 64-byte line in float

/// The tensors of one leaf layer in memory order.
struct parameter_list {
  parameter at[most_parameters]{};
  int count = 0;

  constexpr parameter_list() = default;
  template <class... P>
  constexpr parameter_list(parameter first, P... rest)
      : at{first, rest...}, count(int(1 + sizeof...(rest))) {}
};

/// One tensor that a layer keeps from pass to pass and that no gradient changes: running statistics, or a counter of passes.
struct state_tensor {
  char const* name;  ///< last part of the published name, e.g. "running_mean"
  dims shape;        ///< the same on disk and in memory
  start how = start::zeros;
  bool counter = false;  ///< integers, std::int64_t, in a range of their own
};

/// The state of one leaf layer; on disk it follows the layer's parameters.
struct state_list {
  state_tensor at[most_states]{};
  int count = 0;

  constexpr state_list() = default;
  template <class... S>
  constexpr state_list(state_tensor first, S... rest) : at{first, rest...}, count(int(1 + sizeof...(rest))) {}
};

constexpr index_t aligned(index_t n) {
  return (n + weight_alignment - 1) / weight_alignment * weight_alignment;
}

}  // namespace insula
