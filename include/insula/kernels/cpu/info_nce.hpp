// SPDX-License-Identifier: Apache-2.0
// InfoNCE on the CPU: the queue streams through the cache once, in tiles; loss and gradient come from the same pass.
#pragma once

#include <cmath>
#include <limits>

#include "insula/kernels/cpu/block.hpp"
#include "insula/kernels/cpu/exp.hpp"
#include "insula/kernels/cpu/row.hpp"
#include "insula/op/reduce.hpp"

namespace insula {

namespace detail::info_nce {

// Keys of one product. With 16 registers the caches are small too: keys, their similarities and a panel of the
// gradient fit the L1 cache together.
inline constexpr index_t tile_keys = simd::register_count == 32 ? 128 : 48;
inline constexpr index_t chunk_keys = 1024;  // of one task
inline constexpr index_t block_keys = 24;  // of one call of the micro-kernel, a whole number of its row tiles
inline constexpr double floor = -1;        // no clamped similarity is smaller, so sums may be relative to it

/// What one chunk of the queue knows about every query (lane); sums are relative to exp(most / temperature).
template <scalar T>
struct chunk_sums {
  T* most;         // (lanes), at least `floor`
  double* sum;     // (lanes), of exp((l - most) / temperature) over valid keys
  index_t* valid;  // (lanes), number of valid keys
  T* gradient;     // (batch, width), sum of the same exponentials times their keys; or null
};

/// simd::multiply in register tiles of 6 x 2 where there are 16 registers: 12 sums hide the latency that 8 do not.
template <scalar T, bool Adds>
void multiply(index_t m, index_t n, index_t depth, T const* a, index_t a_row, index_t a_col, T const* b,
              index_t b_row, T* c, index_t c_row) {
  constexpr index_t pair = 2 * simd::width<T>;
  index_t sixes = m / 6;
  while (sixes > 0 && (m - 6 * sixes) % 4 != 0) --sixes;  // what is left goes by four
  index_t const columns = simd::register_count == 16 && sixes > 0 ? n / pair * pair : 0, six = 6 * sixes;
  for (index_t j = 0; j < columns; j += pair) {
    simd::detail::rows<T, 6, 2, Adds>(six, depth, a, a_row, a_col, b + j, b_row, c + j, c_row,
                                      simd::width<T>);
    simd::detail::rows<T, 4, 2, Adds>(m - six, depth, a + six * a_row, a_row, a_col, b + j, b_row,
                                      c + six * c_row + j, c_row, simd::width<T>);
  }
  simd::multiply<T, Adds>(m, n - columns, depth, a, a_row, a_col, b + columns, b_row, c + columns, c_row);
}

/// similarity (keys, lanes) = tile (keys, width) q (width, lanes). Meanwhile the next tile is fetched into the cache:
/// the product reads 24 rows at once, which the hardware does not foresee.
template <scalar T>
void multiply_tile(index_t keys, index_t lanes, index_t width, T const* tile, T const* q, T* similarity,
                   T const* next, T const* queue_end) {
  constexpr index_t line = index_t(cache_line / sizeof(T));
  for (index_t j = 0; j < keys; j += block_keys) {
    index_t const n = j + block_keys < keys ? block_keys : keys - j;
    index_t const ahead = next < queue_end ? queue_end - next : 0;
    for (index_t e = j * width; e < (j + n) * width && e < ahead; e += line)
      __builtin_prefetch(next + e, 0, 2);
    multiply<T, false>(n, lanes, width, tile + j * width, width, 1, q, lanes, similarity + j * lanes, lanes);
  }
}

/// s clamped to [-1, 1]; NaN stays.
template <scalar T>
INSULA_INLINE simd::pack<T> clamped(simd::pack<T> s) {
  auto const one = simd::broadcast(T(1));
  return s < -one ? -one : s > one ? one : s;
}

/// Counts valid pairs of a tile and marks the similarities of the others with -infinity.
/// patient: (lanes), 0 behind the batch. similarity: (keys, lanes).
template <scalar T>
void mark_invalid(index_t keys, index_t batch, index_t lanes, std::int64_t const* patient,
                  std::int64_t const* queue_patient, T* similarity, index_t* valid) {
  using ids = simd::mask<double>;  // a register of 64-bit integers
  constexpr T none = -std::numeric_limits<T>::infinity();
  index_t filled = 0;
  for (index_t j = 0; j < keys; ++j) {
    T* const s = similarity + j * lanes;
    std::int64_t const owner = queue_patient[j];
    if (owner == 0) {
      for (index_t i = 0; i < lanes; i += simd::width<T>) simd::store(s + i, simd::broadcast(none));
      continue;
    }
    ++filled;
    ids same{};
    for (index_t i = 0; i < lanes; i += simd::width<double>) {
      ids p;
      std::memcpy(&p, patient + i, sizeof p);
      same |= p == owner - ids{};
    }
    std::int64_t any = 0;
    for (int i = 0; i < simd::width<double>; ++i) any |= same[i];
    if (any == 0) continue;
    for (index_t i = 0; i < batch; ++i)
      if (patient[i] == owner) s[i] = none, --valid[i];
  }
  for (index_t i = 0; i < batch; ++i) valid[i] += filled;
}

/// similarity (keys, lanes) becomes the weight of every key in the gradient; most and sum take the tile in.
/// factor[i] = exp((most before - most after) / temperature), by which earlier sums were multiplied.
template <scalar T>
void take_tile(index_t keys, index_t lanes, double temperature, T* similarity, T* most, double* sum,
               double* factor) {
  constexpr int w = simd::width<T>;
  auto const one = simd::broadcast(T(1)), lowest = simd::broadcast(std::numeric_limits<T>::lowest());
  auto const scale = simd::broadcast(T(1 / temperature));
  for (index_t i = 0; i < lanes; i += w) {
    auto top = simd::load(most + i);
    for (index_t j = 0; j < keys; ++j)
      top = simd::max(clamped<T>(simd::load(similarity + j * lanes + i)), top);
    T after[w], total[w];
    simd::store(after, top);
    auto part = simd::zero<T>();
    for (index_t j = 0; j < keys; ++j) {
      T* const at = similarity + j * lanes + i;
      auto const s = simd::load(at);
      auto e = simd::exp<T>((clamped<T>(s) - top) * scale);
      e = s < lowest ? simd::zero<T>() : e;
      part += e;
      e = s < -one ? simd::zero<T>() : e;
      e = s > one ? simd::zero<T>() : e;  // the clamp passes no gradient outside [-1, 1]
      simd::store(at, e);
    }
    simd::store(total, part);
    for (int k = 0; k < w; ++k) {
      double const f =
          after[k] == most[i + k] ? 1 : std::exp((double(most[i + k]) - double(after[k])) / temperature);
      factor[i + k] = f;
      most[i + k] = after[k];
      sum[i + k] = sum[i + k] * f + double(total[k]);
    }
  }
}

}  // namespace detail::info_nce

template <scalar T>
struct kernel<op::info_nce, cpu, T> {
  static void run(context<cpu>& cx, typename op::info_nce::args<T> const& a) {
    using namespace detail::info_nce;
    constexpr index_t w = simd::width<T>;
    index_t const lanes = (a.batch + w - 1) / w * w, chunks = chunk_count(a.length, chunk_keys);
    scratch s(cx);

    // Queries, transposed and padded to whole registers: similarities are (key, query), a query is a lane.
    T* const q = s.take<T>(a.width * lanes);
    simd::clear(a.width * lanes, q);
    simd::transpose(a.batch, a.width, a.q, a.width, q, lanes);
    auto* const patient = s.take<std::int64_t>(lanes);
    for (index_t i = 0; i < lanes; ++i) patient[i] = i < a.batch ? a.patient[i] : 0;

    index_t const gradients = a.gq ? a.batch * a.width : 0;
    T *const most = s.take<T>(chunks * lanes), *const gradient = s.take<T>(chunks * gradients);
    double* const sum = s.take<double>(chunks * lanes);
    index_t* const valid = s.take<index_t>(chunks * lanes);
    auto const part = [&](index_t t) -> chunk_sums<T> {
      return {most + t * lanes, sum + t * lanes, valid + t * lanes,
              a.gq ? gradient + t * gradients : nullptr};
    };
    cx.pool.run(chunks, [&](index_t t, int worker) {
      index_t const begin = t * chunk_keys,
                    end = begin + chunk_keys < a.length ? begin + chunk_keys : a.length;
      run_chunk(cx, worker, a, lanes, q, patient, begin, end, part(t));
    });

    double* const loss = s.take<double>(a.batch);
    cx.pool.run(a.batch,
                [&](index_t i, int worker) { loss[i] = finish_row(cx, worker, a, i, chunks, part); });
    double total = 0;
    for (index_t i = 0; i < a.batch; ++i) total += loss[i];
    *a.loss = total / double(a.batch);
    if (!a.negatives) return;
    *a.negatives = 0;
    for (index_t t = 0; t < chunks; ++t)
      for (index_t i = 0; i < a.batch; ++i) *a.negatives += valid[t * lanes + i];
  }

