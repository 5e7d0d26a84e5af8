// SPDX-License-Identifier: Apache-2.0
// Published golden numbers: the deterministic filler applied to networks, and statistics of tensors.
#pragma once

#include <string>
#include <vector>

#include "insula/net/model.hpp"
#include "insula/testing/compare.hpp"
#include "insula/zoo/published_order.hpp"

namespace insula::testing {

/// Fills parameter number k (order of the published module, starting at `first`) with stream k by the rules of the
/// published golden numbers (docs/papers/umbra.md).
template <class T>
void fill_published(std::vector<tensor_place> const& places, T* weights, std::uint32_t first = 0) {
  auto const ends = [](std::string const& s, char const* e) {
    std::string const end(e);
    return s.size() >= end.size() && s.compare(s.size() - end.size(), end.size(), end) == 0;
  };
  std::uint32_t k = first;
  for (auto const& t : published_order(places)) {
    std::vector<double> disk(std::size_t(t.size()));
    double const spread = std::sqrt(3.0 / (double(t.size()) / double(t.shape.n[0])));
    for (std::size_t i = 0; i < disk.size(); ++i) {
      double const r = filler(k, i);
      disk[i] = ends(t.name, "relative_position_bias_table") ? 0.5 * r
                : ends(t.name, "bias")                       ? 0.1 * r
                : ends(t.name, "mask_token")                 ? r
                : ends(t.name, "fusion_weights")             ? r
                : t.shape.rank == 1                          ? 1 + 0.1 * r
                                                             : r * spread;
    }
    from_disk(t, disk.data(), weights);
    ++k;
  }
}

/// 2 r(stream, i), the published input.
template <class T>
std::vector<T> published_input(index_t n, std::uint32_t stream) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = T(2 * filler(stream, i));
  return v;
}

/// What the tables of golden numbers list of a tensor.
struct golden {
  double mean, rms, at[6];  // flat indices 0, 1, n/3, n/2, 2n/3, n-1 of the channels-first order
};

/// Largest deviation of a channels-last sample from its golden row.
template <class T>
double deviation(dims shape, T const* x, golden const& g) {
  index_t const n = shape.size(), c = shape.channels(), p = shape.positions();
  auto const first = [&](index_t i) { return double(x[i % p * c + i / p]); };  // channels-first index
  double sum = 0, squares = 0;
  for (index_t i = 0; i < n; ++i) sum += double(x[i]), squares += double(x[i]) * double(x[i]);
  double worst =
      std::max(std::abs(sum / double(n) - g.mean), std::abs(std::sqrt(squares / double(n)) - g.rms));
  index_t const at[6] = {0, 1, n / 3, n / 2, 2 * n / 3, n - 1};
  for (int i = 0; i < 6; ++i) worst = std::max(worst, std::abs(first(at[i]) - g.at[i]));
  return worst == worst ? worst : 1e300;
}

}  // namespace insula::testing
