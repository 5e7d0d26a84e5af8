// SPDX-License-Identifier: Apache-2.0
// The network that the settings name: one translation unit, since most of what a network needs compiled is the same for all.
#include "resnet.hpp"
#include "vit.hpp"

namespace {

template <class O>
network resnet() {
  return {O::crop, [](settings const& s, labelled_data const& data, insula::context<insula::cpu>& cx) {
            return std::unique_ptr<trainer>(std::make_unique<resnet_trainer<O>>(s, data, cx));
          }};
}
template <class O>
network vit() {
  return {O::volume, make_vit_of<O>};
}

}  // namespace

network network_of(settings const& s) {
  if (s.network == "resnet")
    return s.model == "small" ? resnet<program::small_resnet>() : resnet<program::paper_resnet>();
  return s.model == "small"         ? vit<program::small_vit>()
         : s.model == "paper-base"  ? vit<program::paper_base_vit>()
         : s.model == "paper-large" ? vit<program::paper_large_vit>()
                                    : vit<program::paper_vit>();
}
