// SPDX-License-Identifier: Apache-2.0
// Reference twins of lead_tokens, restore_tokens, slice_tokens and their gradients.
#pragma once

#include "insula/device/cpu.hpp"
#include "insula/op/token.hpp"

namespace insula {

template <class T>
struct kernel<op::lead_tokens, plain, T> {
  static void run(context<plain>&, typename op::lead_tokens::args<T> const& a) {
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t t = 0; t <= a.tokens; ++t)
        for (index_t c = 0; c < a.channels; ++c) {
          index_t const id = t == 0 ? -1 : a.shuffle ? a.shuffle[n * a.positions + t - 1] : t - 1;
          T const v = t == 0 ? a.token[c] : a.x[(n * a.tokens + t - 1) * a.channels + c];
          a.y[(n * (a.tokens + 1) + t) * a.channels + c] = v + a.position[(1 + id) * a.channels + c];
        }
  }
};

template <class T>
struct kernel<op::lead_tokens_grad, plain, T> {
  static void run(context<plain>&, typename op::lead_tokens_grad::args<T> const& a) {
    index_t const sequence = (a.tokens + 1) * a.channels;
    for (index_t c = 0; c < a.channels; ++c) {
      double first = 0;
      for (index_t n = 0; n < a.batch; ++n) first += double(a.gy[n * sequence + c]);
      if (a.gtoken) a.gtoken[c] += T(first);
      if (a.gposition) a.gposition[c] += T(first);
      for (index_t l = 0; l < a.positions && a.gposition; ++l) {
        double sum = 0;
        for (index_t n = 0; n < a.batch; ++n) {
          index_t const k = a.restore ? a.restore[n * a.positions + l] : l;
          if (k < a.tokens) sum += double(a.gy[n * sequence + (1 + k) * a.channels + c]);
        }
        a.gposition[(1 + l) * a.channels + c] += T(sum);
      }
    }
    if (!a.gx) return;
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t i = 0; i < a.tokens * a.channels; ++i) {
        T& gx = a.gx[n * a.tokens * a.channels + i];
        gx = (a.adds ? gx : T(0)) + a.gy[n * sequence + a.channels + i];
      }
  }
};

template <class T>
struct kernel<op::restore_tokens, plain, T> {
  static void run(context<plain>&, typename op::restore_tokens::args<T> const& a) {
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t t = 0; t <= a.positions; ++t)
        for (index_t c = 0; c < a.channels; ++c) {
          index_t const r = t == 0 ? -1 : a.restore ? a.restore[n * a.positions + t - 1] : t - 1;
          T const v = r < a.kept ? a.x[(n * (a.kept + 1) + 1 + r) * a.channels + c] : a.token[c];
          a.y[(n * (a.positions + 1) + t) * a.channels + c] = v + a.position[t * a.channels + c];
        }
  }
};

template <class T>
struct kernel<op::restore_tokens_grad, plain, T> {
  static void run(context<plain>&, typename op::restore_tokens_grad::args<T> const& a) {
    for (index_t c = 0; c < a.channels; ++c) {
      double masked = 0;
      for (index_t t = 0; t <= a.positions; ++t) {
        double sum = 0;
        for (index_t n = 0; n < a.batch; ++n) {
          T const gy = a.gy[(n * (a.positions + 1) + t) * a.channels + c];
          index_t const r = t == 0 ? -1 : a.restore ? a.restore[n * a.positions + t - 1] : t - 1;
          sum += double(gy);
          if (r >= a.kept) masked += double(gy);
          if (r >= a.kept || !a.gx) continue;
          T& gx = a.gx[(n * (a.kept + 1) + 1 + r) * a.channels + c];
          gx = a.adds ? gx + gy : gy;
        }
        if (a.gposition) a.gposition[t * a.channels + c] += T(sum);
      }
      if (a.gtoken) a.gtoken[c] += T(masked);
    }
  }
};

template <class T>
struct kernel<op::slice_tokens, plain, T> {
  static void run(context<plain>&, typename op::slice_tokens::args<T> const& a) {
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t i = 0; i < a.count * a.channels; ++i)
        a.y[n * a.count * a.channels + i] = a.x[(n * a.tokens + a.first) * a.channels + i];
  }
};

template <class T>
struct kernel<op::slice_tokens_grad, plain, T> {
  static void run(context<plain>&, typename op::slice_tokens_grad::args<T> const& a) {
    if (!a.gx) return;
    for (index_t i = 0; i < a.batch * a.tokens * a.channels && !a.adds; ++i) a.gx[i] = T(0);
    for (index_t n = 0; n < a.batch; ++n)
      for (index_t i = 0; i < a.count * a.channels; ++i)
        a.gx[(n * a.tokens + a.first) * a.channels + i] += a.gy[n * a.count * a.channels + i];
  }
};

}  // namespace insula
