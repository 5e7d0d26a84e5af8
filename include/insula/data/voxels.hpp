// SPDX-License-Identifier: Apache-2.0
// Loops over the voxels of a volume whose results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>

#include "insula/data/elementary.hpp"
#include "insula/data/volume.hpp"
#include "insula/device/threads.hpp"

namespace insula {

/// f(task) for every task in [0, tasks): on the pool, or on the calling thread if `pool` is null. Denormals are
/// flushed in both cases, so both give the same bits.
template <class F>
void for_tasks(thread_pool* pool, index_t tasks, F&& f) {
  if (pool) return pool->run(tasks, [&](index_t t, int) { f(t); });
  flush_denormals const guard;
  for (index_t t = 0; t < tasks; ++t) f(t);
}

/// Voxels per task: a multiple of the 4 x 16 normals of one block, fixed, so that partial sums are too.
inline constexpr index_t voxels_per_task = index_t{1} << 15;

/// f(begin, end) for consecutive ranges that cover [0, count).
template <class F>
void for_ranges(thread_pool* pool, index_t count, F&& f) {
  for_tasks(pool, (count + voxels_per_task - 1) / voxels_per_task,
            [&](index_t t) { f(t * voxels_per_task, std::min(count, (t + 1) * voxels_per_task)); });
}

/// x[i] = f(x[i]) for every voxel.
template <class F>
void map_voxels(volume& x, F const& f, thread_pool* pool = nullptr) {
  float* const p = x.voxels.data();
  for_ranges(pool, x.count(), [&](index_t begin, index_t end) {
    F const g = f;  // a copy that stores to p cannot change, so its numbers stay in registers
    index_t i = begin;
    for (; i + lanes <= end; i += lanes) {
      float v[lanes];
      for (int l = 0; l < lanes; ++l) v[l] = g(p[i + l]);
      for (int l = 0; l < lanes; ++l) p[i + l] = v[l];
    }
    for (; i < end; ++i) p[i] = g(p[i]);
  });
}

/// Smallest and largest of some voxels; empty at first.
struct value_range {
  float low = std::numeric_limits<float>::infinity(), high = -low;

  void take(value_range const& o) { low = std::min(low, o.low), high = std::max(high, o.high); }
};

namespace detail {
/// The range of what passes by, eight voxels at a time; not a number is left out.
struct running_range {
  eight low = std::numeric_limits<float>::infinity() - eight{},
        high = -std::numeric_limits<float>::infinity() - eight{};

  void take(eight const& v) { low = v < low ? v : low, high = v > high ? v : high; }
  void take(float const* p, int count) {  // the first of eight
    eight v = low;                        // changes nothing
    std::memcpy(&v, p, sizeof(float) * std::size_t(count));
    low = v < low ? v : low;
    v = high;
    std::memcpy(&v, p, sizeof(float) * std::size_t(count));
    high = v > high ? v : high;
  }
  value_range result() const {
    value_range r;
    for (int l = 0; l < 8; ++l) r.take({low[l], high[l]});
    return r;
  }
};
}  // namespace detail

/// Smallest and largest voxel of x. Throws if x has no voxels.
inline value_range range_of(volume const& x, thread_pool* pool = nullptr) {
  check(x.count() > 0, "range_of: the volume has no voxels");
  std::vector<value_range> parts(std::size_t((x.count() + voxels_per_task - 1) / voxels_per_task));
  float const* const p = x.voxels.data();
  for_ranges(pool, x.count(), [&](index_t begin, index_t end) {
    detail::running_range r;
    index_t i = begin;
    for (; i + 8 <= end; i += 8) {
      detail::eight v;
      std::memcpy(&v, p + i, sizeof v);
      r.take(v);
    }
    if (i < end) r.take(p + i, int(end - i));
    parts[std::size_t(begin / voxels_per_task)] = r.result();
  });
  value_range all;
  for (auto const& part : parts) all.take(part);
  return all;
}

/// Mean, biased variance, smallest and largest of all voxels, background included.
struct voxel_statistics {
  double mean = 0, variance = 0;
  float low = 0, high = 0;
};

/// Sums in double, per lane and range, combined in a fixed order. Throws if x has no voxels.
inline voxel_statistics statistics(volume const& x, thread_pool* pool = nullptr) {
  check(x.count() > 0, "statistics: the volume has no voxels");
  struct part {
    double sum = 0, square = 0;
    float low = 0, high = 0;
  };
  index_t const count = x.count(), tasks = (count + voxels_per_task - 1) / voxels_per_task;
  std::vector<part> parts(static_cast<std::size_t>(tasks));
  float const* const p = x.voxels.data();
  float const origin = p[0];  // sums of differences from one voxel keep a constant volume's variance at zero
  for_ranges(pool, count, [&](index_t begin, index_t end) {
    double sum[lanes] = {}, square[lanes] = {};
    float low[lanes], high[lanes];
    for (int l = 0; l < lanes; ++l) low[l] = high[l] = p[begin];
    index_t i = begin;
    for (; i + lanes <= end; i += lanes)
      for (int l = 0; l < lanes; ++l) {
        float const v = p[i + l];
        double const d = double(v) - double(origin);
        sum[l] += d, square[l] += d * d;
        low[l] = v < low[l] ? v : low[l], high[l] = v > high[l] ? v : high[l];
      }
    for (int l = 0; i < end; ++i, ++l) {
      double const d = double(p[i]) - double(origin);
      sum[l] += d, square[l] += d * d;
      low[l] = std::min(low[l], p[i]), high[l] = std::max(high[l], p[i]);
    }
    part r{0, 0, low[0], high[0]};
    for (int l = 0; l < lanes; ++l)
      r.sum += sum[l], r.square += square[l], r.low = std::min(r.low, low[l]),
                                              r.high = std::max(r.high, high[l]);
    parts[std::size_t(begin / voxels_per_task)] = r;
  });
  part all = parts[0];
  for (std::size_t i = 1; i < parts.size(); ++i)
    all.sum += parts[i].sum, all.square += parts[i].square, all.low = std::min(all.low, parts[i].low),
                                                            all.high = std::max(all.high, parts[i].high);
  double const m = all.sum / double(count);
  return {m + double(origin), std::max(0.0, all.square / double(count) - m * m), all.low, all.high};
}

}  // namespace insula
