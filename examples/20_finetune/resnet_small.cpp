// SPDX-License-Identifier: Apache-2.0
// Training of the small ResNet.
#include "resnet.hpp"

std::unique_ptr<trainer> make_small_resnet(settings const& s, labelled_data const& data,
                                           insula::context<insula::cpu>& cx) {
  return std::make_unique<resnet_trainer<program::small_resnet>>(s, data, cx);
}
insula::extent small_resnet_grid() { return program::small_resnet::crop; }
