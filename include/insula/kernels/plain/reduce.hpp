// SPDX-License-Identifier: Apache-2.0
// Reference twins of pooling, normalisation of vectors, losses and sums.
#pragma once

#include <cmath>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/device/cpu.hpp"
#include "insula/op/reduce.hpp"

namespace insula {

template <class T>
struct kernel<op::average_pool, plain, T> {
  static void run(context<plain>&, typename op::average_pool::args<T> const& a) {
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t c = 0; c < a.channels; ++c) {
        double sum = 0;
        for (index_t p = 0; p < a.positions; ++p) sum += double(a.x[(n * a.positions + p) * a.channels + c]);
        a.y[n * a.channels + c] = T(sum / double(a.positions));
      }
  }
};

template <class T>
struct kernel<op::average_pool_grad, plain, T> {
  static void run(context<plain>&, typename op::average_pool_grad::args<T> const& a) {
    if (!a.gx) return;
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t p = 0; p < a.positions; ++p)
        for (index_t c = 0; c < a.channels; ++c) {
          T& gx = a.gx[(n * a.positions + p) * a.channels + c];
          T const g = a.gy[n * a.channels + c] / T(a.positions);
          gx = a.adds ? gx + g : g;
        }
  }
};

template <class T>
struct kernel<op::l2_normalise, plain, T> {
  static void run(context<plain>&, typename op::l2_normalise::args<T> const& a) {
    for (index_t r = 0; r < a.rows; ++r) {
      T const* x = a.x + r * a.width;
      double square = 0;
      for (index_t c = 0; c < a.width; ++c) square += double(x[c]) * double(x[c]);
      double const norm = std::sqrt(square) < 1e-12 ? 1e-12 : std::sqrt(square);  // NaN stays
      for (index_t c = 0; c < a.width; ++c) a.y[r * a.width + c] = T(double(x[c]) / norm);
    }
  }
};

template <class T>
struct kernel<op::l2_normalise_grad, plain, T> {
  static void run(context<plain>&, typename op::l2_normalise_grad::args<T> const& a) {
    if (!a.gx) return;
    for (index_t r = 0; r < a.rows; ++r) {
      T const *x = a.x + r * a.width, *gy = a.gy + r * a.width;
      double square = 0, dot = 0;
      for (index_t c = 0; c < a.width; ++c)
        square += double(x[c]) * double(x[c]), dot += double(x[c]) * double(gy[c]);
      double const norm = std::sqrt(square);
      for (index_t c = 0; c < a.width; ++c) {
        // Below the floor the divisor is a constant.
        double const g =
            norm <= 1e-12 ? double(gy[c]) / 1e-12 : (double(gy[c]) - double(x[c]) * dot / square) / norm;
        T& gx = a.gx[r * a.width + c];
        gx = a.adds ? gx + T(g) : T(g);
      }
    }
  }
};

template <class T>
struct kernel<op::sum_of_squares, plain, T> {
  static void run(context<plain>&, typename op::sum_of_squares::args<T> const& a) {
    double sum = 0;
    for (index_t i = 0; i < a.n; ++i) sum += double(a.x[i]) * double(a.x[i]);
    *a.sum = sum;
  }
};

template <class T>
struct kernel<op::decayed_norms, plain, T> {
  static void run(context<plain>&, typename op::decayed_norms::args<T> const& a) {
    double w_squares = 0, g_squares = 0;
    for (index_t i = 0; i < a.n; ++i) {
      double const w = double(a.w[i]), g = a.grad_scale * double(a.g[i]) + a.decay * w;
      w_squares += w * w, g_squares += g * g;
    }
    *a.w_squares = w_squares, *a.g_squares = g_squares;
  }
};

template <class T>
struct kernel<op::masked_mse, plain, T> {
  static void run(context<plain>&, typename op::masked_mse::args<T> const& a) {
    double sum = 0;
    index_t count = 0;
    for (index_t p = 0; p < a.positions; ++p) {
      if (a.mask && !a.mask[p]) continue;
      count += a.channels;
      for (index_t c = 0; c < a.channels; ++c) {
        double const d = double(a.x[p * a.channels + c]) - double(a.target[p * a.channels + c]);
        sum += d * d;
      }
    }
    *a.sum = sum, *a.count = count;
  }
};

