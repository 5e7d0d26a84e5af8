// SPDX-License-Identifier: Apache-2.0
// Lesson 4: one scan from file to network input: read, reorient, resample, crop, clip, z-score.
//
// Expected output:
//   file        128x128x62   2.00 x 2.00 x 3.00 mm  LSA  128470 brain voxels:  79.866 +-  21.338
//   reoriented  128x62x128   2.00 x 3.00 x 2.00 mm  RAS  128470 brain voxels:  79.866 +-  21.338
//   resampled   171x124x171  1.50 x 1.50 x 1.50 mm  RAS  488130 brain voxels:  74.735 +-  25.570
//   normalised  88x120x94    1.50 x 1.50 x 1.50 mm  RAS  488130 brain voxels:   0.000 +-   1.000
//   the pipeline of 5 steps gives the same voxels
#include <cmath>
#include <cstdio>

#include "insula/data/nifti.hpp"
#include "insula/data/pipeline.hpp"

using namespace insula;

void print(char const* what, volume const& v) {
  auto const mm = spacing(v.to_world);
  double sum = 0, squares = 0;
  index_t brain = 0;
  for (float x : v.voxels)
    if (x != 0) sum += double(x), squares += double(x) * double(x), ++brain;
  double const mean = sum / double(brain);
  std::printf("%-11s %-12s %.2f x %.2f x %.2f mm  %s  %d brain voxels: %7.3f +- %7.3f\n", what,
              text(v.size).c_str(), mm[0], mm[1], mm[2], orientation_letters(v.to_world).c_str(), int(brain),
              std::abs(mean), std::sqrt(squares / double(brain) - mean * mean));
}

int main() {
  auto const file = read_nifti(INSULA_EXAMPLE_DATA "/brains/sub_3/ses_1/t1.nii.gz");
  volume v = file.image;
  print("file", v);

  v = reorient(v, "RAS");  // axes permuted and reversed, no number changes
  print("reoriented", v);
  v = resample_to_spacing(v, {1.5, 1.5, 1.5});
  print("resampled", v);
  v = crop_to_brain(v);
  clip_percentiles(v, 0.5, 99.5), z_score(v);  // of the voxels that are not 0
  print("normalised", v);

  // The same as a list of steps, which a checkpoint keeps beside the weights.
  pipeline const p{{preprocess::reorient{}, preprocess::resample{1.5, 1.5, 1.5}, preprocess::crop_brain{},
                    preprocess::clip{}, preprocess::z_score{}}};
  volume const again = apply(p, file.image);
  std::printf("the pipeline of %d steps gives %s voxels\n", int(p.steps.size()),
              again.voxels == v.voxels ? "the same" : "OTHER");
}
