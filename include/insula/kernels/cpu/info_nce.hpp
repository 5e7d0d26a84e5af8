// SPDX-License-Identifier: Apache-2.0
// InfoNCE on the CPU: the queue streams through the cache once, in tiles; loss and gradient come from the same pass.
#pragma once

#include <cmath>
#include <limits>

#include "insula/kernels/cpu/block.hpp"
#include "insula/kernels/cpu/exp.hpp"
#include "insula/kernels/cpu/panel.hpp"
#include "insula/kernels/cpu/row.hpp"
#include "insula/op/reduce.hpp"

namespace insula {

namespace detail::info_nce {

// Keys of one product. With 16 registers the caches are small too: keys, their similarities and a panel of the
// gradient fit the L1 cache together.
inline constexpr index_t tile_keys = simd::register_count == 32 ? 192 : 96;
inline constexpr index_t chunk_keys = 1024;  // of one task
inline constexpr double floor = -1;  // no clamped similarity is smaller, so sums may be relative to it

/// What one chunk of the queue knows about every query (lane); sums are relative to exp(most / temperature).
template <scalar T>
struct chunk_sums {
  T* most;         // (lanes), at least `floor`
  double* sum;     // (lanes), of exp((l - most) / temperature) over valid keys
  index_t* valid;  // (lanes), number of valid keys
  T* gradient;  // panels of (width, lanes of the panel), sum of the same exponentials times their keys; or null
};

/// Patients of a batch, hashed: whoever is not in it has no query in the batch. 0, the owner of empty slots, is in it.
class patients {
 public:
  void add(std::int64_t id) { words_[at(id) / 64] |= std::uint64_t{1} << at(id) % 64; }
  bool may_hold(std::int64_t id) const { return words_[at(id) / 64] >> at(id) % 64 & 1; }

 private:
  static constexpr std::uint64_t at(std::int64_t id) {  // 0 to 4095
    return std::uint64_t(id) * 0x9e3779b97f4a7c15u >> 52;
  }
  std::uint64_t words_[64] = {};
};

/// Keys of a tile that may not be negatives of all queries, into `odd`: whose slot is empty or whose patient may be in the batch.
inline index_t find_odd(index_t keys, patients const& batch, std::int64_t const* queue_patient,
                        index_t* odd) {
  index_t n = 0;
  for (index_t j = 0; j < keys; ++j) {
    odd[n] = j;
    n += batch.may_hold(queue_patient[j]);
  }
  return n;
}

/// Counts valid pairs of a tile and marks the similarities of the others with -infinity.
/// patient: of the panel's queries. similarity: (keys, lanes).
template <scalar T>
void mark_invalid(index_t keys, index_t const* odd, index_t odd_keys, index_t queries, index_t lanes,
                  std::int64_t const* patient, std::int64_t const* queue_patient, T* similarity,
                  index_t* valid) {
  constexpr T none = -std::numeric_limits<T>::infinity();
  for (index_t i = 0; i < queries; ++i) valid[i] += keys;
  for (index_t n = 0; n < odd_keys; ++n) {
    index_t const j = odd[n];
    T* const s = similarity + j * lanes;
    std::int64_t const owner = queue_patient[j];
    for (index_t i = 0; i < queries; ++i)
      if (owner == 0 || patient[i] == owner) s[i] = none, --valid[i];
  }
}

/// s clamped to [-1, 1]; NaN stays.
template <scalar T>
INSULA_INLINE simd::pack<T> clamped(simd::pack<T> s) {
  auto const one = simd::broadcast(T(1));
  return s < -one ? -one : s > one ? one : s;
}

/// N rows of similarities become weights. Returns their sum. Inside: all are in [-1, 1], or not a number.
template <bool Inside, int N, scalar T>
INSULA_INLINE simd::pack<T> weigh(T* similarity, index_t row, simd::pack<T> top, simd::pack<T> scale) {
  using simd::pack;
  auto const one = simd::broadcast(T(1)), lowest = simd::broadcast(std::numeric_limits<T>::lowest());
  pack<T> s[N], e[N];
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) {
    s[j] = simd::load(similarity + j * row);
    e[j] = ((Inside ? s[j] : clamped<T>(s[j])) - top) * scale;
  }
  simd::exp2_all<T>(e);
  auto part = simd::zero<T>();
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) {
    if constexpr (!Inside) e[j] = s[j] < lowest ? simd::zero<T>() : e[j];
    part += e[j];
    if constexpr (!Inside) {
      e[j] = s[j] < -one ? simd::zero<T>() : e[j];
      e[j] = s[j] > one ? simd::zero<T>() : e[j];  // the clamp passes no gradient outside [-1, 1]
    }
    simd::store(similarity + j * row, e[j]);
  }
  return part;
}
template <bool Inside, scalar T>
INSULA_INLINE simd::pack<T> weigh_all(index_t keys, T* similarity, index_t row, simd::pack<T> top,
                                      simd::pack<T> scale) {
  auto part = simd::zero<T>();
  index_t j = 0;
  for (; j + 4 <= keys; j += 4) part += weigh<Inside, 4>(similarity + j * row, row, top, scale);
  for (; j < keys; ++j) part += weigh<Inside, 1>(similarity + j * row, row, top, scale);
  return part;
}