 private:
  using args = typename op::info_nce::args<T>;

  static void run_chunk(context<cpu>& cx, int worker, args const& a, index_t lanes, T const* q,
                        std::int64_t const* patient, index_t begin, index_t end,
                        detail::info_nce::chunk_sums<T> const& c) {
    using namespace detail::info_nce;
    for (index_t i = 0; i < lanes; ++i) c.most[i] = T(floor), c.sum[i] = 0, c.valid[i] = 0;
    scratch s(cx, worker);
    T* const similarity = s.take<T>(tile_keys * lanes);
    double* const factor = s.take<double>(lanes);
    for (index_t j = begin; j < end; j += tile_keys) {
      index_t const keys = j + tile_keys < end ? tile_keys : end - j;
      T const* tile = a.queue + j * a.width;
      T const* const next =
          j + tile_keys < a.length ? tile + tile_keys * a.width : a.queue + a.length * a.width;
      multiply_tile(keys, lanes, a.width, tile, q, similarity, next, a.queue + a.length * a.width);
      mark_invalid(keys, a.batch, lanes, patient, a.queue_patient + j, similarity, c.valid);
      take_tile(keys, lanes, a.temperature, similarity, c.most, c.sum, factor);
      if (!c.gradient) continue;
      if (j == begin) {
        multiply<T, false>(a.batch, a.width, keys, similarity, 1, lanes, tile, a.width, c.gradient, a.width);
        continue;
      }
      for (index_t i = 0; i < a.batch; ++i) {
        if (factor[i] == 1) continue;
        auto const f = simd::broadcast(T(factor[i]));
        T* const g = c.gradient + i * a.width;
        simd::each_register<T>(a.width,
                               [=](index_t k, auto n) { simd::store(g + k, f * simd::load(g + k, n), n); });
      }
      multiply<T, true>(a.batch, a.width, keys, similarity, 1, lanes, tile, a.width, c.gradient, a.width);
    }
  }

