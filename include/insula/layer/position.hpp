// SPDX-License-Identifier: Apache-2.0
// Fixed sine-cosine embeddings of positions on a grid of patches.
#pragma once

#include <cmath>

#include "insula/base/dims.hpp"

namespace insula {

/// How the channels of a fixed embedding are shared among the axes of the grid. A block of d channels encodes position p as
/// [sin(p w_0) ... sin(p w_{d/2-1}), cos(p w_0) ...],  w_k = 10000^(-k / (d/2)).
enum class position_axes {
  zyx,  ///< z, y, x, d = 2 ceil(width / 6), what exceeds the width cut off: JEPA's rule (facebookresearch/jepa
        ///< src/models/utils/pos_embs.py, uniform power). Equals SelfMedMAE's where 6 divides the width
  yzx,  ///< y, z, x, d = width / 3: MONAI's MaskedAutoEncoderViT; 6 must divide the width
  plane  ///< x, y, d = width / 2, one plane: MAE (facebookresearch/mae util/pos_embed.py); 4 must divide the width
};

/// Does the rule have a table of this width?
constexpr bool has_positions(position_axes axes, index_t width) {
  return axes == position_axes::zyx ? width > 0
                                    : width > 0 && width % (axes == position_axes::yzx ? 6 : 4) == 0;
}

/// Number `channel` of `width` of the embedding of token `token` of the grid, tokens numbered z, y, x.
inline double sine_cosine(extent grid, position_axes axes, index_t width, index_t token, index_t channel) {
  index_t const at[3] = {token / (grid.h * grid.w), token / grid.w % grid.h, token % grid.w};
  static constexpr int order[3][3] = {{0, 1, 2}, {1, 0, 2}, {2, 1, 1}};
  index_t const half = axes == position_axes::plane ? width / 4 : (width + 5) / 6;
  index_t const k = channel % (2 * half);
  double const angle = double(at[order[int(axes)][channel / (2 * half)]]) *
                       std::pow(10000.0, -double(k % half) / double(half));
  return k < half ? std::sin(angle) : std::cos(angle);
}

/// The same as the start of a tensor (1, 1 + grid, width), whose first row, the class token's, is zero; rounded to float, as
/// published tables are.
template <extent Grid, position_axes Axes>
double position_table(dims shape, index_t i) {
  index_t const width = shape.n[2], row = i / width;
  return row == 0 ? 0 : double(float(sine_cosine(Grid, Axes, width, row - 1, i % width)));
}

}  // namespace insula