template <class T>
struct kernel<op::masked_mse_grad, plain, T> {
  static void run(context<plain>&, typename op::masked_mse_grad::args<T> const& a) {
    if (!a.gx) return;
    for (index_t p = 0; p < a.positions; ++p)
      for (index_t i = p * a.channels; i < (p + 1) * a.channels; ++i) {
        T const g = !a.mask || a.mask[p] ? a.scale * (a.x[i] - a.target[i]) : T(0);
        a.gx[i] = a.adds ? a.gx[i] + g : g;
      }
  }
};

template <class T>
struct kernel<op::info_nce, plain, T> {
  static void run(context<plain>&, typename op::info_nce::args<T> const& a) {
    std::vector<double> p(std::size_t(a.length + 1)),
        slope(p.size());  // exp of the logit; d clamp / d similarity
    double loss = 0;
    index_t negatives = 0;
    for (index_t i = 0; i < a.batch; ++i) {
      T const* q = a.q + i * a.width;
      double most = -1;
      for (index_t j = 0; j <= a.length; ++j) {  // 0 is the positive, j the queue's row j - 1
        T const* key = j == 0 ? a.k + i * a.width : a.queue + (j - 1) * a.width;
        bool const valid = j == 0 || (a.queue_patient[j - 1] != 0 && a.queue_patient[j - 1] != a.patient[i]);
        double s = -1;
        auto const at = std::size_t(j);
        slope[at] = 0;
        if (valid) {
          s = 0;
          for (index_t c = 0; c < a.width; ++c) s += double(q[c]) * double(key[c]);
          slope[at] = s < -1 || s > 1 ? 0 : 1;
          s = s < -1 ? -1 : s > 1 ? 1 : s;
          negatives += j != 0;
        }
        bool const counts = valid || a.invalid == op::invalid_negative::clamped;
        p[at] = counts ? s : -HUGE_VAL;
        if (s > most) most = s;
      }
      double const positive = p[0];
      double rest = 0;  // of all but the positive
      for (auto& v : p) v = std::exp((v - most) / a.temperature);
      for (std::size_t j = 1; j < p.size(); ++j) rest += p[j];
      double const total = p[0] + rest;
      loss += std::log(total) + (most - positive) / a.temperature;
      if (!a.gq) continue;
      for (index_t c = 0; c < a.width; ++c) {
        double g = -rest / total * slope[0] * double(a.k[i * a.width + c]);
        for (index_t j = 0; j < a.length; ++j)
          g += p[std::size_t(j + 1)] / total * slope[std::size_t(j + 1)] * double(a.queue[j * a.width + c]);
        a.gq[i * a.width + c] = T(g / (a.temperature * double(a.batch)));
      }
    }
    *a.loss = loss / double(a.batch);
    if (a.negatives) *a.negatives = negatives;
  }
};

template <class T>
struct kernel<op::cross_entropy, plain, T> {
  static void run(context<plain>&, typename op::cross_entropy::args<T> const& a) {
    double loss = 0;
    for (index_t r = 0; r < a.rows; ++r) {
      check(a.label[r] >= 0 && a.label[r] < a.classes, "cross_entropy: label[", r, "] is ", a.label[r],
            ", it must be 0 to ", a.classes - 1);
      T const* x = a.x + r * a.classes;
      double most = double(x[0]), total = 0;
      for (index_t c = 1; c < a.classes; ++c) most = double(x[c]) > most ? double(x[c]) : most;
      for (index_t c = 0; c < a.classes; ++c) total += std::exp(double(x[c]) - most);
      loss += std::log(total) + most - double(x[a.label[r]]);
      if (!a.gx) continue;
      for (index_t c = 0; c < a.classes; ++c)
        a.gx[r * a.classes + c] =
            T((std::exp(double(x[c]) - most) / total - (c == a.label[r] ? 1 : 0)) / double(a.rows));
    }
    *a.loss = loss / double(a.rows);
  }
};

}  // namespace insula
