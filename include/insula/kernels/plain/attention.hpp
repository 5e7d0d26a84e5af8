// SPDX-License-Identifier: Apache-2.0
// Reference twins of softmax, global attention and their gradients: one row of scores at a time, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "insula/base/scalar.hpp"
#include "insula/device/cpu.hpp"
#include "insula/op/attention.hpp"

namespace insula {

template <scalar T>
struct kernel<op::softmax, plain, T> {
  static void run(context<plain>&, op::softmax::args<T> const& a) {
    for (index_t r = 0; r < a.rows; ++r) {
      T const* const x = a.x + r * a.width;
      T* const y = a.y + r * a.width;
      double largest = a.width > 0 ? double(x[0]) : 0, sum = 0;
      for (index_t c = 1; c < a.width; ++c) largest = std::max(largest, double(x[c]));
      for (index_t c = 0; c < a.width; ++c) sum += std::exp(double(x[c]) - largest);
      for (index_t c = 0; c < a.width; ++c) y[c] = T(std::exp(double(x[c]) - largest) / sum);
    }
  }
};

template <scalar T>
struct kernel<op::softmax_grad, plain, T> {
  static void run(context<plain>&, op::softmax_grad::args<T> const& a) {
    if (!a.gx) return;
    for (index_t r = 0; r < a.rows; ++r) {
      T const *const y = a.y + r * a.width, *const gy = a.gy + r * a.width;
      T* const gx = a.gx + r * a.width;
      double dot = 0;
      for (index_t c = 0; c < a.width; ++c) dot += double(y[c]) * double(gy[c]);
      for (index_t c = 0; c < a.width; ++c) {
        T const g = T(double(y[c]) * (double(gy[c]) - dot));
        gx[c] = a.adds ? gx[c] + g : g;
      }
    }
  }
};

template <scalar T>
struct kernel<op::attention, plain, T> {
  static void run(context<plain>&, op::attention::args<T> const& a) {
    index_t const width = a.channels / a.heads, row = 3 * a.channels;
    double const scale = 1 / std::sqrt(double(width));
    std::vector<double> p(std::size_t(a.tokens));
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t h = 0; h < a.heads; ++h)
        for (index_t i = 0; i < a.tokens; ++i) {
          T const* const head = a.qkv + n * a.tokens * row + h * width;
          T const *const q = head + i * row, *const k = head + a.channels, *const v = head + 2 * a.channels;
          double largest = -HUGE_VAL, sum = 0;
          for (index_t j = 0; j < a.tokens; ++j) {
            double s = 0;
            for (index_t e = 0; e < width; ++e) s += double(q[e]) * double(k[j * row + e]);
            p[std::size_t(j)] = s * scale;
            largest = std::max(largest, s * scale);
          }
          for (double& s : p) s = std::exp(s - largest), sum += s;
          for (index_t e = 0; e < width; ++e) {
            double o = 0;
            for (index_t j = 0; j < a.tokens; ++j) o += p[std::size_t(j)] * double(v[j * row + e]);
            a.o[(n * a.tokens + i) * a.channels + h * width + e] = T(o / sum);
          }
          if (a.lse) a.lse[(n * a.heads + h) * a.tokens + i] = T(largest + std::log(sum));
        }
  }
};

template <scalar T>
struct kernel<op::attention_grad, plain, T> {
  static void run(context<plain>&, op::attention_grad::args<T> const& a) {
    if (!a.gqkv) return;
    index_t const width = a.channels / a.heads, row = 3 * a.channels;
    double const scale = 1 / std::sqrt(double(width));
    if (!a.adds)
      for (index_t i = 0; i < a.batch * a.tokens * row; ++i) a.gqkv[i] = T(0);
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t h = 0; h < a.heads; ++h)
        for (index_t i = 0; i < a.tokens; ++i) {
          index_t const head = n * a.tokens * row + h * width;
          T const *const q = a.qkv + head + i * row, *const k = a.qkv + head + a.channels;
          T const* const v = a.qkv + head + 2 * a.channels;
          T *const gq = a.gqkv + head + i * row, *const gk = a.gqkv + head + a.channels;
          T* const gv = a.gqkv + head + 2 * a.channels;
          index_t const at = (n * a.tokens + i) * a.channels + h * width;
          double const lse = double(a.lse[(n * a.heads + h) * a.tokens + i]);
          double delta = 0;  // sum over keys of p dp
          for (index_t e = 0; e < width; ++e) delta += double(a.go[at + e]) * double(a.o[at + e]);
          for (index_t j = 0; j < a.tokens; ++j) {
            double s = 0, gp = 0;
            for (index_t e = 0; e < width; ++e) {
              s += double(q[e]) * double(k[j * row + e]);
              gp += double(a.go[at + e]) * double(v[j * row + e]);
            }
            double const p = std::exp(s * scale - lse), gs = p * (gp - delta) * scale;
            for (index_t e = 0; e < width; ++e) {
              gq[e] += T(gs * double(k[j * row + e]));
              gk[j * row + e] += T(gs * double(q[e]));
              gv[j * row + e] += T(p * double(a.go[at + e]));
            }
          }
        }
  }
};

}  // namespace insula
