// SPDX-License-Identifier: Apache-2.0
// A transformer-like model of ViT-B's size: twelve blocks of width 768, each a mixing and a feed-forward half.
#include "declared_kernels.hpp"

using namespace insula;

using block = seq<residual<seq<layer_norm, linear<2304>, gelu, linear<768>>>, feed_forward<4>>;
using vit_b = seq<named<"patch_embedding", conv3d<768, cube(16), conv_opts{.stride = cube(16)}>>,
                  named<"blocks", repeat<12, block>>, layer_norm, global_average>;
using brain = shape<1, 96, 96, 96>;

static_assert(program<vit_b, brain>::out == make_dims(768));
static_assert(program<vit_b, brain>::bytes(1, sizeof(float)) < index_t(2) << 30);
template double training_step<vit_b, brain>(context<cpu>&, model<vit_b, brain>&, adamw<float>&, float const*,
                                            float const*);
