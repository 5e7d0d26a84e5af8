// SPDX-License-Identifier: Apache-2.0
// Late fusion: one network shared by the modalities of a subject, and sums of what it makes of each.
#pragma once

#include "insula/net/compose.hpp"
#include "insula/op/attention.hpp"
#include "insula/op/copy.hpp"
#include "insula/op/modality.hpp"

namespace insula {

namespace detail {

/// (N C, D, H, W) -> N volumes (C, D, H, W), which the steps that follow see as samples.
template <int N>
struct split_modalities : leaf<split_modalities<N>> {
  static constexpr char const* name = "split_modalities";
  static constexpr traits trait{.keeps_x = false};

  static constexpr inferred infer(dims in) {
    if (in.rank != 4) return misfit(fault::rank, in.rank, 4);
    if (in.n[0] % N != 0) return misfit(fault::divisible, in.n[0], N);
    return fits(make_dims(in.n[0] / N, in.n[1], in.n[2], in.n[3]));
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::split_modalities, B, T>(
        cx, {m.batch, N, s->in.positions(), s->out.channels(), m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::split_modalities_grad, B, T>(
        cx, {m.batch, N, s->in.positions(), s->out.channels(), m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};

}  // namespace detail

/// Weights of a sum over modalities, one row for each place where they are fused: y = softmax over each row of the
/// parameter fusion_weights (Rows, N), which starts at 0: a mean. x is not read. (x) -> (Rows, N)
template <int Rows, int N>
struct modality_weights : leaf<modality_weights<Rows, N>> {
  static constexpr char const* name = "modality_weights";
  static constexpr traits trait{.keeps_x = false, .keeps_y = true};

  static constexpr inferred infer(dims) { return fits(make_dims(index_t(Rows), index_t(N))); }
  static constexpr parameter_list parameters(dims) {
    return {parameter{"fusion_weights", make_dims(index_t(Rows), index_t(N)), layout::same, start::zeros}};
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    for (index_t n = 0; n < m.batch; ++n)
      run<op::softmax, B, T>(cx, {Rows, N, m.weight(s, 0), m.write(s->y) + n * Rows * N});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    if (s->gx != absent && !s->gx_adds)
      run<op::fill, B, T>(cx, {m.batch * s->in.size(), T(0), m.write(s->gx)});
    for (index_t n = 0; m.weight_gradient(s, 0) && n < m.batch; ++n)
      run<op::softmax_grad, B, T>(cx, {Rows, N, m.read(s->y) + n * Rows * N, m.read(s->gy) + n * Rows * N,
                                       true, m.weight_gradient(s, 0)});
  }
};

/// Join inside modalities<N, L>: y = sum over modalities m of w[Row, m] a_m, with b = w (Rows, N). What follows sees one
/// volume per subject again.
template <int Row>
struct fuse_modalities : join<fuse_modalities<Row>> {
  static constexpr char const* name = "fuse_modalities";
  static constexpr traits trait{};
  static constexpr bool fuses = true;

  static constexpr inferred infer(dims a, dims b) {
    if (b.rank != 2) return misfit(fault::rank, b.rank, 2);
    return Row < b.n[0] ? fits(a) : misfit(fault::join, Row + 1, b.n[0]);
  }
  static constexpr inferred follow(inferred f, dims b) {
    int const modalities = f.modalities;
    f = join<fuse_modalities>::follow(f, b);
    f.modalities = 1;
    if (f && modalities != b.n[1]) f = detail::pass(f, misfit(fault::modalities, modalities, b.n[1]), name);
    return f;
  }
  template <int N>
  static constexpr int lay(plan<N>& p, int a, int b) {
    int const modalities = p.modalities;
    p.modalities = 1;  // of the sum
    int const y = p.template add<fuse_modalities>(a, b);
    p.modalities = modalities;
    return y;
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::fuse_modalities, B, T>(cx, {m.batch / m.modalities, m.modalities, s->in.size(), s->in2.size(),
                                        m.read(s->x), row(s, m.read(s->x2)), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    index_t const batch = m.batch / m.modalities;
    T* gw = m.write(s->gx2);
    if (gw && !s->gx2_adds) run<op::fill, B, T>(cx, {batch * s->in2.size(), T(0), gw});
    run<op::fuse_modalities_grad, B, T>(
        cx, {batch, m.modalities, s->in.size(), s->in2.size(), m.read(s->x), row(s, m.read(s->x2)),
             m.read(s->gy), s->gx_adds, m.write(s->gx), gw ? row(s, gw) : nullptr});
  }

 private:
  template <class T>
  static T* row(step const* s, T* w) {
    return w + Row * s->in2.n[1];
  }
};

/// y = L applied to every one of the N modalities with the same weights. The input (N C, D, H, W) is N volumes of C channels
/// side by side; inside L they are samples of their own, and fuse_modalities<> must join them before L ends or taps.
template <int N, layer L>
struct modalities {
  using split = detail::split_modalities<N>;
  static constexpr int leaves = 1 + L::leaves;

  static constexpr inferred follow(inferred f) {
    if (f && f.modalities != 1) f = detail::pass(f, misfit(fault::modalities, f.modalities, 1), "modalities");
    f = split::follow(f);
    f.modalities = N;
    f = L::follow(f);
    if (f && f.modalities != 1) f = detail::pass(f, misfit(fault::modalities, f.modalities, 1), "modalities");
    f.modalities = 1;
    return f;
  }
  template <int Steps>
  static constexpr int lay(plan<Steps>& p, int x) {
    p.modalities = N;
    x = L::lay(p, split::lay(p, x));
    p.modalities = 1;
    return x;
  }
  template <class D>
  static void describe(D& d) {
    split::describe(d), L::describe(d);
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    split::forward(cx, s, m), L::forward(cx, s + 1, inside(m));
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    L::backward(cx, s + 1, inside(m)), split::backward(cx, s, m);
  }

 private:
  template <class T>
  static arena<T> inside(arena<T> m) {
    m.batch *= N, m.modalities = N;
    return m;
  }
};

}  // namespace insula