  /// Joins the chunks of query i in order, writes its gradient and returns its loss.
  template <class Part>
  static double finish_row(context<cpu>& cx, int worker, args const& a, index_t i, index_t chunks,
                           Part const& part) {
    T const *q = a.q + i * a.width, *k = a.k + i * a.width;
    double positive = 0;
    for (index_t c = 0; c < a.width; ++c) positive += double(q[c]) * double(k[c]);
    bool const passes = !(positive < -1 || positive > 1);
    positive = positive < -1 ? -1 : positive > 1 ? 1 : positive;

    double most = positive, rest = 0;
    index_t invalid = a.length;
    for (index_t t = 0; t < chunks; ++t) {
      double const m = double(part(t).most[i]);
      most = m > most ? m : most;
      invalid -= part(t).valid[i];
    }
    scratch s(cx, worker);
    double *const weight = s.take<double>(chunks), *const row = s.take<double>(a.width);
    for (index_t t = 0; t < chunks; ++t) {
      weight[t] = std::exp((double(part(t).most[i]) - most) / a.temperature);
      rest += weight[t] * part(t).sum[i];
    }
    if (a.invalid == op::invalid_negative::clamped)
      rest += double(invalid) * std::exp((-1 - most) / a.temperature);
    double const total = rest + std::exp((positive - most) / a.temperature);
    double const loss = std::log(total) + (most - positive) / a.temperature;
    if (!a.gq) return loss;

    double const unit = 1 / (total * a.temperature * double(a.batch));
    auto const to_key = simd::broadcast(passes ? -rest * unit : 0.0);  // p - 1 = -rest / total
    simd::each_register<double>(a.width, [&](index_t c, auto n) {
      auto g = to_key * simd::load_double(k + c, n);
      for (index_t t = 0; t < chunks; ++t)
        g = simd::fma(simd::broadcast(weight[t] * unit),
                      simd::load_double(part(t).gradient + i * a.width + c, n), g);
      simd::store(row + c, g, n);
    });
    for (index_t c = 0; c < a.width; ++c) a.gq[i * a.width + c] = T(row[c]);
    return loss;
  }
};

}  // namespace insula
