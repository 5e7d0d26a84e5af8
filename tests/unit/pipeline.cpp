// SPDX-License-Identifier: Apache-2.0
// Preprocessing as a value: applied, stored as JSON, compared.
#include "insula/data/pipeline_json.hpp"

#include <limits>

#include "insula/data/nifti.hpp"
#include "insula/testing/compare.hpp"
#include "support/brains.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;
namespace pre = insula::preprocess;

namespace {

pipeline standard() {
  return {{pre::reorient{}, pre::resample{}, pre::crop_brain{.margin = 2}, pre::clip{}, pre::z_score{}}};
}
pipeline everything() {
  return {{pre::finite{.value = 0.1}, pre::reorient{.letters = "LPI"},
           pre::resample{.d = 1.5, .h = 0.3, .w = 1.0 / 3}, pre::crop_brain{},
           pre::pad{.d = 10, .h = 11, .w = 12}, pre::centre_crop{.d = 6, .h = 7, .w = 8},
           pre::clip{.low = 1, .high = 99, .over = voxels_over::all}, pre::min_max{.low = -1},
           pre::z_score{.over = voxels_over::all}}};
}

affine const oblique{-1.35, -0.6, 0.5, 90, 0.375, 1.6, 1.25, 12.5, -0.45, -0.9, 2.125, 33, 0, 0, 0, 1};

volume blob() {
  volume v = make_volume({9, 10, 11}, 0, oblique);
  auto const r = testing::random_vector<float>(v.count(), 6);
  for (index_t d = 2; d < 7; ++d)
    for (index_t h = 3; h < 9; ++h)
      for (index_t w = 1; w < 10; ++w) v.at(d, h, w) = 50 + 10 * r[std::size_t((d * 10 + h) * 11 + w)];
  return v;
}

}  // namespace

TEST_CASE("a pipeline does its steps in order") {
  volume v = blob();
  volume const out = apply(standard(), v);
  v = reorient(v, "RAS");
  v = resample_to_spacing(v, {1, 1, 1});
  v = crop_to_brain(v, 2);
  clip_percentiles(v);
  z_score(v);
  CHECK(out.size == v.size);
  CHECK(out.to_world == v.to_world);
  CHECK(out.voxels == v.voxels);
  CHECK(orientation_letters(out.to_world) == "RAS");
  CHECK(apply(pipeline{}, blob()).voxels == blob().voxels);
}

TEST_CASE("labels go through the spatial steps with the image and keep their values") {
  volume labels = blob();
  for (float& x : labels.voxels) x = x > 55 ? 7.f : x > 0 ? 3.f : 0.f;
  labels.at(0, 0, 0) = 7;  // outside the image's brain: cut off with it
  auto const out = apply(everything(), blob(), labels);
  CHECK(out.labels.size == out.image.size);
  CHECK(out.labels.to_world == out.image.to_world);
  CHECK(out.image.size == extent{6, 7, 8});
  CHECK(std::all_of(out.labels.voxels.begin(), out.labels.voxels.end(),
                    [](float x) { return x == 0 || x == 3 || x == 7; }));
  auto const turned = apply(pipeline{{pre::reorient{"SAR"}}}, blob(), labels);
  CHECK(turned.labels.voxels == reorient(labels, "SAR").voxels);
  volume moved = labels;
  moved.to_world[3] += 5;
  CHECK_THAT(message_of([&] { apply(standard(), blob(), moved); }),
             Contains("5 mm apart") && Contains("resample_onto"));
  volume const small = make_volume({2, 2, 2});
  CHECK_THAT(message_of([&] { apply(standard(), blob(), small); }), Contains("9x10x11") && Contains("2x2x2"));
}

TEST_CASE("a failing step says which it is") {
  volume const empty = make_volume({4, 4, 4});
  CHECK_THAT(message_of([&] { apply(standard(), empty); }),
             Contains("preprocessing step 3") && Contains("zero"));
}

