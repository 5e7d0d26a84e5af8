// SPDX-License-Identifier: Apache-2.0
// Random masks of masked image modelling, drawn on the bottleneck grid and spread to tokens and voxels.
#pragma once

#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/random.hpp"

namespace insula {

/// The three grids of a mask: voxels, tokens (patches) and bottleneck cells (UMBRA utils/masking.py).
struct mask_grid {
  extent input;  ///< voxels, a multiple of patch
  extent patch = cube(2);
  int downsamples = 4;  ///< halvings from tokens to bottleneck cells

  constexpr extent tokens() const {
    extent t;
    for (int i = 0; i < 3; ++i) t[i] = (input[i] + patch[i] - 1) / patch[i];
    return t;
  }
  constexpr extent cells() const {
    extent c = tokens();
    index_t const f = index_t(1) << downsamples;
    for (int i = 0; i < 3; ++i) c[i] = (c[i] + f - 1) / f;
    return c;
  }
};

/// The range the share of masked cells is drawn from, once per sample.
struct mask_ratio {
  double low = 0.5, high = 0.75;
};

namespace detail {
inline index_t nearest_cell(index_t o, index_t cells,
                            index_t tokens) {  // legacy "nearest", product in float32
  if (cells == tokens) return o;
  if (tokens == 2 * cells) return o / 2;
  float const at = float(o) * (float(cells) / float(tokens));
  return index_t(at) < cells ? index_t(at) : cells - 1;
}
}  // namespace detail

/// Bottleneck cells, 1 = masked: ratio ~ U(low, high), k = round-half-even(ratio * cells), k cells without replacement.
inline void draw_cells(mask_grid const& g, mask_ratio ratio, random_key key, std::uint8_t* cells) {
  index_t const n = g.cells().size();
  random_stream r(key);
  index_t const k = index_t(std::nearbyint(r.uniform(ratio.low, ratio.high) * double(n)));
  for (index_t i = 0; i < n; ++i) cells[i] = 0;
  for (index_t i = n - k; i < n; ++i) {  // Floyd: k of n, uniformly
    index_t const j = r.below(i + 1);
    cells[cells[j] ? i : j] = 1;
  }
}

/// tokens[p] = cells[nearest cell of p]
inline void cells_to_tokens(mask_grid const& g, std::uint8_t const* cells, std::uint8_t* tokens) {
  extent const t = g.tokens(), c = g.cells();
  for (index_t d = 0; d < t.d; ++d)
    for (index_t h = 0; h < t.h; ++h)
      for (index_t w = 0; w < t.w; ++w)
        tokens[(d * t.h + h) * t.w + w] =
            cells[(detail::nearest_cell(d, c.d, t.d) * c.h + detail::nearest_cell(h, c.h, t.h)) * c.w +
                  detail::nearest_cell(w, c.w, t.w)];
}

/// voxels[v] = tokens[v / patch]
inline void tokens_to_voxels(mask_grid const& g, std::uint8_t const* tokens, std::uint8_t* voxels) {
  extent const t = g.tokens(), n = g.input;
  for (index_t d = 0; d < n.d; ++d)
    for (index_t h = 0; h < n.h; ++h)
      for (index_t w = 0; w < n.w; ++w)
        voxels[(d * n.h + h) * n.w + w] = tokens[(d / g.patch.d * t.h + h / g.patch.h) * t.w + w / g.patch.w];
}

/// Masks of a batch with memory of their own: one draw per sample.
class mask_batch {
 public:
  mask_batch(mask_grid g, index_t batch)
      : grid_(g),
        batch_(batch),
        cells_(std::size_t(g.cells().size())),
        tokens_(std::size_t(batch * g.tokens().size())),
        voxels_(std::size_t(batch * g.input.size())) {
    for (int i = 0; i < 3; ++i)
      check(g.input[i] % g.patch[i] == 0, "mask_batch: the input ", g.input, " is no multiple of the patch ",
            g.patch, ": pad or crop it, or prediction and target differ in shape");
  }
  /// Sample n draws from key with stream mixed by n.
  void draw(mask_ratio ratio, random_key key) {
    for (index_t n = 0; n < batch_; ++n) {
      draw_cells(grid_, ratio, {key.seed, mix(key.stream, std::uint64_t(n)), key.sub}, cells_.data());
      spread(n);
    }
  }
  /// Sets one sample from bottleneck cells.
  void set(index_t sample, std::vector<std::uint8_t> const& cells) {
    check(cells.size() == cells_.size(), "mask_batch: ", cells.size(), " cells given, the grid has ",
          cells_.size());
    cells_ = cells;
    spread(sample);
  }
  std::uint8_t const* tokens() const { return tokens_.data(); }
  std::uint8_t const* voxels() const { return voxels_.data(); }
  index_t masked_voxels() const {
    index_t n = 0;
    for (auto v : voxels_) n += v;
    return n;
  }

 private:
  void spread(index_t n) {
    std::uint8_t* t = tokens_.data() + n * grid_.tokens().size();
    cells_to_tokens(grid_, cells_.data(), t);
    tokens_to_voxels(grid_, t, voxels_.data() + n * grid_.input.size());
  }
  mask_grid grid_;
  index_t batch_;
  std::vector<std::uint8_t> cells_, tokens_, voxels_;
};

}  // namespace insula
