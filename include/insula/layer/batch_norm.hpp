// SPDX-License-Identifier: Apache-2.0
// Batch normalisation layers, with the activation, the shortcut or the max-pooling that follow, and running statistics.
#pragma once

#include "insula/base/check.hpp"
#include "insula/layer/norm.hpp"
#include "insula/layer/pool.hpp"
#include "insula/op/batch_norm.hpp"

namespace insula {

namespace detail {

inline constexpr double batch_norm_eps = number(norm_eps::five),
                        batch_norm_momentum = 0.1;  // PyTorch's defaults

template <learned Affine>
constexpr parameter_list channel_parameters(dims in) {
  if constexpr (Affine == learned::yes)
    return {parameter{"weight", make_dims(in.channels()), layout::same, start::ones},
            parameter{"bias", make_dims(in.channels()), layout::same, start::zeros}};
  else
    return {};
}
constexpr state_list batch_state(dims in) {
  return {state_tensor{"running_mean", make_dims(in.channels())},
          state_tensor{"running_var", make_dims(in.channels()), start::ones},
          state_tensor{"num_batches_tracked", make_dims(), start::zeros, true}};
}

/// What the forward pass normalises with, and whether it moves the running statistics.
struct batch_rule {
  norm_statistics from;
  bool moves;
  template <class T>
  batch_rule(step const* s, arena<T> const& m)
      : from(m.again           ? norm_statistics::kept
             : m.with.training ? norm_statistics::batch
                               : norm_statistics::running),
        moves(m.moves_state()) {
    check(from != norm_statistics::running || m.kept.values, s->name,
          ": evaluation needs running statistics: pass the "
          "network's state (weights::state), or train (pass_options::training)");
  }
};
/// The same of the backward pass: mean and rstd are constants in evaluation.
template <class T>
norm_statistics backward_rule(arena<T> const& m) {
  return m.with.training ? norm_statistics::batch : norm_statistics::running;
}
template <class T>
void count_batch(step const* s, arena<T> const& m) {
  if (m.moves_state() && m.kept.counters) ++*m.counter(s, 2);
}

template <learned Affine, activation Act, class B, class T>
void batch_norm_forward(context<B>& cx, step const* s, arena<T> const& m, T const* skip,
                        double eps = batch_norm_eps) {
  constexpr bool a = Affine == learned::yes;
  batch_rule const rule(s, m);
  bool const running = rule.moves || rule.from == norm_statistics::running;
  run<op::batch_norm, B, T>(
      cx, {m.batch * s->in.positions(), s->in.channels(), eps, Act, rule.from, m.with.ranks, m.read(s->x),
           skip, a ? m.weight(s, 0) : nullptr, a ? m.weight(s, 1) : nullptr, batch_norm_momentum,
           running ? m.state(s, 0) : nullptr, running ? m.state(s, 1) : nullptr, m.write(s->y),
           m.write(s->saved)});
  count_batch(s, m);
}
template <learned Affine, activation Act, class B, class T>
void batch_norm_backward(context<B>& cx, step const* s, arena<T> const& m, T const* skip, T* gskip) {
  if (!s->active) return;
  constexpr bool a = Affine == learned::yes;
  run<op::batch_norm_grad, B, T>(
      cx, {m.batch * s->in.positions(), s->in.channels(), Act, backward_rule(m), m.with.ranks, m.read(s->x),
           skip, a ? m.weight(s, 0) : nullptr, a ? m.weight(s, 1) : nullptr, m.read(s->saved), m.read(s->gy),
           s->gx_adds, m.write(s->gx), s->gx2_adds, gskip, a ? m.weight_gradient(s, 0) : nullptr,
           a ? m.weight_gradient(s, 1) : nullptr});
}

}  // namespace detail

/// y = act(batchnorm(x)) per channel, eps 1e-5 by default. Training (pass_options::training): statistics of the batch, biased variance;
/// then running <- 0.9 running + 0.1 batch with the unbiased variance, num_batches_tracked + 1, unless the state is fixed.
/// Evaluation: running statistics. With pass_options::ranks the statistics of a training pass cover the batches of all ranks.
/// Parameters: weight (C), bias (C) if learned. State: running_mean (C), running_var (C), num_batches_tracked.
template <activation Act = activation::none, learned Affine = learned::yes, norm_eps Eps = norm_eps::five>
struct batch_norm : leaf<batch_norm<Act, Affine, Eps>> {
  static constexpr char const* name = "batch_norm";
  static constexpr traits trait{.in_place = true, .gx_is_gy = true, .saved_stays = true};

