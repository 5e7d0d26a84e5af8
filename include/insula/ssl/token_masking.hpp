// SPDX-License-Identifier: Apache-2.0
// Random masks of masked autoencoders: which tokens of each sample the encoder keeps, and in which order.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/net/layer.hpp"

namespace insula {

/// Tokens kept of `tokens`: int(tokens (1 - ratio)), truncated in double (facebookresearch/mae models_mae.py).
inline index_t tokens_kept(index_t tokens, double ratio) { return index_t(double(tokens) * (1 - ratio)); }

/// Masks of a batch, with memory of their own. Per sample one number in [0, 1) is drawn for each token; the tokens with the
/// smallest numbers are kept, in ascending order of the numbers (equal ones in order of tokens).
class token_masks {
 public:
  /// Keeps `kept` of `tokens` tokens of up to `batch` samples.
  token_masks(index_t tokens, index_t kept, index_t batch)
      : tokens_(tokens),
        kept_(kept),
        batch_(batch),
        noise_(std::size_t(tokens)),
        shuffle_(std::size_t(batch * tokens)),
        restore_(shuffle_.size()),
        masked_(shuffle_.size()) {
    check(kept >= 1 && kept < tokens, "token_masks: ", kept, " of ", tokens,
          " tokens would be kept; at least one must be kept and one masked");
  }
  /// Sample n of `batch` draws from key with its stream mixed with n.
  void draw(random_key key, index_t batch) {
    check(batch <= batch_, "token_masks: ", batch, " samples, there is memory for ", batch_);
    for (index_t n = 0; n < batch; ++n) {
      random_stream r({key.seed, mix(key.stream, std::uint64_t(n)), key.sub});
      for (auto& v : noise_) v = r.uniform();
      sort(n);
    }
  }
  /// Sets one sample from `tokens` given numbers.
  void set(index_t sample, double const* noise) {
    std::copy_n(noise, tokens_, noise_.begin());
    sort(sample);
  }

  /// For the pass, valid until the next draw.
  token_order order() const { return {shuffle_.data(), restore_.data(), kept_}; }
  /// (batch, tokens): 0 = kept, 1 = masked.
  std::uint8_t const* masked() const { return masked_.data(); }
  index_t tokens() const { return tokens_; }
  index_t kept() const { return kept_; }

 private:
  void sort(index_t n) {
    auto const at = std::size_t(n * tokens_);
    auto* const s = shuffle_.data() + at;
    for (index_t i = 0; i < tokens_; ++i) s[i] = std::int32_t(i);
    std::sort(s, s + tokens_, [this](std::int32_t a, std::int32_t b) {  // in place: a stable sort allocates
      double const x = noise_[std::size_t(a)], y = noise_[std::size_t(b)];
      return x < y || (x == y && a < b);
    });
    for (index_t i = 0; i < tokens_; ++i) {
      restore_[at + std::size_t(s[i])] = std::int32_t(i);
      masked_[at + std::size_t(s[i])] = i >= kept_;
    }
  }
  index_t tokens_, kept_, batch_;
  std::vector<double> noise_;
  std::vector<std::int32_t> shuffle_, restore_;
  std::vector<std::uint8_t> masked_;
};

}  // namespace insula
