// SPDX-License-Identifier: Apache-2.0
// Pooling, normalisation of vectors, losses and sums on the CPU. Sums are kept in double, chunk by chunk in order.
#pragma once

#include <cmath>
#include <limits>

#include "insula/base/check.hpp"
#include "insula/kernels/cpu/exp.hpp"
#include "insula/kernels/cpu/info_nce.hpp"
#include "insula/kernels/cpu/row.hpp"
#include "insula/op/reduce.hpp"

namespace insula {

namespace detail::reduce {

inline double ordered_sum(index_t n, double const* x) {
  double s = 0;
  for (index_t i = 0; i < n; ++i) s += x[i];
  return s;
}

/// sum[c] = sum of x[p, c] over rows p
template <scalar T>
void column_sums(index_t rows, index_t channels, T const* x, double* sum) {
  constexpr index_t w = simd::width<double>, block = 4;
  index_t c = 0;
  for (; c + block * w <= channels; c += block * w) {
    simd::pack<double> s[block] = {};
    for (index_t p = 0; p < rows; ++p)
#pragma GCC unroll 4
      for (index_t k = 0; k < block; ++k)
        s[k] += simd::load_double(x + p * channels + c + k * w, simd::whole{});
#pragma GCC unroll 4
    for (index_t k = 0; k < block; ++k) simd::store(sum + c + k * w, s[k]);
  }
  simd::each_register<double>(channels - c, [=](index_t i, auto lanes) {
    auto s = simd::zero<double>();
    for (index_t p = 0; p < rows; ++p) s += simd::load_double(x + p * channels + c + i, lanes);
    simd::store(sum + c + i, s, lanes);
  });
}

/// Sum over n elements of square(i, lanes), a register of squares; four chains of additions.
template <class F>
double sum_registers(index_t n, F square) {
  constexpr index_t w = simd::width<double>;
  simd::pack<double> s[4] = {};
  index_t i = 0;
  for (; i + 4 * w <= n; i += 4 * w)
#pragma GCC unroll 4
    for (index_t k = 0; k < 4; ++k) s[k] += square(i + k * w, simd::whole{});
  simd::each_register<double>(n - i, [&](index_t j, auto lanes) { s[0] += square(i + j, lanes); });
  return simd::sum<double>((s[0] + s[1]) + (s[2] + s[3]));
}

template <scalar T>
double sum_of_squares(index_t n, T const* x) {
  return sum_registers(n, [=](index_t i, auto lanes) {
    simd::ask_ahead(x + i);
    auto const v = simd::load_double(x + i, lanes);
    return v * v;
  });
}
template <scalar T>
double dot(index_t n, T const* x, T const* y) {
  return sum_registers(n, [=](index_t i, auto lanes) {
    return simd::load_double(x + i, lanes) * simd::load_double(y + i, lanes);
  });
}
template <scalar T>
double squared_distance(index_t n, T const* x, T const* y) {
  return sum_registers(n, [=](index_t i, auto lanes) {
    simd::ask_ahead(x + i, y + i);
    auto const d = simd::load_double(x + i, lanes) - simd::load_double(y + i, lanes);
    return d * d;
  });
}

/// All bits set where the byte is not 0.
template <scalar T, class Lanes>
INSULA_INLINE simd::mask<T> load_mask(std::uint8_t const* m, Lanes lanes) {
  return simd::load_bytes<T>(m, lanes) != simd::mask<T>{};
}

}  // namespace detail::reduce

template <scalar T>
struct kernel<op::average_pool, cpu, T> {
  static void run(context<cpu>& cx, typename op::average_pool::args<T> const& a) {
    index_t const channels = a.channels, rows = chunk_rows(channels), each = rows < 16 ? 16 : rows;
    index_t const chunks = chunk_count(a.positions, each);  // of one sample
    scratch s(cx);
    double* const part = s.take<double>(a.batch * chunks * channels);
    cx.pool.run(a.batch * chunks, [&](index_t task, int) {
      index_t const n = task / chunks, begin = task % chunks * each;
      index_t const count = begin + each < a.positions ? each : a.positions - begin;
      detail::reduce::column_sums(count, channels, a.x + (n * a.positions + begin) * channels,
                                  part + task * channels);
    });
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t c = 0; c < channels; ++c) {
        double sum = 0;
        for (index_t t = 0; t < chunks; ++t) sum += part[(n * chunks + t) * channels + c];
        a.y[n * channels + c] = T(sum / double(a.positions));
      }
  }
};

