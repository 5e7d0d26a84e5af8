// SPDX-License-Identifier: Apache-2.0
// Training of the published ViT-Tiny.
#include "vit.hpp"

std::unique_ptr<trainer> make_paper_vit(settings const& s, labelled_data const& data,
                                        insula::context<insula::cpu>& cx) {
  return make_vit_of<program::paper_vit>(s, data, cx);
}
insula::extent paper_vit_grid() { return program::paper_vit::volume; }
