// SPDX-License-Identifier: Apache-2.0
// Mean squared error of the patches that a masked autoencoder did not see, on the tape.
#pragma once

#include "insula/autograd/tape.hpp"
#include "insula/base/check.hpp"
#include "insula/op/patch.hpp"

namespace insula {

/// What predicted patches are compared with: the voxels as they are, or each patch shifted and scaled to mean 0 and
/// (unbiased) variance 1, the option norm_pix_loss of facebookresearch/mae.
enum class patch_target { raw, normalised };

/// Mean over masked patches of the mean over their voxels of (y - target)^2, targets from `volume` by op::masked_patch_mse.
/// mask: (batch, patches), 1 = masked; all samples together must have one masked patch. Adds weight * dL/dy to y.grad.
/// Returns L (He et al. 2022, arXiv 2111.06377, equation of section 3; facebookresearch/mae models_mae.py forward_loss).
template <extent Patch, scalar T, static_shape S, static_shape Volume, backend B>
double masked_patches(var<T, S, B> y, var<T, Volume, B> volume, std::uint8_t const* mask,
                      patch_target how = patch_target::raw, double weight = 1) {
  constexpr op::patch_geometry one{1, spatial(Volume::value), Patch, Volume::value.n[0]};
  static_assert(S::value == make_dims(one.patches(), one.row()),
                "masked_patches: the prediction must have one row of voxels for each patch of the volume");
  op::patch_geometry g = one;
  g.batch = y.batch;
  bool const normalised = how == patch_target::normalised;
  double sum = 0;
  index_t count = 0;
  run<op::masked_patch_mse, B, T>(y.on->cx, {g, normalised, mask, y.value, volume.value, &sum, &count});
  check(count > 0, "masked_patches: none of the ", y.batch * one.patches(),
        " patches is masked: raise the mask ratio");
  T const scale = T(2 * weight / (double(one.row()) * double(count)));
  if (y.grad)
    y.on->on_backward([=](context<B>& cx) {
      run<op::masked_patch_mse_grad, B, T>(cx,
                                           {g, normalised, mask, y.value, volume.value, scale, true, y.grad});
    });
  return sum / double(count);
}

}  // namespace insula
