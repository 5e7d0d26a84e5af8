// SPDX-License-Identifier: Apache-2.0
// The weights of 3D-Neuro-SimCLR's golden numbers: the deterministic fill in the order of the state_dict.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "insula/net/model.hpp"
#include "insula/zoo/published_order.hpp"
#include "support/fill.hpp"

namespace support {

/// Entry k of the state_dict gets stream 1000 + k: convolutions +-sqrt(6 / (C_out k^3)), projector +-1/sqrt(512), scales of norms
/// and running variances 1 +- 0.1, all else +-0.1.
template <class T>
void fill_neuro_simclr(std::vector<insula::tensor_place> const& tensors, T* weights,
                       insula::program_state<T> state) {
  std::uint32_t seed = 1000;
  for (auto const& t : insula::published_order(tensors)) {
    bool const matrix = t.shape.rank == 2, volume = t.shape.rank == 5;
    bool const around_one =
        t.name.ends_with("running_var") || (t.shape.rank == 1 && t.name.ends_with(".weight"));
    double const a = volume   ? std::sqrt(6.0 / (double(t.size()) / double(t.shape.n[1])))
                     : matrix ? std::pow(512.0, -0.5)
                              : 0.1;
    auto const v = fill(seed++, std::size_t(t.size()), a, around_one ? 1 : 0);
    if (t.kind == insula::tensor_kind::counter)
      state.counters[t.offset] = 0;
    else
      insula::from_disk(t, v.data(), t.kind == insula::tensor_kind::weight ? weights : state.values);
  }
}

}  // namespace support
