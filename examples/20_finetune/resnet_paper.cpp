// SPDX-License-Identifier: Apache-2.0
// Training of the published ResNet.
#include "resnet.hpp"

std::unique_ptr<trainer> make_paper_resnet(settings const& s, labelled_data const& data,
                                           insula::context<insula::cpu>& cx) {
  return std::make_unique<resnet_trainer<program::paper_resnet>>(s, data, cx);
}
insula::extent paper_resnet_grid() { return program::paper_resnet::crop; }
