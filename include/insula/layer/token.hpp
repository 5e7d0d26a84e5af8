// SPDX-License-Identifier: Apache-2.0
// Tokens of masked image modelling and of vision transformers: mask token, class token, positions, parts of a sequence.
#pragma once

#include "insula/layer/position.hpp"
#include "insula/net/layer.hpp"
#include "insula/op/pointwise.hpp"
#include "insula/op/token.hpp"

namespace insula {

/// y[p] = mask[p] ? token : x[p], with the mask of the pass (pass_options::mask, one byte per position and sample); the
/// identity when the pass has none. Parameter: mask_token (1, 1, C), start small_normal.
struct mask_token : leaf<mask_token> {
  static constexpr char const* name = "mask_token";
  static constexpr traits trait{.keeps_x = false, .in_place = true, .gx_is_gy = true};

  static constexpr inferred infer(dims in) {
    return in.rank >= 2 ? fits(in) : misfit(fault::rank, in.rank, 4);
  }
  static constexpr parameter_list parameters(dims in) {
    return {parameter{"mask_token", make_dims(1, 1, in.channels()), layout::same, start::small_normal}};
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::mask_token, B, T>(cx, {m.batch, s->in.positions(), s->in.channels(), m.read(s->x), m.with.mask,
                                   m.weight(s, 0), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    run<op::mask_token_grad, B, T>(cx, {m.batch, s->in.positions(), s->in.channels(), m.with.mask,
                                        m.read(s->gy), s->gx_adds, m.write(s->gx), m.weight_gradient(s, 0)});
  }
};

/// grid: patches per axis. axes: the rule by which the positions start. trained: else they are a fixed table, which is in the
/// state_dict all the same.
struct position_opts {
  extent grid;
  position_axes axes = position_axes::zyx;
  bool trained = false;
};

namespace detail {
template <position_opts O>
constexpr parameter position_parameter(char const* name, dims in) {
  return {name, make_dims(1, 1 + O.grid.size(), in.n[1]), layout::same, start::table,
          1,    position_table<O.grid, O.axes>,           !O.trained};
}
template <position_opts O>
constexpr inferred position_infer(dims in, index_t most, dims out) {
  if (in.rank != 2) return misfit(fault::rank, in.rank, 2);
  if (in.n[0] > most) return misfit(fault::tokens, in.n[0], most);
  if (!has_positions(O.axes, in.n[1]))
    return misfit(fault::divisible, in.n[1], O.axes == position_axes::plane ? 4 : 6);
  return fits(out);
}
}  // namespace detail

/// (tokens, C) -> (1 + tokens, C): the class token in front, and positions added to all. If the input holds kept tokens, each
/// gets the position it came from (pass_options::order). Parameters: cls_token (1, 1, C), small_normal; pos_embed
/// (1, 1 + grid, C).
template <position_opts O>
struct class_token_and_positions : leaf<class_token_and_positions<O>> {
  static constexpr char const* name = "class_token_and_positions";
  static constexpr traits trait{.keeps_x = false};

  static constexpr inferred infer(dims in) {
    return detail::position_infer<O>(in, O.grid.size(), make_dims(in.n[0] + 1, in.n[1]));
  }
  static constexpr parameter_list parameters(dims in) {
    return {parameter{"cls_token", make_dims(1, 1, in.n[1]), layout::same, start::small_normal},
            detail::position_parameter<O>("pos_embed", in)};
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::lead_tokens, B, T>(
        cx, {m.batch, s->in.n[0], O.grid.size(), s->in.n[1], order(s, m.with.order.shuffle), m.read(s->x),
             m.weight(s, 0), m.weight(s, 1), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    run<op::lead_tokens_grad, B, T>(
        cx,
        {m.batch, s->in.n[0], O.grid.size(), s->in.n[1], order(s, m.with.order.restore), m.read(s->gy),
         s->gx_adds, m.write(s->gx), m.weight_gradient(s, 0), O.trained ? m.weight_gradient(s, 1) : nullptr});
  }

 private:
  static std::int32_t const* order(step const* s, std::int32_t const* ids) {
    return s->in.n[0] < O.grid.size() ? ids : nullptr;
  }
};

/// (1 + kept, C) -> (1 + grid, C): the decoder's sequence. Kept tokens go back to their places (pass_options::order), the
/// mask token stands for the others, positions are added to all, the class token's first. Parameters: mask_token (1, 1, C),
/// small_normal; decoder_pos_embed (1, 1 + grid, C).
template <position_opts O>
struct restore_tokens : leaf<restore_tokens<O>> {
  static constexpr char const* name = "restore_tokens";
  static constexpr traits trait{.keeps_x = false, .tokens = token_count::whole};

  static constexpr inferred infer(dims in) {
    return detail::position_infer<O>(in, 1 + O.grid.size(), make_dims(1 + O.grid.size(), in.n[1]));
  }
  static constexpr parameter_list parameters(dims in) {
    return {parameter{"mask_token", make_dims(1, 1, in.n[1]), layout::same, start::small_normal},
            detail::position_parameter<O>("decoder_pos_embed", in)};
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::restore_tokens, B, T>(
        cx, {m.batch, s->in.n[0] - 1, O.grid.size(), s->in.n[1], m.with.order.restore, m.read(s->x),
             m.weight(s, 0), m.weight(s, 1), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    run<op::restore_tokens_grad, B, T>(
        cx,
        {m.batch, s->in.n[0] - 1, O.grid.size(), s->in.n[1], m.with.order.restore, m.read(s->gy), s->gx_adds,
         m.write(s->gx), m.weight_gradient(s, 0), O.trained ? m.weight_gradient(s, 1) : nullptr});
  }
};

/// (1 + tokens, C) -> (tokens, C): without the class token.
struct drop_class_token : leaf<drop_class_token> {
  static constexpr char const* name = "drop_class_token";
  static constexpr traits trait{.keeps_x = false};

  static constexpr inferred infer(dims in) {
    if (in.rank != 2) return misfit(fault::rank, in.rank, 2);
    return in.n[0] > 1 ? fits(make_dims(in.n[0] - 1, in.n[1])) : misfit(fault::kernel, in.n[0], 2);
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::slice_tokens, B, T>(
        cx, {m.batch, s->in.n[0], s->in.n[1], 1, s->out.n[0], m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::slice_tokens_grad, B, T>(
        cx, {m.batch, s->in.n[0], s->in.n[1], 1, s->out.n[0], m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};

/// (tokens, C) -> (C): the first token alone.
struct take_class_token : leaf<take_class_token> {
  static constexpr char const* name = "take_class_token";
  static constexpr traits trait{.keeps_x = false, .tokens = token_count::whole};

  static constexpr inferred infer(dims in) {
    return in.rank == 2 ? fits(make_dims(in.n[1])) : misfit(fault::rank, in.rank, 2);
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::slice_tokens, B, T>(cx, {m.batch, s->in.n[0], s->in.n[1], 0, 1, m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::slice_tokens_grad, B, T>(
        cx, {m.batch, s->in.n[0], s->in.n[1], 0, 1, m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};

}  // namespace insula
