// SPDX-License-Identifier: Apache-2.0
// An endless shuffled order over items, addressable at any place.
#pragma once

#include <numeric>
#include <utility>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/random.hpp"

namespace insula {

/// Place i of the order lies in epoch e = i / n and holds entry i % n of a permutation drawn from (seed, stream, e): every
/// item once per epoch. A value: give each worker its own, it keeps the permutation of the epoch asked for last.
class epoch_order {
 public:
  struct place {
    index_t epoch, item;
  };
  epoch_order(index_t items, random_key key) : n_(items), key_(key) {
    check(items >= 1, "epoch_order: there are no items to draw from");
  }
  index_t items() const { return n_; }
  place at(index_t i) {
    index_t const e = i / n_;
    if (e != epoch_) shuffle(e);
    return {e, order_[std::size_t(i % n_)]};
  }

 private:
  void shuffle(index_t epoch) {  // Fisher-Yates
    order_.resize(std::size_t(n_));
    std::iota(order_.begin(), order_.end(), index_t{0});
    random_stream r({key_.seed, mix(key_.stream, std::uint64_t(epoch)), key_.sub});
    for (index_t i = n_ - 1; i > 0; --i)
      std::swap(order_[std::size_t(i)], order_[std::size_t(r.below(i + 1))]);
    epoch_ = epoch;
  }
  index_t n_, epoch_ = -1;
  random_key key_;
  std::vector<index_t> order_;
};

}  // namespace insula
