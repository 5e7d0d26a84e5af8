// SPDX-License-Identifier: Apache-2.0
// InfoNCE against a queue of keys, on the tape.
#pragma once

#include "insula/autograd/tape.hpp"
#include "insula/base/check.hpp"
#include "insula/op/pointwise.hpp"
#include "insula/op/reduce.hpp"

namespace insula {

/// The keys a query must not resemble, and whose they are: patient[j] == 0 marks an empty slot. Never owns.
template <scalar T, index_t Length, index_t Width, backend B>
struct negatives {
  T const* keys;                // (Length, Width)
  std::int64_t const* patient;  // (Length)
};

/// Contrastive loss of op::info_nce: queries q (unit rows) against their keys k and the queue; keys of the same patient and
/// empty slots are no negatives. The width of queries, keys and queue is one template argument, so a wrong queue is a
/// compile error. Adds weight * dL/dq to q.grad. Returns L; *negatives (optional) is the mean number of valid negatives.
/// Throws error if the batch is empty or the temperature is not positive.
template <index_t Length>
struct info_nce {
  double temperature = 0.2;
  op::invalid_negative invalid = op::invalid_negative::clamped;

  template <scalar T, index_t Width, index_t Keys, index_t QueueWidth, backend B>
  double operator()(var<T, shape<Width>, B> q, var<T, shape<Keys>, B> k,
                    negatives<T, Length, QueueWidth, B> others, std::int64_t const* patient,
                    double weight = 1, double* mean_negatives = nullptr) const {
    static_assert(Width == Keys && Keys == QueueWidth,
                  "info_nce: queries, keys and queue differ in width: end both networks with one projection");
    check(q.batch > 0, "info_nce: the batch is empty");
    check(temperature > 0, "info_nce: the temperature is ", temperature, ", it must be positive");
    tape<B>& t = *q.on;
    double loss = 0;
    index_t valid = 0;
    T* gq = q.grad ? t.template take<T>(q.size()) : nullptr;
    run<op::info_nce, B, T>(t.cx, {q.batch, Width, Length, temperature, invalid, q.value, k.value,
                                   others.keys, patient, others.patient, gq, &loss, &valid});
    if (mean_negatives) *mean_negatives = double(valid) / double(q.batch);
    if (gq)
      t.on_backward([=](context<B>& cx) { run<op::axpy, B, T>(cx, {q.size(), T(weight), gq, q.grad}); });
    return loss;
  }
};

}  // namespace insula
