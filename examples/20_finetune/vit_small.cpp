// SPDX-License-Identifier: Apache-2.0
// Training of the small vision transformer.
#include "vit.hpp"

std::unique_ptr<trainer> make_small_vit(settings const& s, labelled_data const& data,
                                        insula::context<insula::cpu>& cx) {
  return make_vit_of<program::small_vit>(s, data, cx);
}
insula::extent small_vit_grid() { return program::small_vit::volume; }