/// similarity (keys, lanes) becomes the weight of every key in the gradient; most and sum take the tile in.
/// factor[i] = exp((most before - most after) / temperature), by which earlier sums were multiplied. Returns whether all are 1.
template <scalar T>
bool take_tile(index_t keys, index_t lanes, double temperature, T* similarity, T* most, double* sum,
               T* factor) {
  constexpr int w = simd::width<T>;
  constexpr double log2e = 1.4426950408889634;
  auto const one = simd::broadcast(T(1)), scale = simd::broadcast(T(log2e / temperature));
  bool same = true;
  for (index_t i = 0; i < lanes; i += w) {
    T* const column = similarity + i;
    simd::pack<T> highest[4], lowest[4];  // of every fourth key
    for (int n = 0; n < 4; ++n) highest[n] = -one, lowest[n] = one;
    auto const look = [&](index_t j, int n) {
      auto const s = simd::load(column + j * lanes);
      highest[n] = simd::max(s, highest[n]);  // what is not a number is passed over
      lowest[n] = simd::min(s, lowest[n]);
    };
    index_t j = 0;
    for (; j + 4 <= keys; j += 4)
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) look(j + n, n);
    for (; j < keys; ++j) look(j, 0);
    auto const high = simd::max(simd::max(highest[0], highest[1]), simd::max(highest[2], highest[3]));
    auto const low = simd::min(simd::min(lowest[0], lowest[1]), simd::min(lowest[2], lowest[3]));
    bool const inside = simd::largest<T>(simd::max(high, -low)) <= 1;

    auto const top = simd::max(clamped<T>(high), simd::load(most + i));
    auto const part = inside ? weigh_all<true, T>(keys, column, lanes, top, scale)
                             : weigh_all<false, T>(keys, column, lanes, top, scale);
    T after[w], total[w];
    simd::store(after, top);
    simd::store(total, part);
    for (int k = 0; k < w; ++k) {
      double const f =
          after[k] == most[i + k] ? 1 : std::exp((double(most[i + k]) - double(after[k])) / temperature);
      same = same && f == 1;
      factor[i + k] = T(f);
      most[i + k] = after[k];
      sum[i + k] = sum[i + k] * f + double(total[k]);
    }
  }
  return same;
}

/// Row c of g (width, lanes) times factor (lanes).
template <scalar T>
void scale_columns(index_t width, index_t lanes, T const* factor, T* g) {
  for (index_t c = 0; c < width; ++c, g += lanes)
    for (index_t i = 0; i < lanes; i += simd::width<T>)
      simd::store(g + i, simd::load(g + i) * simd::load(factor + i));
}

}  // namespace detail::info_nce

