// SPDX-License-Identifier: Apache-2.0
// Shifted-window attention in three dimensions, as one fused half-block from norm to residual.
#pragma once

#include "insula/op/kernel.hpp"

namespace insula::op {

/// Geometry of one Swin attention half-block. `window` is the nominal window (7 x 7 x 7): per axis the window in use
/// is min(window, grid) and the shift is 0 where grid <= window (MONAI get_window_size).
struct window_geometry {
  index_t batch;
  extent grid;           // D x H x W tokens
  extent window, shift;  // nominal
  index_t channels, heads;

  constexpr extent used_window() const {
    extent u;
    for (int i = 0; i < 3; ++i) u[i] = grid[i] <= window[i] ? grid[i] : window[i];
    return u;
  }
  constexpr extent used_shift() const {
    extent u;
    for (int i = 0; i < 3; ++i) u[i] = grid[i] <= window[i] ? 0 : shift[i];
    return u;
  }
  constexpr extent windows() const {  // per axis, after zero padding at the end
    extent u;
    for (int i = 0; i < 3; ++i) u[i] = (grid[i] + used_window()[i] - 1) / used_window()[i];
    return u;
  }
  constexpr index_t tokens() const { return used_window().size(); }
  constexpr index_t table_rows() const {
    return (2 * window.d - 1) * (2 * window.h - 1) * (2 * window.w - 1);
  }
  /// Elements of args::lse per call.
  constexpr index_t saved() const { return batch * windows().size() * heads * tokens(); }
  /// Elements of args::kept per call.
  constexpr index_t kept() const { return batch * grid.size() * 4 * channels; }
};

/// Row of the relative-position table for query token i and key token j. Both are coordinates in the NOMINAL
/// window, c(t) = (t div (h w), (t div w) mod h, t mod w), also when the window in use is smaller: a clamped window
/// takes the top-left corner of the nominal index matrix (MONAI WindowAttention.forward).
constexpr index_t relative_position(extent window, index_t i, index_t j) {
  index_t const plane = window.h * window.w;
  index_t const d = i / plane - j / plane + window.d - 1;
  index_t const h = i / window.w % window.h - j / window.w % window.h + window.h - 1;
  index_t const w = i % window.w - j % window.w + window.w - 1;
  return (d * (2 * window.h - 1) + h) * (2 * window.w - 1) + w;
}

/// y = x + attention(norm(x)): affine LayerNorm over channels; zero padding of the normalised tokens at the end of
/// each axis (padding tokens take part as keys and values); roll by -shift; windows in row-major order; per head
///   A = q k^T / sqrt(channels / heads) + table[relative_position(i, j)][head] + (labels differ ? -100 : 0),
///   O = softmax(A) v;   projection; roll back; crop; residual.
/// qkv columns are [q | k | v], each head-major. Labels: per axis with shift s and padded extent P, the rolled
/// coordinate p lies in region 0 if p < P - w, 1 if p < P - s, else 2; all 2 on an axis without shift; a token's label
/// combines the three. Liu et al. 2021 (arXiv 2103.14030); MONAI 1.5 monai/networks/nets/swin_unetr.py.
/// y may be x.
struct window_attention {
  template <class T>
  struct args {
    window_geometry g;
    double eps;
    T const* x;                // (batch, grid, channels)
    T const *norm_w, *norm_b;  // (channels)
    T const* table;            // (table_rows, heads)
    T const *qkv_w, *qkv_b;    // (channels, 3 channels), (3 channels)
    T const *proj_w, *proj_b;  // (channels, channels), (channels)
    T* y;                      // (batch, grid, channels)
    T* lse;  // (batch, windows, heads, tokens): row log-sum-exp of A; null if no gradient follows. Rows of padding
             // tokens are never read and need not be computed: nothing may depend on them
    /// kept() elements that the gradient on the same device can use (q, k, v and the heads' outputs, in an order of its own), or
    /// null: then it computes them again.
    T* kept = nullptr;
  };
};

/// Gradient from the input x and the saved lse: the probabilities are computed again, and so are q, k, v and the heads' outputs
/// where the forward pass did not keep them.
/// gx contains the residual's gy; gx may be gy (then adds must be false).
struct window_attention_grad {
  template <class T>
  struct args {
    window_geometry g;
    double eps;
    T const *x, *norm_w, *norm_b, *table, *qkv_w, *qkv_b, *proj_w, *proj_b, *lse, *gy;
    bool adds;
    T *gx, *gnorm_w, *gnorm_b, *gtable, *gqkv_w, *gqkv_b, *gproj_w, *gproj_b;
    T const* kept = nullptr;  // what the forward pass on the same device kept, or null
  };
};

}  // namespace insula::op
