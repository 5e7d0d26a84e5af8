// SPDX-License-Identifier: Apache-2.0
// Lesson 5: a narrow UMBRA autoencoder guesses masked blocks of one brain from what it may see.
//
// Expected output (the last digits may differ between processors):
//   1203114 parameters in 162 tensors, 33 MB for a training pass
//   step  0  131072 voxels masked, mean squared error 0.852
//   step  1  163840 voxels masked, mean squared error 0.794
//   ...
//   step 11  131072 voxels masked, mean squared error 0.652
#include <algorithm>
#include <cstdio>

#include "insula/cpu.hpp"
#include "insula/data/nifti.hpp"
#include "insula/data/pipeline.hpp"
#include "insula/insula.hpp"

using namespace insula;

struct narrow : umbra::paper {  // overwrite what differs from the published network
  static constexpr int features = 12, window = 4, norm_groups = 4, decoder_width = 16;
  static constexpr int depths[4] = {2, 2, 2, 2}, heads[4] = {1, 2, 4, 8};
};
using net = umbra::autoencoder<narrow>;
using crop64 = shape<1, 64, 64, 64>;

int main() {
  pipeline const prepare{{preprocess::reorient{}, preprocess::resample{2, 2, 2}, preprocess::crop_brain{},
                          preprocess::clip{}, preprocess::z_score{}, preprocess::centre_crop{64, 64, 64},
                          preprocess::pad{64, 64, 64}}};
  volume const brain = apply(prepare, read_nifti(INSULA_EXAMPLE_DATA "/brains/sub_1/ses_2/t1.nii.gz").image);

  model<net, crop64> m;
  m.initialise(1);
  std::printf("%d parameters in %d tensors, %.0f MB for a training pass\n",
              int(program<net, crop64>::parameters), int(m.places().size()),
              double(program<net, crop64>::bytes(1, sizeof(float))) / 1e6);

  context<cpu> cx(2);
  tape<cpu> t(cx);
  adamw<float> optimiser(m.size, {{.size = m.size}});
  mask_batch mask({.input = cube(64)}, 1);
  for (std::uint64_t i = 0; i < 12; ++i) {
    mask.draw({.low = 0.5, .high = 0.75}, {1, i});  // a function of (seed, step)
    auto const y =
        apply<net>(m.params(), constant<crop64>(t, brain.voxels.data(), 1), {.mask = mask.tokens()});
    double const loss = masked_reconstruction(y.out, brain.voxels.data(), mask.voxels());
    t.backward();
    optimiser.step(cx, m.g(), m.w(), 2e-3, clip_factor(l2_norm(cx, m.g(), m.size), 10));
    std::fill_n(m.g(), m.size, 0.0f);
    t.clear();
    std::printf("step %2d  %6d voxels masked, mean squared error %.3f\n", int(i), int(mask.masked_voxels()),
                loss);
  }
}
