// SPDX-License-Identifier: Apache-2.0
// Tables of masked images: columns, errors by line, the published grid, patients in order, leaks between parts.
#include "insula/data/masked_scans.hpp"

#include <limits>

#include "insula/data/nifti.hpp"
#include "insula/data/pipeline_json.hpp"
#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

/// A folder with three images of 6 x 7 x 8 and masks of their middle, and tables beside them.
struct data_set {
  support::folder dir;

  data_set() {
    for (int i = 0; i < 3; ++i) {
      write_nifti(dir / text("image", i, ".nii"), image(i), {.type = voxel_type::f32});
      write_nifti(dir / text("mask", i, ".nii"), mask(), {.type = voxel_type::u8});
    }
  }
  static volume image(int i) {
    volume x = make_volume({6, 7, 8});
    x.voxels = testing::random_vector<float>(x.count(), std::uint64_t(i));
    return x;
  }
  static volume mask() {
    volume m = make_volume({6, 7, 8});
    for (index_t d = 1; d < 5; ++d)
      for (index_t h = 2; h < 6; ++h)
        for (index_t w = 1; w < 7; ++w) m.at(d, h, w) = 1;
    return m;
  }
  std::string table(std::string const& rows, std::string const& name = "t.csv") const {
    write_file(dir / name, rows);
    return dir / name;
  }
};
std::string const head = "image_path,mask_path,label,patient_id\n";

/// Crops and transposes like the published layout, for the small grid.
pipeline small_preprocessing() {
  return {{preprocess::expect_grid{6, 7, 8},
           preprocess::crop_range{.d_from = 1, .h_from = 2, .h_to = 6, .w_from = 1, .w_to = -1},
           preprocess::reverse_axes{}}};
}

}  // namespace

TEST_CASE("a table of images, masks, labels and patients is read; other columns are ignored") {
  data_set const d;
  auto const list =
      read_scan_list(d.table("site,patient_id,label,mask_path,image_path\n"
                             "x,p2,0,mask0.nii,image0.nii\n"
                             "y,p1,71.5,mask1.nii,image1.nii\n"
                             "y,p2,1,mask2.nii," +
                             (d.dir / "image2.nii") + "\n"));
  REQUIRE(list.rows.size() == 3);
  CHECK(list.rows[0].image == d.dir / "image0.nii");
  CHECK(list.rows[2].image == d.dir / "image2.nii");
  CHECK(list.rows[1].mask == d.dir / "mask1.nii");
  CHECK(list.rows[1].label == 71.5);
  CHECK(list.rows[1].line == 3);
  CHECK(patients_of(list) == std::vector<std::string>{"p2", "p1", "p2"});
  CHECK(rows_by_patient(list) == std::vector<std::vector<index_t>>{{0, 2}, {1}});
  CHECK(describe(list) == "3 scans of 2 patients, labels 0 to 71.5, mean 24.1667");
  CHECK_THAT(message_of([&] { binary_labels(list); }), Contains("t.csv:3: the label is 71.5"));
  CHECK(binary_labels(rows_of(list, {2, 0})) == std::vector<std::int32_t>{1, 0});
}

TEST_CASE("columns may have other names, and paths another root; without patients each row is its own") {
  data_set const d;
  support::folder const elsewhere;
  write_file(elsewhere / "a.tsv", "scan\ty\nimage0.nii\t1\nimage1.nii\t0\n");
  auto const list =
      read_scan_list(elsewhere / "a.tsv", {.image = "scan", .label = "y", .root = d.dir.path()});
  CHECK(list.rows[1].image == d.dir / "image1.nii");
  CHECK((!list.has_masks && !list.has_patients && list.rows[0].mask.empty()));
  CHECK(patients_of(list) == std::vector<std::string>{"row 1", "row 2"});
  CHECK(describe(list) == "2 scans, no masks (voxels that are not 0), labels 0 (1) and 1 (1)");
  CHECK(binary_labels(list) == std::vector<std::int32_t>{1, 0});
}