template <scalar T>
struct kernel<op::average_pool_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::average_pool_grad::args<T> const& a) {
    if (!a.gx) return;
    auto const share = simd::broadcast(T(1) / T(a.positions));
    run_chunks(cx, a.batch * a.positions, chunk_rows(a.channels),
               [&](index_t begin, index_t end, index_t, int) {
                 for (index_t p = begin; p < end; ++p) {
                   T const* gy = a.gy + p / a.positions * a.channels;
                   T* gx = a.gx + p * a.channels;
                   simd::each_register<T>(a.channels, [=](index_t c, auto lanes) {
                     auto g = share * simd::load(gy + c, lanes);
                     if (a.adds) g += simd::load(gx + c, lanes);
                     simd::store(gx + c, g, lanes);
                   });
                 }
               });
  }
};

namespace detail::reduce {
inline constexpr double least_norm = 1e-12;
}

template <scalar T>
struct kernel<op::l2_normalise, cpu, T> {
  static void run(context<cpu>& cx, typename op::l2_normalise::args<T> const& a) {
    run_chunks(cx, a.rows, chunk_rows(a.width), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        T const* x = a.x + r * a.width;
        T* y = a.y + r * a.width;
        double const norm = std::sqrt(detail::reduce::sum_of_squares(a.width, x));
        auto const by = simd::broadcast(
            T(norm < detail::reduce::least_norm ? detail::reduce::least_norm : norm));  // NaN stays
        simd::each_register<T>(a.width, [=](index_t c, auto lanes) {
          simd::store(y + c, simd::load(x + c, lanes) / by, lanes);
        });
      }
    });
  }
};

template <scalar T>
struct kernel<op::l2_normalise_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::l2_normalise_grad::args<T> const& a) {
    if (!a.gx) return;
    run_chunks(cx, a.rows, chunk_rows(a.width), [&](index_t begin, index_t end, index_t, int) {
      for (index_t r = begin; r < end; ++r) {
        T const *x = a.x + r * a.width, *gy = a.gy + r * a.width;
        T* gx = a.gx + r * a.width;
        double const norm = std::sqrt(detail::reduce::sum_of_squares(a.width, x));
        bool const floored = norm <= detail::reduce::least_norm;  // then the divisor is a constant
        double const inverse = 1 / (floored ? detail::reduce::least_norm : norm);
        double const along = floored ? 0 : detail::reduce::dot(a.width, x, gy) * inverse;  // y . gy
        auto const scale = simd::broadcast(T(inverse)), part = simd::broadcast(T(along));
        simd::each_register<T>(a.width, [=](index_t c, auto lanes) {
          auto const y = simd::load(x + c, lanes) * scale;
          auto g = simd::fnma(y, part, simd::load(gy + c, lanes)) * scale;
          if (a.adds) g += simd::load(gx + c, lanes);
          simd::store(gx + c, g, lanes);
        });
      }
    });
  }
};

template <scalar T>
struct kernel<op::sum_of_squares, cpu, T> {
  static void run(context<cpu>& cx, typename op::sum_of_squares::args<T> const& a) {
    scratch s(cx);
    index_t const chunks = chunk_count(a.n, chunk_elements);
    double* const part = s.take<double>(chunks);
    run_chunks(cx, a.n, chunk_elements, [&](index_t begin, index_t end, index_t t, int) {
      part[t] = detail::reduce::sum_of_squares(end - begin, a.x + begin);
    });
    *a.sum = detail::reduce::ordered_sum(chunks, part);
  }
};

template <scalar T>
struct kernel<op::decayed_norms, cpu, T> {
  static void run(context<cpu>& cx, typename op::decayed_norms::args<T> const& a) {
    scratch s(cx);
    index_t const chunks = chunk_count(a.n, chunk_elements);
    double *const w_part = s.take<double>(chunks), *const g_part = s.take<double>(chunks);
    auto const scale = simd::broadcast(a.grad_scale), decay = simd::broadcast(a.decay);
    run_chunks(cx, a.n, chunk_elements, [&](index_t begin, index_t end, index_t t, int) {
      T const *const g = a.g + begin, *const w = a.w + begin;
      w_part[t] = detail::reduce::sum_of_squares(end - begin, w);
      g_part[t] = detail::reduce::sum_registers(end - begin, [=](index_t i, auto lanes) {
        simd::ask_ahead(w + i, g + i);
        auto const v =
            simd::fma(decay, simd::load_double(w + i, lanes), scale * simd::load_double(g + i, lanes));
        return v * v;
      });
    });
    *a.w_squares = detail::reduce::ordered_sum(chunks, w_part);
    *a.g_squares = detail::reduce::ordered_sum(chunks, g_part);
  }
};

