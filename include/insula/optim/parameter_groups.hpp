// SPDX-License-Identifier: Apache-2.0
// Parts of a weight range that an optimiser updates with settings of their own.
#pragma once

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include "insula/net/describe.hpp"

namespace insula {

/// A contiguous part of the weight range that is updated with one learning rate and decay.
struct parameter_group {
  index_t offset = 0, size = 0;
  double decay = 0.01;
  double rate_scale = 1;  ///< times the learning rate of step()
};

/// What group_tensors() asks of each tensor.
struct group_settings {
  double decay = 0, rate_scale = 1;
  friend constexpr bool operator==(group_settings const&, group_settings const&) = default;
};

namespace detail {
inline void sort_by_offset(std::vector<tensor_place>& places) {
  std::sort(places.begin(), places.end(),
            [](tensor_place const& a, tensor_place const& b) { return a.offset < b.offset; });
}
}  // namespace detail

/// The groups of an optimiser from one answer per tensor: settings(place) is a group_settings, or nullopt for a tensor that is
/// not trained; frozen tensors are not asked for. Neighbours in memory with equal settings become one group, with the
/// alignment gap between them (which holds zeros and gets no gradient).
template <class Settings>
std::vector<parameter_group> group_tensors(std::vector<tensor_place> places, Settings const& settings) {
  detail::sort_by_offset(places);
  std::vector<parameter_group> groups;
  for (auto const& t : places) {
    if (t.frozen) continue;
    std::optional<group_settings> const s = settings(t);
    if (!s) continue;
    bool const joins = !groups.empty() &&
                       group_settings{groups.back().decay, groups.back().rate_scale} == *s &&
                       aligned(groups.back().offset + groups.back().size) == t.offset;
    if (joins)
      groups.back().size = t.offset + t.size() - groups.back().offset;
    else
      groups.push_back({t.offset, t.size(), s->decay, s->rate_scale});
  }
  return groups;
}

/// True for the tensors that are usually neither decayed nor adapted: vectors and scalars, and names that end in "bias".
/// huggingface/pytorch-image-models 0.3.2, timm/optim/optim_factory.py: add_weight_decay.
inline bool is_vector_or_bias(tensor_place const& t) {
  return t.shape.rank <= 1 || std::string_view(t.name).ends_with("bias");
}

/// Decay for all tensors but vectors and biases.
inline std::vector<parameter_group> decay_matrices(std::vector<tensor_place> places, double decay) {
  return group_tensors(std::move(places), [=](tensor_place const& t) {
    return group_settings{is_vector_or_bias(t) ? 0 : decay, 1};
  });
}

}  // namespace insula