template <scalar T>
struct kernel<op::info_nce, cpu, T> {
  static void run(context<cpu>& cx, typename op::info_nce::args<T> const& a) {
    using namespace detail::info_nce;
    constexpr index_t w = simd::width<T>;
    simd::columns<T> const queries{a.batch};
    index_t const lanes = queries.padded(), chunks = chunk_count(a.length, chunk_keys);
    scratch s(cx);

    // Queries as panels of a right operand: similarities are (key, query), a query is a lane.
    T* const q = s.take<T>(a.width * lanes);
    for (index_t p = 0; p < queries.panels(); ++p)
      simd::pack_panel_transposed(queries, p, a.width, a.q, a.width, q + queries.first(p) * a.width);
    patients batch;
    batch.add(0);
    for (index_t i = 0; i < a.batch; ++i) batch.add(a.patient[i]);

    index_t const gradients = a.gq ? lanes * a.width : 0;
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
      run_chunk(cx, worker, a, queries, q, batch, begin, end, part(t));
    });

    double* const loss = s.take<double>(lanes);
    cx.pool.run(lanes / w, [&](index_t r, int worker) {
      finish(cx, worker, a, queries, r * w, chunks, part, loss + r * w);
    });
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

  static void run_chunk(context<cpu>& cx, int worker, args const& a, simd::columns<T> queries, T const* q,
                        detail::info_nce::patients const& batch, index_t begin, index_t end,
                        detail::info_nce::chunk_sums<T> const& c) {
    using namespace detail::info_nce;
    constexpr index_t panel_lanes = simd::panel_registers * simd::width<T>;
    for (index_t i = 0; i < queries.padded(); ++i) c.most[i] = T(floor), c.sum[i] = 0, c.valid[i] = 0;
    scratch s(cx, worker);
    T* const similarity = s.take<T>(tile_keys * panel_lanes);
    T* const factor = s.take<T>(panel_lanes);
    index_t* const odd = s.take<index_t>(tile_keys);
    for (index_t j = begin; j < end; j += tile_keys) {
      index_t const keys = j + tile_keys < end ? tile_keys : end - j;
      T const* const tile = a.queue + j * a.width;
      index_t const odd_keys = find_odd(keys, batch, a.queue_patient + j, odd);
      for (index_t p = 0; p < queries.panels(); ++p) {
        index_t const first = queries.first(p), lanes = queries.width_of(p);
        index_t const valid = a.batch - first < lanes ? a.batch - first : lanes;
        // similarity (keys, lanes) = tile (keys, width) q (width, lanes). Meanwhile the next tile is fetched.
        index_t const left = a.length - j - keys, next = left < tile_keys ? left : tile_keys;
        simd::product_ahead<T> ahead;
        if (p == 0 && next > 0) ahead.a = tile + keys * a.width, ahead.count = next * a.width;
        simd::panel_product(keys, simd::columns<T>{lanes}, 0, 1, a.width, tile, a.width,
                            simd::right_operand<T>{q + first * a.width, a.width}, 0, {}, similarity, lanes,
                            ahead);
        mark_invalid(keys, odd, odd_keys, valid, lanes, a.patient + first, a.queue_patient + j, similarity,
                     c.valid + first);
        bool const same =
            take_tile(keys, lanes, a.temperature, similarity, c.most + first, c.sum + first, factor);
        if (!c.gradient) continue;
        T* const g = c.gradient + first * a.width;
        if (j > begin && !same) scale_columns(a.width, lanes, factor, g);
        // g (width, lanes) (+)= tile^T (width, keys) weights (keys, lanes)
        simd::panel_product<true>(a.width, simd::columns<T>{lanes}, 0, 1, keys, tile, a.width,
                                  simd::right_operand<T>{similarity, keys}, 0, {nullptr, j > begin}, g,
                                  lanes);
      }
    }
  }

  /// Joins the chunks of a register of queries from i0 on in order, writes their gradients and losses.
  template <class Part>
  static void finish(context<cpu>& cx, int worker, args const& a, simd::columns<T> queries, index_t i0,
                     index_t chunks, Part const& part, double* loss) {
    constexpr int w = simd::width<T>, half = simd::width<double>;
    int const n = a.batch - i0 < w ? int(a.batch - i0) : w;
    scratch s(cx, worker);
    double *const weight = s.take<double>(chunks * w), *const to_key = s.take<double>(w);
    for (index_t e = 0; e < chunks * w; ++e) weight[e] = 0;
    for (int l = 0; l < w; ++l) to_key[l] = 0;
    for (int l = 0; l < n; ++l) {
      index_t const i = i0 + l;
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
      for (index_t t = 0; t < chunks; ++t) {
        double& of_chunk = weight[t * w + l];
        of_chunk = std::exp((double(part(t).most[i]) - most) / a.temperature);
        rest += of_chunk * part(t).sum[i];
      }
      if (a.invalid == op::invalid_negative::clamped)
        rest += double(invalid) * std::exp((-1 - most) / a.temperature);
      double const total = rest + std::exp((positive - most) / a.temperature);
      loss[l] = std::log(total) + (most - positive) / a.temperature;

      double const unit = 1 / (total * a.temperature * double(a.batch));
      to_key[l] = passes ? -rest * unit : 0.0;  // p - 1 = -rest / total
      for (index_t t = 0; t < chunks; ++t) weight[t * w + l] *= unit;
    }
    if (!a.gq) return;

    index_t p = 0;
    while (queries.first(p + 1) <= i0) ++p;
    index_t const lanes = queries.width_of(p), from = queries.first(p) * a.width + i0 - queries.first(p);
    T *const keys = s.take<T>(a.width * w), *const g = s.take<T>(a.width * w);  // transposed: (width, w)
    simd::transpose_padded(n, a.width, a.k + i0 * a.width, a.width, keys, w);
    for (index_t c = 0; c < a.width; ++c)
      for (int l = 0; l < w; l += half) {
        auto sum = simd::load(to_key + l) * simd::load_double(keys + c * w + l, simd::whole{});
        for (index_t t = 0; t < chunks; ++t)
          sum = simd::fma(simd::load(weight + t * w + l),
                          simd::load_double(part(t).gradient + from + c * lanes + l, simd::whole{}), sum);
        for (int e = 0; e < half; ++e) g[c * w + l + e] = T(sum[e]);
      }
    simd::transpose(a.width, n, g, w, a.gq + i0 * a.width, a.width);
  }
};

}  // namespace insula
