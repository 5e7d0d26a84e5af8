// SPDX-License-Identifier: Apache-2.0
// Training of the published ViT-Large.
#include "vit.hpp"

std::unique_ptr<trainer> make_paper_large_vit(settings const& s, labelled_data const& data,
                                              insula::context<insula::cpu>& cx) {
  return make_vit_of<program::paper_large_vit>(s, data, cx);
}
