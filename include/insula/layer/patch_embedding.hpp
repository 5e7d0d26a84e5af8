// SPDX-License-Identifier: Apache-2.0
// The first layer of a vision transformer: patches of a volume or image to tokens, all or only the kept ones.
#pragma once

#include "insula/base/check.hpp"
#include "insula/net/layer.hpp"
#include "insula/op/gemm.hpp"
#include "insula/op/patch.hpp"

namespace insula {

/// patch: voxels of a patch. keep: how many tokens of a masked pass this type has room for; 0: all tokens, unmasked.
/// planar: the input has one plane, and the weight on disk is a 2D convolution's (Out, C, height, width).
struct patch_opts {
  extent patch;
  index_t keep = 0;
  bool planar = false;
};

/// (C, D, H, W) -> (tokens, Out): a convolution with kernel = stride = patch, tokens numbered z, y, x. With `keep`, only the
/// first order.kept (0: keep) tokens of pass_options::order.shuffle are computed, in that order, which is random: a masked
/// patch costs nothing. Parameters: weight (Out, C, pd, ph, pw) or (Out, C, ph, pw), bias (Out), both fan_uniform.
/// Gathers the patches into rows and multiplies; no convolution is run.
template <int Out, patch_opts O>
struct patch_embedding : leaf<patch_embedding<Out, O>> {
  static constexpr char const* name = "patch_embedding";
  static constexpr traits trait{
      .keeps_x = false, .saves_always = true, .tokens = O.keep > 0 ? token_count::kept : token_count::whole};

  static constexpr op::patch_geometry geometry(dims in, index_t batch) {
    return {batch, spatial(in), O.patch, in.n[0]};
  }
  static constexpr inferred infer(dims in) {
    if (in.rank != 4) return misfit(fault::rank, in.rank, 4);
    if (O.planar && in.n[1] != 1) return misfit(fault::divisible, in.n[1], 1);
    for (int i = 0; i < 3; ++i)
      if (in.n[i + 1] % O.patch[i] != 0) return misfit(fault::divisible, in.n[i + 1], O.patch[i]);
    index_t const all = geometry(in, 1).patches();
    if (O.keep > all) return misfit(fault::tokens, all, O.keep);
    return fits(make_dims(O.keep > 0 ? O.keep : all, index_t(Out)));
  }
  static constexpr parameter_list parameters(dims in) {
    index_t const fan = in.n[0] * O.patch.size();
    dims const shape = O.planar ? make_dims(index_t(Out), in.n[0], O.patch.h, O.patch.w)
                                : make_dims(index_t(Out), in.n[0], O.patch.d, O.patch.h, O.patch.w);
    return {parameter{"weight", shape, layout::conv, start::fan_uniform, fan},
            parameter{"bias", make_dims(index_t(Out)), layout::same, start::fan_uniform, fan}};
  }
  static constexpr index_t saved(dims in) { return infer(in).out.n[0] * geometry(in, 1).row(); }  // the rows

  template <class B, class T>
  static void forward(context<B>& cx, step const* s, arena<T> const& m) {
    auto const g = geometry(s->in, m.batch);
    if constexpr (O.keep > 0)
      check(m.with.order.shuffle || O.keep == g.patches(), "patch_embedding: the network keeps ", O.keep,
            " of ", g.patches(), " tokens, but the pass does not say which; set pass_options::order");
    T* const rows = m.write(s->saved);
    run<op::patchify, B, T>(cx, {g, s->out.n[0], ids(m), m.read(s->x), false, rows});
    run<op::linear, B, T>(
        cx, {m.batch * s->out.n[0], g.row(), Out, rows, m.weight(s, 0), m.weight(s, 1), m.write(s->y)});
  }
  template <class B, class T>
  static void backward(context<B>& cx, step const* s, arena<T> const& m) {
    if (!s->active) return;
    auto const g = geometry(s->in, m.batch);
    index_t const count = m.batch * s->out.n[0];
    T* const rows = m.write(s->saved);
    run<op::linear_grad, B, T>(cx, {count, g.row(), Out, rows, m.weight(s, 0), m.read(s->gy), false, nullptr,
                                    m.weight_gradient(s, 0), m.weight_gradient(s, 1)});
    T* const gx = m.write(s->gx);
    if (!gx) return;
    run<op::linear_grad, B, T>(cx, {count, g.row(), Out, nullptr, m.weight(s, 0), m.read(s->gy), false, rows,
                                    nullptr, nullptr});  // the rows are not needed any more
    run<op::unpatchify, B, T>(cx, {g, s->out.n[0], ids(m), rows, s->gx_adds, gx});
  }

 private:
  template <class T>
  static std::int32_t const* ids(arena<T> const& m) {
    return O.keep > 0 ? m.with.order.shuffle : nullptr;
  }
};

}  // namespace insula
