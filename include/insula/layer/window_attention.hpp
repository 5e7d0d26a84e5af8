// SPDX-License-Identifier: Apache-2.0
// The shifted-window attention half-block of a 3D Swin transformer.
#pragma once

#include "insula/net/layer.hpp"
#include "insula/op/window.hpp"

namespace insula {

/// Whether q, k, v and the heads' outputs stay in memory for the backward pass: 4 x channels elements per token, for a tenth to a
/// sixth of the time of both passes.
enum class projections { computed_again, kept };

/// y = x + attention(norm(x)) within windows; see op::window_attention for the exact rule. For the backward pass x and one number
/// per row of scores are kept, and what Projections says. Parameters, in MONAI's names: norm1.{weight,bias},
/// attn.relative_position_bias_table, attn.qkv.{weight,bias}, attn.proj.{weight,bias}.
template <int Heads, extent Window = cube(7), extent Shift = cube(0),
          projections Projections = projections::computed_again>
struct window_attention : leaf<window_attention<Heads, Window, Shift, Projections>> {
  static constexpr char const* name = "window_attention";
  static constexpr traits trait{.in_place = true, .gx_is_gy = true};
  static constexpr double eps = 1e-5;

  static constexpr op::window_geometry geometry(dims in, index_t batch) {
    return {batch, spatial(in), Window, Shift, in.n[0], Heads};
  }
  static constexpr inferred infer(dims in) {
    if (in.rank != 4) return misfit(fault::rank, in.rank, 4);
    if (in.n[0] % Heads != 0) return misfit(fault::heads, in.n[0], Heads);
    for (int i = 0; i < 3; ++i)
      if (Shift[i] >= Window[i]) return misfit(fault::window, Shift[i], Window[i]);
    return fits(in);
  }
  static constexpr parameter_list parameters(dims in) {
    index_t const c = in.n[0];
    return {
        parameter{"norm1.weight", make_dims(c), layout::same, start::ones},
        parameter{"norm1.bias", make_dims(c), layout::same, start::zeros},
        parameter{"attn.relative_position_bias_table",
                  make_dims(geometry(in, 1).table_rows(), index_t(Heads)), layout::same, start::small_normal},
        parameter{"attn.qkv.weight", make_dims(3 * c, c), layout::linear, start::fan_uniform, c},
        parameter{"attn.qkv.bias", make_dims(3 * c), layout::same, start::fan_uniform, c},
        parameter{"attn.proj.weight", make_dims(c, c), layout::linear, start::fan_uniform, c},
        parameter{"attn.proj.bias", make_dims(c), layout::same, start::fan_uniform, c}};
  }
  static constexpr index_t kept(dims in) {
    return Projections == projections::kept ? geometry(in, 1).kept() : 0;
  }
  static constexpr index_t saved(dims in) { return kept(in) + geometry(in, 1).saved(); }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    T* const saved = m.write(s->saved);
    index_t const n = m.batch * kept(s->in);
    run<op::window_attention, B, T>(
        cx, {geometry(s->in, m.batch), eps, m.read(s->x), m.weight(s, 0), m.weight(s, 1), m.weight(s, 2),
             m.weight(s, 3), m.weight(s, 4), m.weight(s, 5), m.weight(s, 6), m.write(s->y),
             saved ? saved + n : nullptr, saved && n > 0 ? saved : nullptr});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    T const* const saved = m.read(s->saved);
    index_t const n = m.batch * kept(s->in);
    run<op::window_attention_grad, B, T>(cx, {geometry(s->in, m.batch),
                                              eps,
                                              m.read(s->x),
                                              m.weight(s, 0),
                                              m.weight(s, 1),
                                              m.weight(s, 2),
                                              m.weight(s, 3),
                                              m.weight(s, 4),
                                              m.weight(s, 5),
                                              m.weight(s, 6),
                                              saved + n,
                                              m.read(s->gy),
                                              s->gx_adds,
                                              m.write(s->gx),
                                              m.weight_gradient(s, 0),
                                              m.weight_gradient(s, 1),
                                              m.weight_gradient(s, 2),
                                              m.weight_gradient(s, 3),
                                              m.weight_gradient(s, 4),
                                              m.weight_gradient(s, 5),
                                              m.weight_gradient(s, 6),
                                              n > 0 ? saved : nullptr});
  }
};

}  // namespace insula
