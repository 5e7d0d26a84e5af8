// SPDX-License-Identifier: Apache-2.0
// How weights start: each tensor by its rule, every element a function of (seed, tensor, index on disk).
#pragma once

#include "insula/net/describe.hpp"

namespace insula {

/// Writes (=) every tensor of `places` into the weight range. Element i of tensor k draws from stream (key, k, i), so the
/// result depends on neither the backend nor the order in memory.
template <class T>
void initialise(std::vector<tensor_place> const& places, T* weights, random_key key) {
  for (std::size_t k = 0; k < places.size(); ++k) {
    tensor_place const& t = places[k];
    detail::memory_index const at(t);
    random_key const own = key.with(std::uint32_t(k));
    double const bound = 1.0 / std::sqrt(double(t.fan_in));
    for (index_t i = 0; i < t.size(); ++i) {
      double v = 0;
      switch (t.how) {
        case start::zeros:
          break;
        case start::ones:
          v = 1;
          break;
        case start::fan_uniform:
          v = bound * (2 * uniform_at(own, std::uint32_t(i)) - 1);
          break;
        case start::small_normal:
          v = 0.02 * normal_at(own, std::uint32_t(i));
          break;
        case start::fan_out_normal:  // disk is (out, in, kernel...)
          v = std::sqrt(2.0 * double(t.shape.n[1]) / double(t.size())) * normal_at(own, std::uint32_t(i));
          break;
        case start::xavier_uniform:
          v = std::sqrt(6.0 / double(t.fan_in + t.shape.n[0])) * (2 * uniform_at(own, std::uint32_t(i)) - 1);
          break;
        case start::table:
          v = t.table(t.shape, i);
          break;
      }
      weights[t.offset + at(i)] = T(v);
    }
  }
}

/// Starts (=) running statistics by their rule and counters at 0.
template <class T>
void initialise_state(std::vector<tensor_place> const& places, program_state<T> state) {
  for (auto const& t : places)
    for (index_t i = 0; i < t.size(); ++i) {
      if (t.kind == tensor_kind::state) state.values[t.offset + i] = t.how == start::ones ? T(1) : T(0);
      if (t.kind == tensor_kind::counter) state.counters[t.offset + i] = 0;
    }
}

/// One tensor (=) from N(0, deviation^2), for a head that starts otherwise than its layer says: facebookresearch/mae takes
/// 2e-5 when it fine-tunes and 0.01 when it probes.
template <class T>
void initialise_normal(tensor_place const& t, T* weights, double deviation, random_key key) {
  detail::memory_index const at(t);
  for (index_t i = 0; i < t.size(); ++i)
    weights[t.offset + at(i)] = T(deviation * normal_at(key, std::uint32_t(i)));
}

}  // namespace insula