TEST_CASE("JSON keeps every step and every bit of every number") {
  for (auto const& p : {pipeline{}, standard(), everything()}) {
    CHECK(pipeline_from_json(to_json(p)) == p);
    CHECK(first_difference(pipeline_from_json(to_json(p)), p) == "");
  }
  CHECK(to_json({{pre::reorient{}, pre::clip{}}}) ==
        R"([{"step":"reorient","letters":"RAS"},{"step":"clip","low":0.5,"high":99.5,"over":"nonzero"}])");
  CHECK(pipeline_from_json(R"([{"step":"resample","w":2},{"step":"z_score"}])") ==
        pipeline{{pre::resample{1, 1, 2}, pre::z_score{}}});
}

TEST_CASE("JSON with a wrong name, kind or shape is refused with the nearest name") {
  auto const of = [](char const* s) { return message_of([&] { pipeline_from_json(s); }); };
  CHECK_THAT(of(R"([{"step":"zscore"}])"),
             Contains("step 1") && Contains("'zscore'") && Contains("'z_score'"));
  CHECK_THAT(of(R"([{"step":"clip"},{"step":"crop_brain","margim":1}])"),
             Contains("step 2") && Contains("'margim'") && Contains("'margin'"));
  CHECK_THAT(of(R"([{"step":"clip","low":"1"}])"), Contains("low") && Contains("a number is needed"));
  CHECK_THAT(of(R"([{"step":"pad","d":1.5}])"), Contains("a whole number is needed"));
  CHECK_THAT(of(R"([{"step":"pad","d":18446744073709551615}])"), Contains("a whole number is needed"));
  CHECK_THAT(of(R"([{"step":"clip","over":"brain"}])"), Contains("nonzero"));
  CHECK_THAT(of(R"([{"step":"reorient","letters":3}])"), Contains("a string is needed"));
  CHECK_THAT(of(R"({"step":"clip"})"), Contains("no list"));
  CHECK_THAT(of(R"(["clip"])"), Contains("no object"));
  CHECK_THAT(of(R"([{"step":)"), Contains("no valid JSON"));
  CHECK_THAT(of(""), Contains("no valid JSON"));
}

TEST_CASE("a pipeline that differs from the checkpoint's is refused at the first differing step") {
  pipeline run = standard();
  require_same(standard(), run);
  run.steps[3] = pre::clip{.low = 1, .high = 99.5};
  CHECK_THAT(message_of([&] { require_same(standard(), run); }),
             Contains("step 4 is clip(low 0.5, high 99.5, over nonzero) in the checkpoint and clip(low 1, "
                      "high 99.5, over nonzero)"));
  run = standard();
  run.steps.pop_back();
  CHECK_THAT(message_of([&] { require_same(standard(), run); }),
             Contains("step 5") && Contains("z_score") && Contains("missing"));
  CHECK_THAT(message_of([&] { require_same(run, standard()); }),
             Contains("step 5") && Contains("is not in the checkpoint"));
  std::swap(run.steps[0], run.steps[1]);
  CHECK_THAT(first_difference(standard(), run),
             Contains("step 1 is reorient(letters RAS) in the checkpoint and resample(d 1"));
}

TEST_CASE("a real scan comes out in RAS, at 1 mm, cropped to the brain, with mean 0 and deviation 1 inside") {
  auto const scan = read_nifti(support::brain("sub_3/ses_1/t1.nii.gz"));
  volume const v =
      apply({{pre::reorient{}, pre::resample{}, pre::crop_brain{}, pre::clip{}, pre::z_score{}}}, scan.image);
  CHECK(orientation_letters(v.to_world) == "RAS");
  CHECK(spacing(v.to_world) == point{1, 1, 1});
  CHECK(v.size ==
        extent{132, 179,
               142});  // where the linear weights of the scan's brain box [34,98] [2,60] [25,94] reach
  CHECK(brain_box(v).size == v.size);
  double n = 0, s = 0, q = 0;
  for (float const x : v.voxels) n += x != 0, s += double(x), q += double(x) * double(x);
  CHECK(std::abs(s / n) < 1e-5);
  CHECK(std::abs(q / n - 1) < 1e-5);
}
