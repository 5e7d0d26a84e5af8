// SPDX-License-Identifier: Apache-2.0
// Reference twins of batch_norm, batch_norm_pool and their gradients: two-pass statistics, sums in double.
#pragma once

#include <cmath>
#include <type_traits>
#include <vector>

#include "insula/base/scalar.hpp"
#include "insula/kernels/plain/activation.hpp"
#include "insula/kernels/plain/pool.hpp"
#include "insula/op/batch_norm.hpp"

namespace insula {

namespace detail {

/// Means and sums of squared deviations per channel of this rank's rows become those of all ranks' rows, whose number is
/// returned. message: channels + 1 numbers.
inline double merge_ranks(rank_group const& ranks, index_t channels, double rows, double* mean,
                          double* squares, double* message) {
  if (!ranks.sum) return rows;
  for (index_t c = 0; c < channels; ++c) message[c] = rows * mean[c];
  message[channels] = rows;
  ranks.sum(ranks.self, message, channels + 1);
  double const all = message[channels];
  for (index_t c = 0; c < channels; ++c) {
    double const own = mean[c];
    mean[c] = message[c] / all;
    squares[c] += rows * (own - mean[c]) * (own - mean[c]);
  }
  ranks.sum(ranks.self, squares, channels);
  return all;
}

/// (1 - momentum) running + momentum batch, of moments of `rows` numbers per channel.
template <class T>
void follow_batch(index_t channels, double rows, double const* mean, double const* squares, double momentum,
                  T* running_mean, T* running_var) {
  for (index_t c = 0; c < channels; ++c) {
    running_mean[c] = T((1 - momentum) * double(running_mean[c]) + momentum * mean[c]);
    running_var[c] = T((1 - momentum) * double(running_var[c]) + momentum * squares[c] / (rows - 1));
  }
}

inline void check_rows(double rows) {
  check(rows > 1, "batch_norm: the batch has ", index_t(rows),
        " value per channel, and a variance needs two: a larger batch, or evaluation mode "
        "(pass_options::training = false)");
}

/// mean[c], rstd[c] by the rule of `a.from`; also moves the running statistics and writes a.stats.
template <class Args>
std::vector<double> plain_statistics(Args const& a, index_t rows, index_t channels) {
  auto const n = std::size_t(channels);
  std::vector<double> s(2 * n), squares(n), message(n + 1);
  double *const mean = s.data(), *const rstd = mean + channels;
  if (a.from == norm_statistics::batch) {
    for (index_t c = 0; c < channels; ++c) {
      for (index_t r = 0; r < rows; ++r) mean[c] += double(a.x[r * channels + c]);
      mean[c] /= double(rows);
      for (index_t r = 0; r < rows; ++r) {
        double const d = double(a.x[r * channels + c]) - mean[c];
        squares[std::size_t(c)] += d * d;
      }
    }
    double const all = merge_ranks(a.ranks, channels, double(rows), mean, squares.data(), message.data());
    check_rows(all);
    if (a.running_mean)
      follow_batch(channels, all, mean, squares.data(), a.momentum, a.running_mean, a.running_var);
    for (index_t c = 0; c < channels; ++c) rstd[c] = 1 / std::sqrt(squares[std::size_t(c)] / all + a.eps);
  } else
    for (index_t c = 0; c < channels; ++c) {
      bool const kept = a.from == norm_statistics::kept;
      mean[c] = kept ? double(a.stats[c]) + double(a.stats[2 * channels + c]) : double(a.running_mean[c]);
      rstd[c] = kept ? double(a.stats[channels + c]) : 1 / std::sqrt(double(a.running_var[c]) + a.eps);
    }
  using T = std::remove_pointer_t<decltype(a.stats)>;
  if (a.stats)
    for (index_t c = 0; c < channels; ++c) {
      a.stats[c] = T(mean[c]), a.stats[channels + c] = T(rstd[c]);
      a.stats[2 * channels + c] = T(mean[c] - double(T(mean[c])));
    }
  return s;
}

}  // namespace detail

template <scalar T>
struct kernel<op::batch_norm, plain, T> {
  static void run(context<plain>&, op::batch_norm::args<T> const& a) {
    auto const s = detail::plain_statistics(a, a.rows, a.channels);
    for (index_t i = 0; i < a.rows * a.channels; ++i) {
      auto const c = i % a.channels;
      double const u = (double(a.x[i]) - s[std::size_t(c)]) * s[std::size_t(a.channels + c)] *
                           (a.w ? double(a.w[c]) : 1.0) +
                       (a.b ? double(a.b[c]) : 0.0) + (a.skip ? double(a.skip[i]) : 0.0);
      a.y[i] = T(activation_value(a.act, u));
    }
  }
};

template <scalar T>
struct kernel<op::batch_norm_grad, plain, T> {
  static void run(context<plain>&, op::batch_norm_grad::args<T> const& a) {
    std::vector<double> sums(std::size_t(2 * a.channels + 1));  // of gu and of gu unit; rows
    auto const each = [&](auto&& visit) {  // visit(element, channel, unit, gradient before the activation)
      for (index_t i = 0; i < a.rows * a.channels; ++i) {
        index_t const c = i % a.channels;
        double const mean = double(a.stats[c]) + double(a.stats[2 * a.channels + c]);
        double const unit = (double(a.x[i]) - mean) * double(a.stats[a.channels + c]);
        double const u = unit * (a.w ? double(a.w[c]) : 1.0) + (a.b ? double(a.b[c]) : 0.0) +
                         (a.skip ? double(a.skip[i]) : 0.0);
        visit(i, c, unit, through_activation(a.act, u, double(a.gy[i])));
      }
    };
    each([&](index_t, index_t c, double unit, double gu) {
      sums[std::size_t(c)] += gu, sums[std::size_t(a.channels + c)] += gu * unit;
    });
    for (index_t c = 0; c < a.channels; ++c) {
      if (a.gb) a.gb[c] += T(sums[std::size_t(c)]);
      if (a.gw) a.gw[c] += T(sums[std::size_t(a.channels + c)]);
    }
    double& all = sums.back();
    all = double(a.rows);
    bool const projects = a.from != norm_statistics::running;
    if (projects && a.ranks.sum) a.ranks.sum(a.ranks.self, sums.data(), 2 * a.channels + 1);
    each([&](index_t i, index_t c, double unit, double gu) {
      double const mean = projects ? sums[std::size_t(c)] / all : 0.0,
                   slope = projects ? sums[std::size_t(a.channels + c)] / all : 0.0;
      T const gx =
          T((a.w ? double(a.w[c]) : 1.0) * double(a.stats[a.channels + c]) * (gu - mean - unit * slope));
      if (a.gskip) a.gskip[i] = a.skip_adds ? a.gskip[i] + T(gu) : T(gu);
      if (a.gx) a.gx[i] = a.adds ? a.gx[i] + gx : gx;
    });
  }
};

/// Written as the composition it stands for.
template <scalar T>
struct kernel<op::batch_norm_pool, plain, T> {
  static void run(context<plain>& cx, op::batch_norm_pool::args<T> const& a) {
    index_t const rows = a.g.batch * a.g.in.size(), channels = a.g.channels;
    std::vector<T> y(std::size_t(rows * channels));
    kernel<op::batch_norm, plain, T>::run(
        cx, {rows, channels, a.eps, a.act, a.from, a.ranks, a.x, nullptr, a.w, a.b, a.momentum,
             a.running_mean, a.running_var, y.data(), a.stats});
    kernel<op::max_pool3d, plain, T>::run(cx, {a.g, y.data(), a.y, a.pick});
  }
};

template <scalar T>
struct kernel<op::batch_norm_pool_grad, plain, T> {
  static void run(context<plain>& cx, op::batch_norm_pool_grad::args<T> const& a) {
    index_t const rows = a.g.batch * a.g.in.size(), channels = a.g.channels;
    std::vector<T> gy(std::size_t(rows * channels));
    kernel<op::max_pool3d_grad, plain, T>::run(cx, {a.g, a.pick, a.gy, false, gy.data()});
    kernel<op::batch_norm_grad, plain, T>::run(
        cx, {rows, channels, a.act, a.from, a.ranks, a.x, nullptr, a.w, a.b, a.stats, gy.data(), a.adds, a.gx,
             false, nullptr, a.gw, a.gb});
  }
};

}  // namespace insula
