// SPDX-License-Identifier: Apache-2.0
// NT-Xent on the CPU: similarities are made tile by tile, once for the sums of their exponentials and once for the gradient.
#pragma once

#include <cmath>
#include <limits>

#include "insula/kernels/cpu/block.hpp"
#include "insula/kernels/cpu/exp.hpp"
#include "insula/kernels/cpu/row.hpp"
#include "insula/kernels/plain/nt_xent.hpp"

namespace insula {

template <scalar T>
struct kernel<op::nt_xent, cpu, T> {
  static void run(context<cpu>& cx, op::nt_xent::args<T> const& a) {
    detail::check_nt_xent(a.pairs, a.temperature);
    constexpr index_t w = simd::width<T>;
    index_t const rows = 2 * a.pairs, lanes = (rows + w - 1) / w * w, tasks = chunk_count(rows, block_rows);
    scratch s(cx);
    state const m{rows,
                  lanes,
                  s.take<T>(rows * a.width),
                  s.take<T>(a.width * lanes),
                  s.take<double>(rows),
                  s.take<T>(lanes),
                  s.take<double>(rows)};
    normalise(cx, a, m);
    cx.pool.run(tasks, [&](index_t task, int worker) { add_up(cx, worker, a, m, task * block_rows); });
    double loss = 0;
    for (index_t r = 0; r < rows; ++r) loss += m.loss[r];
    *a.loss = loss / double(rows);
    if (!a.gz) return;
    cx.pool.run(tasks, [&](index_t task, int worker) { differentiate(cx, worker, a, m, task * block_rows); });
  }

 private:
  using args = op::nt_xent::args<T>;
  static constexpr index_t block_rows = 24, tile_columns = 256;

  struct state {
    index_t rows, lanes;
    T* unit;       // (rows, width): n
    T* turned;     // (width, lanes): its transpose, 0 behind the rows
    double* size;  // (rows): max(||z||, 1e-8)
    T* total;      // (lanes): log-sum-exp of each row
    double* loss;  // (rows)
  };

