// SPDX-License-Identifier: Apache-2.0
// Adam over a flat weight range, in groups with their own step counters.
#pragma once

#include "insula/optim/adaptive_moments.hpp"

namespace insula {

using adam_options = detail::moment_options;

/// Adam (Kingma & Ba 2015, arXiv 1412.6980) in PyTorch's order of operations; op::adam has the formula. A group's decay is an
/// L2 term in the gradient; the published trainings that use Adam have none (decay 0), and that is what adam(size) does.
///   adam<float> optimizer(net::size);                                        // everything, no decay
///   adam<float> probe(net::size, {{head_offset, head_size, 0}});             // the head alone: the rest is never touched
template <scalar T, class B = cpu>
class adam : public detail::adaptive_moments<op::adam, T, B> {
 public:
  adam() = default;
  adam(index_t size, std::vector<parameter_group> groups, adam_options o = {})
      : detail::adaptive_moments<op::adam, T, B>(size, std::move(groups), o) {}
  explicit adam(index_t size, adam_options o = {})
      : detail::adaptive_moments<op::adam, T, B>(size, {{0, size, 0}}, o) {}
};

}  // namespace insula