template <scalar T>
struct kernel<op::masked_mse, cpu, T> {
  static void run(context<cpu>& cx, typename op::masked_mse::args<T> const& a) {
    index_t const channels = a.channels, each = chunk_rows(channels), chunks = chunk_count(a.positions, each);
    scratch s(cx);
    double* const sum = s.take<double>(chunks);
    index_t* const masked = s.take<index_t>(chunks);
    run_chunks(cx, a.positions, each, [&](index_t begin, index_t end, index_t t, int) {
      T const *x = a.x + begin * channels, *target = a.target + begin * channels;
      index_t const n = end - begin;
      if (!a.mask) {
        masked[t] = n;
        sum[t] = detail::reduce::squared_distance(n * channels, x, target);
        return;
      }
      std::uint8_t const* mask = a.mask + begin;
      masked[t] = 0;
      for (index_t p = 0; p < n; ++p) masked[t] += mask[p] != 0;
      if (channels == 1) {  // single-channel volumes: the mask is per element
        sum[t] = detail::reduce::sum_registers(n, [=](index_t i, auto lanes) {
          simd::ask_ahead(x + i, target + i);
          auto const d = simd::load_double(x + i, lanes) - simd::load_double(target + i, lanes);
          return detail::reduce::load_mask<double>(mask + i, lanes) ? d * d : simd::zero<double>();
        });
        return;
      }
      sum[t] = 0;
      for (index_t p = 0; p < n; ++p)
        if (mask[p])
          sum[t] += detail::reduce::squared_distance(channels, x + p * channels, target + p * channels);
    });
    *a.sum = detail::reduce::ordered_sum(chunks, sum);
    *a.count = 0;
    for (index_t t = 0; t < chunks; ++t) *a.count += masked[t] * channels;
  }
};

template <scalar T>
struct kernel<op::masked_mse_grad, cpu, T> {
  static void run(context<cpu>& cx, typename op::masked_mse_grad::args<T> const& a) {
    if (!a.gx) return;
    index_t const channels = a.channels;
    auto const scale = simd::broadcast(a.scale);
    run_chunks(cx, a.positions, chunk_rows(channels), [&](index_t begin, index_t end, index_t, int) {
      T const *x = a.x + begin * channels, *target = a.target + begin * channels;
      T* gx = a.gx + begin * channels;
      std::uint8_t const* mask = a.mask ? a.mask + begin : nullptr;
      auto const difference = [=](index_t i, auto lanes) {
        simd::ask_ahead(x + i, target + i, gx + i);
        auto const g = scale * (simd::load(x + i, lanes) - simd::load(target + i, lanes));
        return a.adds ? g + simd::load(gx + i, lanes) : g;
      };
      if (!mask) {
        simd::each_register<T>((end - begin) * channels, [=](index_t i, auto lanes) {
          simd::store(gx + i, difference(i, lanes), lanes);
        });
      } else if (channels == 1) {
        simd::each_register<T>(end - begin, [=](index_t i, auto lanes) {
          auto const outside = a.adds ? simd::load(gx + i, lanes) : simd::zero<T>();
          auto const g = detail::reduce::load_mask<T>(mask + i, lanes) ? difference(i, lanes) : outside;
          simd::store(gx + i, g, lanes);
        });
      } else {
        for (index_t p = 0; p < end - begin; ++p)
          if (mask[p])
            simd::each_register<T>(channels, [=](index_t c, auto lanes) {
              simd::store(gx + p * channels + c, difference(p * channels + c, lanes), lanes);
            });
          else if (!a.adds)
            simd::clear(channels, gx + p * channels);
      }
    });
  }
};

