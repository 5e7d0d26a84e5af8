// SPDX-License-Identifier: Apache-2.0
// Lesson 7: from a folder of scans to batches: manifest, split of subjects, preprocessing, augmentation, loader.
//
// Expected output:
//   7 scans of 3 subjects, 6 for training
//   batch 0: sub_1/ses_2/t1  sub_2/ses_1/t1
//   batch 1: sub_2/ses_2/t1  sub_1/ses_1/t2
//   batch 2: sub_1/ses_1/t1  sub_1/ses_1/pd
//   batch 3: sub_1/ses_1/t2  sub_1/ses_1/t1
//   a run resumed at batch 3 sees the same
#include <cstdio>

#include "insula/data/cache.hpp"
#include "insula/data/epoch_order.hpp"
#include "insula/data/loader.hpp"
#include "insula/data/manifest.hpp"
#include "insula/data/recipe_umbra.hpp"
#include "insula/data/split_file.hpp"

using namespace insula;

struct training_batch {
  std::vector<std::string> who;
  std::vector<float> view, target;  // (samples, crop), what goes in and what should come out
};

int main() {
  manifest const all = read_manifest(INSULA_EXAMPLE_DATA "/brains");
  subject_split const parts =
      random_split(subjects_of(all), 1.0 / 3, 0, {.seed = 1});  // by subject, never by scan
  manifest const train = scans_of(all, parts, split_part::train);
  std::printf("%d scans of %d subjects, %d for training\n", int(all.scans.size()),
              int(subjects_of(all).size()), int(train.scans.size()));

  pipeline const prepare{{preprocess::reorient{}, preprocess::resample{4, 4, 4}, preprocess::crop_brain{},
                          preprocess::clip{}, preprocess::z_score{}}};
  memory_cache const volumes(train, prepare);  // volume_cache keeps them on disk, mapped and shared

  umbra_recipe const recipe{.crop = 32};
  auto const make = [&](index_t i, training_batch& b) {  // batch i: a function of i alone
    b = {};
    epoch_order order(volumes.size(), {1, 0xda7a});
    for (index_t n = 2 * i; n < 2 * i + 2; ++n) {
      index_t const k = order.at(n).item;
      auto const sample = umbra_mae(volumes.read(k), recipe, {1, std::uint64_t(n)});
      scan const& s = volumes.contents().scans[std::size_t(k)];
      b.who.push_back("sub_" + s.subject + "/ses_" + s.session + "/" + s.sequence);
      b.view.insert(b.view.end(), sample.view.voxels.begin(), sample.view.voxels.end());
      b.target.insert(b.target.end(), sample.recon.voxels.begin(), sample.recon.voxels.end());
    }
  };
  loader<training_batch> batches(make, {.threads = 2, .depth = 3});
  loader<training_batch> resumed(make, {.threads = 0, .first = 3});
  for (int i = 0; i < 4; ++i) {
    training_batch const& b = batches.next();
    std::printf("batch %d: %s  %s\n", i, b.who[0].c_str(), b.who[1].c_str());
    if (i == 3)
      std::printf("a run resumed at batch 3 %s\n",
                  resumed.next().view == b.view ? "sees the same" : "DIFFERS");
  }
}