TEST_CASE("what is missing in a table is an error that names file and line") {
  data_set const d;
  auto const message = [&](std::string const& rows, scan_list_options const& o = {}) {
    auto const path = d.table(rows);
    return message_of([&] { read_scan_list(path, o); });
  };
  CHECK_THAT(message("image,mask_path\na,b\n"), Contains("no column 'image_path'") && Contains("'image'"));
  CHECK_THAT(message("image_path\nimage0.nii\n", {.needs_label = true}), Contains("'label' for the labels"));
  CHECK_THAT(message("image_path\nimage0.nii\n", {.needs_mask = true}),
             Contains("'mask_path' for the masks"));
  CHECK_THAT(message(head + "image0.nii,,1,p\n"),
             Contains("t.csv:2") && Contains("'mask_path' has no value"));
  CHECK_THAT(message(head + "image0.nii,mask0.nii,1,p\n,mask0.nii,1,p\n"), Contains("t.csv:3"));
  CHECK_THAT(message(head + "image0.nii,mask0.nii,1,\n"), Contains("'patient_id' has no value"));
  CHECK_THAT(message(head + "image0.nii,mask0.nii,high,p\n"), Contains("t.csv:2") && Contains("high"));
  CHECK_THAT(message(head + "image0.nii,mask0.nii,,p\n", {.needs_label = true}),
             Contains("'label' has no value"));
  CHECK(message(head + "image0.nii,mask0.nii,,p\n").empty());
  CHECK_THAT(message(head), Contains("no rows"));
  CHECK_THAT(message(head + "image7.nii,mask0.nii,1,p\nimage0.nii,mask9.nii,1,p\n"),
             Contains("2 files") && Contains("image7.nii") && Contains("line 2") && Contains("mask9.nii") &&
                 Contains("relative paths start at"));
}

TEST_CASE("patients and images that are in two parts are refused") {
  data_set const d;
  auto const train = read_scan_list(d.table(head + "image0.nii,mask0.nii,1,p\n", "train.csv"));
  auto const test = read_scan_list(d.table(head + "image1.nii,mask0.nii,1,p\n", "test.csv"));
  auto const same = read_scan_list(d.table(head + "./image0.nii,mask0.nii,1,q\n", "same.csv"));
  auto const good = read_scan_list(d.table(head + "image2.nii,mask0.nii,1,q\n", "good.csv"));
  CHECK_THAT(message_of([&] {
               check_disjoint({&train, &test});
             }),
             Contains("test.csv:2: patient 'p'") && Contains("train.csv") && Contains("leak"));
  CHECK_THAT(message_of([&] {
               check_disjoint({&train, &same});
             }),
             Contains("the image") && Contains("image0.nii"));
  check_disjoint({&train, &good});
}

TEST_CASE("volumes are cropped and transposed, out(z, y, x) = in(x + 1, y + 2, z + 1), masks alike") {
  data_set const d;
  auto const list = read_scan_list(d.table(head + "image0.nii,mask0.nii,1,p\nimage1.nii,mask1.nii,1,p\n"));
  for (auto const keep : {keep_scans::in_memory, keep_scans::on_disk}) {
    masked_scans const scans(list, small_preprocessing(), keep);
    CHECK((scans.size() == 2 && scans.grid() == extent{6, 4, 5}));
    for (int i = 0; i < 2; ++i) {
      auto const v = scans.open(i);
      volume const x = d.image(i), m = d.mask();
      for (index_t z = 0; z < 6; ++z)
        for (index_t y = 0; y < 4; ++y)
          for (index_t w = 0; w < 5; ++w) {
            REQUIRE(v->image.at(z, y, w) == x.at(w + 1, y + 2, z + 1));
            REQUIRE(v->mask.at(z, y, w) == m.at(w + 1, y + 2, z + 1));
          }
    }
    CHECK_THROWS(scans.open(2));
  }
}

TEST_CASE(
    "the published preprocessing gives 150 x 192 x 192 from the template's grid, and says what another grid "
    "is") {
  auto const bounds = extent_after(simclr_preprocessing(), {{193, 229, 193}});
  CHECK((bounds.exact() && bounds.least == extent{150, 192, 192}));
  volume x = make_volume({193, 229, 193}, 0, {2, 0, 0, 5, 0, 3, 0, 6, 0, 0, 4, 7, 0, 0, 0, 1});
  x.at(1, 19, 10) = 1, x.at(192, 210, 159) = 2;
  volume const y = apply(simclr_preprocessing(), x);
  REQUIRE(y.size == extent{150, 192, 192});
  CHECK((y.at(0, 0, 0) == 1 && y.at(149, 191, 191) == 2));
  CHECK(y.to_world == affine{0, 0, 2, 7, 0, 3, 0, 63, 4, 0, 0, 47, 0, 0, 0, 1});
  CHECK_THAT(
      message_of([] {
        apply(simclr_preprocessing(), make_volume({181, 217, 181}));
      }),
      Contains("step 1") && Contains("181x217x181") && Contains("193x229x193") && Contains("template"));
}