template <scalar T>
struct kernel<op::cross_entropy, cpu, T> {
  static void run(context<cpu>& cx, typename op::cross_entropy::args<T> const& a) {
    index_t const each = chunk_rows(a.classes), chunks = chunk_count(a.rows, each);
    scratch s(cx);
    double* const part = s.take<double>(chunks);
    run_chunks(cx, a.rows, each, [&](index_t begin, index_t end, index_t t, int) {
      part[t] = 0;
      if (a.classes <= few)
        for (index_t r = begin; r < end; r += simd::width<T>) {
          part[t] += rows_of_few(a, r, r + simd::width<T> < end ? simd::width<T> : int(end - r));
        }
      else
        for (index_t r = begin; r < end; ++r) part[t] += row(a, r);
    });
    *a.loss = detail::reduce::ordered_sum(chunks, part) / double(a.rows);
  }

 private:
  using args = typename op::cross_entropy::args<T>;

  static constexpr index_t few = 16;  // classes, for which rows become lanes

  static index_t checked_label(args const& a, index_t r) {
    index_t const label = a.label[r];
    check(label >= 0 && label < a.classes, "cross_entropy: label[", r, "] is ", label, ", it must be 0 to ",
          a.classes - 1);
    return label;
  }
  /// gx[label] = p - 1, from the others' sum: no cancellation where p is near 1.
  static void finish_gradient(index_t classes, index_t label, T* gx) {
    double rest = 0;
    for (index_t c = 0; c < classes; ++c)
      if (c != label) rest += double(gx[c]);
    gx[label] = T(-rest);
  }

  /// Loss of n <= width rows from row r on; writes their gradients. A class is a register, a row a lane.
  static double rows_of_few(args const& a, index_t r, int n) {
    constexpr int w = simd::width<T>;
    T e[few * w], most[w], total[w];
    T const* x = a.x + r * a.classes;
    auto top = simd::broadcast(-std::numeric_limits<T>::infinity());
    for (index_t c = 0; c < a.classes; ++c) {
      for (int k = 0; k < w; ++k) e[c * w + k] = k < n ? x[k * a.classes + c] : T(0);
      top = simd::max(simd::load(e + c * w), top);
    }
    auto sum = simd::zero<T>();
    for (index_t c = 0; c < a.classes; ++c) {
      auto const v = simd::exp<T>(simd::load(e + c * w) - top);
      sum += v;
      simd::store(e + c * w, v);
    }
    simd::store(most, top), simd::store(total, sum);
    double loss = 0;
    for (int k = 0; k < n; ++k) {
      index_t const label = checked_label(a, r + k);
      loss += std::log(double(total[k])) + (double(most[k]) - double(x[k * a.classes + label]));
      if (!a.gx) continue;
      T* const gx = a.gx + (r + k) * a.classes;
      T const scale = T(1 / (double(total[k]) * double(a.rows)));
      for (index_t c = 0; c < a.classes; ++c) gx[c] = e[c * w + k] * scale;
      finish_gradient(a.classes, label, gx);
    }
    return loss;
  }

  /// Loss of row r; writes its gradient.
  static double row(args const& a, index_t r) {
    index_t const label = checked_label(a, r);
    T const* x = a.x + r * a.classes;
    T* gx = a.gx ? a.gx + r * a.classes : nullptr;
    T most = x[0];
    for (index_t c = 1; c < a.classes; ++c) most = x[c] > most ? x[c] : most;
    auto const top = simd::broadcast(most);
    double total = 0;
    simd::each_register<T>(a.classes, [&](index_t c, auto lanes) {
      T e[simd::width<T>];
      auto const v = simd::exp<T>(simd::load(x + c, lanes) - top);
      simd::store(e, v);
      if (gx) simd::store(gx + c, v, lanes);
      for (int k = 0; k < count(lanes); ++k) total += double(e[k]);
    });
    if (gx) {
      auto const scale = simd::broadcast(T(1 / (total * double(a.rows))));
      simd::each_register<T>(a.classes, [=](index_t c, auto lanes) {
        simd::store(gx + c, scale * simd::load(gx + c, lanes), lanes);
      });
      finish_gradient(a.classes, label, gx);
    }
    return std::log(total) + (double(most) - double(x[label]));
  }
  static constexpr int count(simd::whole) { return simd::width<T>; }
  static constexpr int count(int lanes) { return lanes; }
};

}  // namespace insula
