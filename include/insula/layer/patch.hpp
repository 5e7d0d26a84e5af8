// SPDX-License-Identifier: Apache-2.0
// Patches: gathering 2 x 2 x 2 neighbours into channels (patch merging) and spreading channels into voxels.
#pragma once

#include "insula/net/layer.hpp"
#include "insula/op/gather.hpp"

namespace insula {

/// (C, D, H, W) -> (8 C, ceil D/2, ceil H/2, ceil W/2): the eight strided sub-grids side by side on the channel axis,
/// zeros beyond an odd end. Patch merging is seq<gather_patches<>, layer_norm, linear<2 C, bias::no>>.
template <op::merge_order Order = op::merging>
struct gather_patches : leaf<gather_patches<Order>> {
  static constexpr char const* name = "gather_patches";
  static constexpr traits trait{.keeps_x = false};

  static constexpr inferred infer(dims in) {
    if (in.rank != 4) return misfit(fault::rank, in.rank, 4);
    return fits(make_dims(8 * in.n[0], (in.n[1] + 1) / 2, (in.n[2] + 1) / 2, (in.n[3] + 1) / 2));
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::merge_patches, B, T>(cx,
                                 {m.batch, spatial(s->in), s->in.n[0], Order, m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::merge_patches_grad, B, T>(
        cx, {m.batch, spatial(s->in), s->in.n[0], Order, m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};

/// (C * block, D, H, W) -> (C, D*bd, H*bh, W*bw): y[c, p*block + (i,j,k)] = x[((c*bd + i)*bh + j)*bw + k, p].
template <extent Block = cube(2)>
struct voxel_shuffle : leaf<voxel_shuffle<Block>> {
  static constexpr char const* name = "voxel_shuffle";
  static constexpr traits trait{.keeps_x = false};

  static constexpr inferred infer(dims in) {
    if (in.rank != 4) return misfit(fault::rank, in.rank, 4);
    if (in.n[0] % Block.size() != 0) return misfit(fault::divisible, in.n[0], Block.size());
    return fits(make_dims(in.n[0] / Block.size(), in.n[1] * Block.d, in.n[2] * Block.h, in.n[3] * Block.w));
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::depth_to_space, B, T>(cx,
                                  {m.batch, spatial(s->in), s->out.n[0], Block, m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::depth_to_space_grad, B, T>(
        cx, {m.batch, spatial(s->in), s->out.n[0], Block, m.read(s->gy), s->gx_adds, m.write(s->gx)});
  }
};

/// Zeros at the end of every axis until Block divides it; the identity where it does already.
template <extent Block>
struct pad_to_multiple : leaf<pad_to_multiple<Block>> {
  static constexpr char const* name = "pad_to_multiple";
  static constexpr traits trait{.keeps_x = false};

  static constexpr inferred infer(dims in) {
    if (in.rank != 4) return misfit(fault::rank, in.rank, 4);
    for (int i = 0; i < 3; ++i) in.n[i + 1] = (in.n[i + 1] + Block[i] - 1) / Block[i] * Block[i];
    return fits(in);
  }
  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    run<op::pad_end, B, T>(
        cx, {m.batch, spatial(s->in), spatial(s->out), s->in.n[0], m.read(s->x), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active || s->gx == absent) return;
    run<op::pad_end_grad, B, T>(cx, {m.batch, spatial(s->in), spatial(s->out), s->in.n[0], m.read(s->gy),
                                     s->gx_adds, m.write(s->gx)});
  }
};

}  // namespace insula