TEST_CASE("the new steps survive JSON and name impossible ranges") {
  auto const p = simclr_preprocessing();
  CHECK(pipeline_from_json(to_json(p)) == p);
  CHECK(describe(p).find("crop_range(d_from 1, d_to 0, h_from 19, h_to 211, w_from 10, w_to 160)") !=
        std::string::npos);
  CHECK_THAT(message_of([] {
               apply(pipeline{{preprocess::crop_range{.h_from = 3, .h_to = 9}}}, make_volume({4, 8, 4}));
             }),
             Contains("3 to 9 of axis 1") && Contains("4x8x4"));
  CHECK_THROWS(apply(pipeline{{preprocess::crop_range{.d_from = 4}}}, make_volume({4, 8, 4})));
  CHECK_THROWS(apply(pipeline{{preprocess::crop_range{.w_to = -4}}}, make_volume({4, 8, 4})));
}

TEST_CASE("without masks the voxels that are not 0 are the brain") {
  data_set const d;
  volume x = d.image(0);
  for (std::size_t i = 0; i < 100; ++i) x.voxels[i] = 0;
  write_nifti(d.dir / "image0.nii", x, {.type = voxel_type::f32});
  auto const list = read_scan_list(d.table("image_path\nimage0.nii\n"));
  auto const v = read_masked(list, list.rows[0], {});
  for (std::size_t i = 0; i < x.voxels.size(); ++i) REQUIRE(v.mask.voxels[i] == (x.voxels[i] != 0 ? 1 : 0));
}

TEST_CASE("bad images and masks are errors that name line and file") {
  data_set const d;
  write_nifti(d.dir / "flat.nii", make_volume({6, 7, 9}, 1), {.type = voxel_type::u8});
  write_nifti(d.dir / "empty.nii", make_volume({6, 7, 8}), {.type = voxel_type::u8});
  volume bad = d.image(0);
  bad.at(2, 3, 3) = std::numeric_limits<float>::quiet_NaN();
  write_nifti(d.dir / "nan.nii", bad, {.type = voxel_type::f32});
  write_file(d.dir / "broken.nii", "no image");
  auto const message = [&](std::string const& row) {
    auto const list = read_scan_list(d.table("image_path,mask_path\n" + row + "\n"));
    return message_of([&] { masked_scans(list, {}, keep_scans::in_memory); });
  };
  CHECK_THAT(message("image0.nii,flat.nii"), Contains("t.csv:2") && Contains("image0.nii") &&
                                                 Contains("6x7x8") && Contains("flat.nii") &&
                                                 Contains("6x7x9"));
  CHECK_THAT(message("image0.nii,empty.nii"), Contains("empty.nii") && Contains("is empty"));
  CHECK_THAT(message("nan.nii,mask0.nii"), Contains("1 of 96 voxels in the mask"));
  CHECK_THAT(message("broken.nii,mask0.nii"), Contains("t.csv:2") && Contains("broken.nii"));
  write_nifti(d.dir / "large.nii", make_volume({6, 7, 9}, 1), {.type = voxel_type::f32});
  CHECK_THAT(message("image0.nii,mask0.nii\nlarge.nii,flat.nii"),
             Contains("t.csv:3") && Contains("6x7x9") && Contains("the first row has 6x7x8"));
}

TEST_CASE("an epoch sees every patient once, draws one of the scans, and is a function of seed and epoch") {
  std::vector<std::vector<index_t>> const rows{{0, 4, 5}, {1}, {2, 3}};
  patient_order order(rows, {7, 1}), same(rows, {7, 1}), other(rows, {8, 1});
  CHECK(order.patients() == 3);
  std::array<index_t, 6> count{};
  bool differs = false;
  for (index_t epoch = 0; epoch < 600; ++epoch) {
    std::array<int, 3> seen{};
    for (index_t i = 0; i < 3; ++i) {
      auto const p = order.at(3 * epoch + i);
      REQUIRE(p.epoch == epoch);
      ++count[std::size_t(p.row)];
      for (std::size_t k = 0; k < 3; ++k) seen[k] += std::count(rows[k].begin(), rows[k].end(), p.row) > 0;
      differs = differs || p.row != other.at(3 * epoch + i).row;
    }
    CHECK((seen == std::array<int, 3>{1, 1, 1}));
  }
  CHECK(differs);
  CHECK(count[1] == 600);
  for (int r : {0, 4, 5}) CHECK(double(count[std::size_t(r)]) == Approx(200).margin(50));
  for (int r : {2, 3}) CHECK(double(count[std::size_t(r)]) == Approx(300).margin(60));
  CHECK(same.at(1500).row == patient_order(rows, {7, 1}).at(1500).row);  // addressable anywhere
}
