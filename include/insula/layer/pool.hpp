// SPDX-License-Identifier: Apache-2.0
// Max-pooling, global average pooling and L2 normalisation of vectors.
#pragma once

#include "insula/net/layer.hpp"
#include "insula/op/pool.hpp"
#include "insula/op/reduce.hpp"

namespace insula {

/// The window of a pooling; what the padding adds does not count.
struct pool_opts {
  extent kernel{3, 3, 3}, stride{2, 2, 2}, pad{1, 1, 1};
};

/// y = max over windows. (C, D, H, W) -> (C, D', H', W'), D' = (D + 2 pad - kernel) / stride + 1. The gradient goes to the first
/// maximum in the order depth, height, width.
template <pool_opts O = pool_opts{}>
struct max_pool3d : leaf<max_pool3d<O>> {
  static_assert(2 * O.pad.d <= O.kernel.d && 2 * O.pad.h <= O.kernel.h && 2 * O.pad.w <= O.kernel.w,
                "the padding of a pooling is at most half its kernel");
  static_assert(O.kernel.size() <= 255, "a pooling window has at most 255 voxels");
  static constexpr char const* name = "max_pool3d";
  static constexpr traits trait{.keeps_x = false};

  static constexpr op::pool3d_geometry geometry(dims in, index_t batch) {
    return {batch, spatial(in), in.n[0], O.kernel, O.stride, O.pad};
  }
  static constexpr inferred infer(dims in) {
    if (in.rank != 4) return misfit(fault::rank, in.rank, 4);
    for (int i = 0; i < 3; ++i)
      if (in.n[i + 1] + 2 * O.pad[i] < O.kernel[i])
        return misfit(fault::kernel, in.n[i + 1] + 2 * O.pad[i], O.kernel[i]);
    return fits(volume_dims(in.n[0], geometry(in, 1).out()));
  }
  static constexpr index_t saved(dims in) { return (infer(in).out.size() + 3) / 4; }  // one byte per output
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::max_pool3d, B, T>(cx, {geometry(s->in, m.batch), m.read(s->x), m.write(s->y),
                                   reinterpret_cast<std::uint8_t*>(m.write(s->saved))});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::max_pool3d_grad, B, T>(
        cx, {geometry(s->in, m.batch), reinterpret_cast<std::uint8_t const*>(m.read(s->saved)), m.read(s->gy),
             s->gx_adds, m.write(s->gx)});
  }
};

/// (C, D, H, W) or (tokens, C) -> (C): mean over positions.
struct global_average : leaf<global_average> {
  static constexpr char const* name = "global_average";
  static constexpr traits trait{.keeps_x = false};

  static constexpr inferred infer(dims in) {
    return in.rank >= 2 ? fits(make_dims(in.channels())) : misfit(fault::rank, in.rank, 4);
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::average_pool, B, T>(cx,
                                {m.batch, s->in.positions(), s->in.channels(), m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::average_pool_grad, B, T>(
        cx, {m.batch, s->in.positions(), s->in.channels(), m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};

/// y = x / max(||x||_2, 1e-12) over the channels of each position.
struct l2_normalise : leaf<l2_normalise> {
  static constexpr char const* name = "l2_normalise";
  static constexpr traits trait{};

  static constexpr inferred infer(dims in) { return fits(in); }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::l2_normalise, B, T>(cx,
                                {m.batch * s->in.positions(), s->in.channels(), m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::l2_normalise_grad, B, T>(cx, {m.batch * s->in.positions(), s->in.channels(), m.read(s->x),
                                          m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};

}  // namespace insula