  static void normalise(context<cpu>& cx, args const& a, state const& m) {
    simd::clear(a.width * m.lanes, m.turned);
    simd::clear(m.lanes, m.total);
    run_chunks(cx, m.rows, chunk_rows(a.width), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        T const* const z = a.z + r * a.width;
        double square = 0;
        for (index_t c = 0; c < a.width; ++c) square += double(z[c]) * double(z[c]);
        m.size[r] = std::sqrt(square) < 1e-8 ? 1e-8 : std::sqrt(square);  // NaN stays
        for (index_t c = 0; c < a.width; ++c) m.unit[r * a.width + c] = T(double(z[c]) / m.size[r]);
      }
    });
    simd::transpose(m.rows, a.width, m.unit, a.width, m.turned, m.lanes);
  }

  /// s of `count` rows from `row` on against columns [j, j + n): (count, tile_columns), times 1 / temperature.
  static void similarities(args const& a, state const& m, index_t row, index_t count, index_t j, index_t n,
                           T* s) {
    simd::multiply<T, false>(count, n, a.width, m.unit + row * a.width, a.width, 1, m.turned + j, m.lanes, s,
                             tile_columns);
    auto const scale = simd::broadcast(T(1 / a.temperature));
    for (index_t i = 0; i < count; ++i)
      for (index_t k = 0; k < n; k += simd::width<T>)
        simd::store(s + i * tile_columns + k, scale * simd::load(s + i * tile_columns + k));
  }

  /// Log-sum-exp over b != a and the loss of a block of rows.
  static void add_up(context<cpu>& cx, int worker, args const& a, state const& m, index_t row) {
    index_t const count = m.rows - row < block_rows ? m.rows - row : block_rows;
    scratch mine(cx, worker);
    T *const s = mine.take<T>(block_rows * tile_columns), *const most = mine.take<T>(block_rows);
    double *const sum = mine.take<double>(block_rows), *const positive = mine.take<double>(block_rows);
    for (index_t i = 0; i < count; ++i) most[i] = std::numeric_limits<T>::lowest(), sum[i] = 0;
    for (index_t j = 0; j < m.lanes; j += tile_columns) {
      index_t const n = m.lanes - j < tile_columns ? m.lanes - j : tile_columns;
      similarities(a, m, row, count, j, n, s);
      for (index_t i = 0; i < count; ++i) {
        T* const line = s + i * tile_columns;
        index_t const partner = (row + i + a.pairs) % m.rows - j;
        if (partner >= 0 && partner < n) positive[i] = double(line[partner]);
        for (index_t k = 0; k < n; ++k)
          if (j + k == row + i || j + k >= m.rows) line[k] = -std::numeric_limits<T>::infinity();
        auto top = simd::broadcast(most[i]);
        for (index_t k = 0; k < n; k += simd::width<T>) {
          auto const v = simd::load(line + k);
          top = ((v > top) | (v != v)) ? v : top;
        }
        T const before = most[i];
        most[i] = simd::largest<T>(top);
        auto part = simd::zero<T>();
        auto const shift = simd::broadcast(most[i]), none = simd::broadcast(std::numeric_limits<T>::lowest());
        for (index_t k = 0; k < n; k += simd::width<T>) {
          auto const v = simd::load(line + k);
          part += v < none ? simd::zero<T>() : simd::exp<T>(v - shift);
        }
        sum[i] = sum[i] * std::exp(double(before) - double(most[i])) + double(simd::sum<T>(part));
      }
    }
    for (index_t i = 0; i < count; ++i) {
      double const total = double(most[i]) + std::log(sum[i]);
      m.total[row + i] = T(total), m.loss[row + i] = total - positive[i];
    }
  }

  /// gz of a block of rows: H n-part removed, divided by the norm.
  static void differentiate(context<cpu>& cx, int worker, args const& a, state const& m, index_t row) {
    index_t const count = m.rows - row < block_rows ? m.rows - row : block_rows;
    scratch mine(cx, worker);
    T *const s = mine.take<T>(block_rows * tile_columns), *const h = mine.take<T>(block_rows * a.width);
    simd::clear(block_rows * a.width, h);
    for (index_t j = 0; j < m.rows; j += tile_columns) {
      index_t const n = m.rows - j < tile_columns ? m.rows - j : tile_columns;
      similarities(a, m, row, count, j, m.lanes - j < tile_columns ? m.lanes - j : tile_columns, s);
      for (index_t i = 0; i < count; ++i) {
        T* const line = s + i * tile_columns;
        auto const own = simd::broadcast(m.total[row + i]);
        for (index_t k = 0; k < n; k += simd::width<T>) {
          auto const v = simd::load(line + k);
          simd::store(line + k, simd::exp<T>(v - own) + simd::exp<T>(v - simd::load(m.total + j + k)));
        }
        index_t const partner = (row + i + a.pairs) % m.rows - j, self = row + i - j;
        if (partner >= 0 && partner < n) line[partner] -= T(2);
        if (self >= 0 && self < n) line[self] = 0;
      }
      simd::multiply<T, true>(count, a.width, n, s, tile_columns, 1, m.unit + j * a.width, a.width, h,
                              a.width);
    }
    for (index_t i = 0; i < count; ++i) {
      T const *const line = h + i * a.width, *const unit = m.unit + (row + i) * a.width;
      double along = 0;
      for (index_t c = 0; c < a.width; ++c) along += double(line[c]) * double(unit[c]);
      if (m.size[row + i] <= 1e-8) along = 0;
      double const scale = 1 / (a.temperature * double(m.rows) * m.size[row + i]);
      for (index_t c = 0; c < a.width; ++c)
        a.gz[(row + i) * a.width + c] = T((double(line[c]) - along * double(unit[c])) * scale);
    }
  }
};

}  // namespace insula
