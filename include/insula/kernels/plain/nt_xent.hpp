// SPDX-License-Identifier: Apache-2.0
// Reference twin of nt_xent: all similarities of a row at a time, in double.
#pragma once

#include <cmath>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/device/cpu.hpp"
#include "insula/op/nt_xent.hpp"

namespace insula {

namespace detail {
inline void check_nt_xent(index_t pairs, double temperature) {
  check(pairs >= 2, "nt_xent: ", pairs,
        " pair has no negatives, the loss is 0 whatever the network does: take a batch of two pairs or more");
  check(temperature > 0, "nt_xent: the temperature is ", temperature, ", it must be positive");
}
}  // namespace detail

template <class T>
struct kernel<op::nt_xent, plain, T> {
  static void run(context<plain>&, typename op::nt_xent::args<T> const& a) {
    detail::check_nt_xent(a.pairs, a.temperature);
    index_t const rows = 2 * a.pairs, width = a.width;
    std::vector<double> unit(static_cast<std::size_t>(rows * width)), size(static_cast<std::size_t>(rows)),
        total(size);
    for (index_t r = 0; r < rows; ++r) {
      double square = 0;
      for (index_t c = 0; c < width; ++c) square += double(a.z[r * width + c]) * double(a.z[r * width + c]);
      size[std::size_t(r)] = std::sqrt(square) < 1e-8 ? 1e-8 : std::sqrt(square);  // NaN stays
      for (index_t c = 0; c < width; ++c)
        unit[std::size_t(r * width + c)] = double(a.z[r * width + c]) / size[std::size_t(r)];
    }
    auto const similarity = [&](index_t i, index_t j) {
      double s = 0;
      for (index_t c = 0; c < width; ++c)
        s += unit[std::size_t(i * width + c)] * unit[std::size_t(j * width + c)];
      return s / a.temperature;
    };
    auto const partner = [&](index_t r) { return (r + a.pairs) % rows; };
    double loss = 0;
    for (index_t i = 0; i < rows; ++i) {  // log-sum-exp of each row
      double most = -HUGE_VAL, sum = 0;
      for (index_t j = 0; j < rows; ++j)
        if (double const s = similarity(i, j); j != i && !(s <= most)) most = s;
      for (index_t j = 0; j < rows; ++j) sum += j == i ? 0 : std::exp(similarity(i, j) - most);
      total[std::size_t(i)] = most + std::log(sum);
      loss += total[std::size_t(i)] - similarity(i, partner(i));
    }
    *a.loss = loss / double(rows);
    if (!a.gz) return;
    for (index_t i = 0; i < rows; ++i) {
      std::vector<double> h(static_cast<std::size_t>(width));  // gradient of n_i
      for (index_t j = 0; j < rows; ++j) {
        if (j == i) continue;
        double const s = similarity(i, j), positive = j == partner(i) ? 1 : 0;
        double const g =
            std::exp(s - total[std::size_t(i)]) + std::exp(s - total[std::size_t(j)]) - 2 * positive;
        for (index_t c = 0; c < width; ++c)
          h[std::size_t(c)] += g * unit[std::size_t(j * width + c)] / (a.temperature * double(rows));
      }
      double along = 0;
      for (index_t c = 0; c < width; ++c) along += h[std::size_t(c)] * unit[std::size_t(i * width + c)];
      if (size[std::size_t(i)] <= 1e-8) along = 0;
      for (index_t c = 0; c < width; ++c)
        a.gz[i * width + c] =
            T((h[std::size_t(c)] - along * unit[std::size_t(i * width + c)]) / size[std::size_t(i)]);
    }
  }
};

}  // namespace insula
