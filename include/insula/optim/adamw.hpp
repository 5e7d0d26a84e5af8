// SPDX-License-Identifier: Apache-2.0
// AdamW over a flat weight range, in groups with their own decay and step counters.
#pragma once

#include "insula/optim/adaptive_moments.hpp"

namespace insula {

using adamw_options = detail::moment_options;

/// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) in PyTorch's order of operations; op::adamw has the formula.
/// Elements outside every group are never touched, decay included (parameters without gradient).
template <scalar T, class B = cpu>
class adamw : public detail::adaptive_moments<op::adamw, T, B> {
 public:
  adamw() = default;
  adamw(index_t size, std::vector<parameter_group> groups, adamw_options o = {})
      : detail::adaptive_moments<op::adamw, T, B>(size, std::move(groups), o) {}
};

}  // namespace insula