  static constexpr inferred infer(dims in) {
    return in.rank >= 1 ? fits(in) : misfit(fault::rank, in.rank, 4);
  }
  static constexpr parameter_list parameters(dims in) { return detail::channel_parameters<Affine>(in); }
  static constexpr state_list state(dims in) { return detail::batch_state(in); }
  static constexpr index_t saved(dims in) { return 3 * in.channels(); }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::batch_norm_forward<Affine, Act, B, T>(cx, s, m, nullptr, number(Eps));
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::batch_norm_backward<Affine, Act, B, T>(cx, s, m, nullptr, nullptr);
  }
};

/// Join: y = act(batchnorm(a) + b), the end of a residual block.
template <activation Act = activation::none, learned Affine = learned::yes>
struct batch_norm_add : join<batch_norm_add<Act, Affine>> {
  static constexpr char const* name = "batch_norm_add";
  static constexpr traits trait{.in_place = true, .gx_is_gy = true, .saved_stays = true};

  static constexpr inferred infer(dims a, dims b) {
    return a == b ? fits(a) : misfit(fault::residual, a.size(), b.size());
  }
  static constexpr parameter_list parameters(dims in) { return detail::channel_parameters<Affine>(in); }
  static constexpr state_list state(dims in) { return detail::batch_state(in); }
  static constexpr index_t saved(dims in) { return 3 * in.channels(); }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::batch_norm_forward<Affine, Act, B, T>(cx, s, m, m.read(s->x2));
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::batch_norm_backward<Affine, Act, B, T>(cx, s, m, m.read(s->x2), m.write(s->gx2));
  }
};

/// y = maxpool(act(batchnorm(x))): the normalised volume is never in memory, and the gradient of x takes x's place. State and
/// parameters as batch_norm, windows as max_pool3d.
template <activation Act, pool_opts O = pool_opts{}>
struct batch_norm_pool : leaf<batch_norm_pool<Act, O>> {
  static constexpr char const* name = "batch_norm_pool";
  static constexpr traits trait{.gx_is_x = true, .saved_stays = true};

  static constexpr inferred infer(dims in) { return max_pool3d<O>::infer(in); }
  static constexpr parameter_list parameters(dims in) { return detail::channel_parameters<learned::yes>(in); }
  static constexpr state_list state(dims in) { return detail::batch_state(in); }
  static constexpr index_t saved(dims in) { return picks(in) + 3 * in.channels(); }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    detail::batch_rule const rule(s, m);
    bool const running = rule.moves || rule.from == norm_statistics::running;
    T* const kept = m.write(s->saved);
    run<op::batch_norm_pool, B, T>(
        cx, {max_pool3d<O>::geometry(s->in, m.batch), detail::batch_norm_eps, Act, rule.from, m.with.ranks,
             m.read(s->x), m.weight(s, 0), m.weight(s, 1), detail::batch_norm_momentum,
             running ? m.state(s, 0) : nullptr, running ? m.state(s, 1) : nullptr, m.write(s->y),
             stats(s, m, kept), reinterpret_cast<std::uint8_t*>(kept)});
    detail::count_batch(s, m);
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    T* const kept = m.write(s->saved);
    run<op::batch_norm_pool_grad, B, T>(
        cx,
        {max_pool3d<O>::geometry(s->in, m.batch), Act, detail::backward_rule(m), m.with.ranks, m.read(s->x),
         m.weight(s, 0), m.weight(s, 1), stats(s, m, kept), reinterpret_cast<std::uint8_t const*>(kept),
         m.read(s->gy), s->gx_adds, m.write(s->gx), m.weight_gradient(s, 0), m.weight_gradient(s, 1)});
  }

 private:
  static constexpr index_t picks(dims in) { return max_pool3d<O>::saved(in); }
  template <class T>
  static T* stats(step const* s, arena<T> const& m, T* kept) {
    return kept ? kept + picks(s->in) * m.batch : nullptr;
  }
};

}  // namespace insula
