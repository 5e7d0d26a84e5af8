// SPDX-License-Identifier: Apache-2.0
// Manifests of made-up trees, tables and datalists, and of the shipped brains.
#include "insula/data/manifest.hpp"

#include "insula/data/split_file.hpp"
#include "support/brains.hpp"
#include "support/catch.hpp"
#include "support/tree.hpp"

using namespace insula;
using support::folder;
using support::message_of;
using support::put_file;
using support::put_nifti;

namespace {

/// "dataset|subject|session|sequence" of every scan.
std::vector<std::string> summary(manifest const& m) {
  std::vector<std::string> v;
  for (auto const& s : m.scans) v.push_back(s.dataset + "|" + s.subject + "|" + s.session + "|" + s.sequence);
  return v;
}
using lines = std::vector<std::string>;
bool has(std::string const& s, std::string const& part) {
  INFO(s);
  CHECK(s.find(part) != s.npos);
  return s.find(part) != s.npos;
}

}  // namespace

TEST_CASE("a FOMO tree gives sorted scans with contrasts, numbers and masks") {
  folder f;
  put_nifti(f / "sub_10/ses_2/t1_2.nii.gz"), put_nifti(f / "sub_10/ses_2/t1.nii.gz");
  put_nifti(f / "sub_10/ses_2/FLAIR.nii"), support::put_npy(f / "sub_10/ses_1/scan_3.npy", {1, 2, 3, 4});
  put_nifti(f / "sub_9/ses_1/t2.nii.gz"), put_nifti(f / "sub_9/ses_1/mask.nii.gz");
  put_nifti(f / "sub_9/ses_1/t2_seg.nii.gz"), put_nifti(f / "sub_9/ses_1/swi.nii.gz");
  put_nifti(f / "sub_9/ses_1/swi_brain_mask.nii.gz"), put_file(f / "sub_9/ses_1/t2.yaml", "x");
  put_file(f / ".hidden/sub_5/ses_1/t1.nii.gz", "x");
  auto const m = read_manifest(f.path());
  CHECK(summary(m) == lines{"|10|1|scan", "|10|2|flair", "|10|2|t1", "|10|2|t1", "|9|1|swi", "|9|1|t2"});
  CHECK(m.problems.empty());
  CHECK(m.notes.empty());
  CHECK(m.scans[0].subject_number == 10);
  CHECK(m.scans[4].subject_number == 9);
  CHECK(m.scans[1].session_number == 2);
  CHECK(m.scans[5].mask == f / "sub_9/ses_1/mask.nii.gz");
  CHECK(m.scans[5].labels.at("segmentation") == f / "sub_9/ses_1/t2_seg.nii.gz");
  CHECK(m.scans[4].mask == f / "sub_9/ses_1/swi_brain_mask.nii.gz");
  CHECK(m.scans[4].labels.empty());
}

TEST_CASE("header and image of a pair are one scan, and a header alone is named") {
  folder f;
  support::nifti_bytes pair{.pair = true};
  for (int i = 0; i < 24; ++i) pair.values.push_back(i);
  put_file(f / "sub_1/ses_1/t1.hdr", pair.header()), put_file(f / "sub_1/ses_1/t1.img", pair.data());
  put_file(f / "sub_1/ses_1/t2.hdr.gz", support::gzip(pair.header()));
  put_file(f / "sub_1/ses_1/t2.img.gz", support::gzip(pair.data()));
  put_file(f / "sub_1/ses_1/pd.hdr", pair.header());
  put_file(f / "sub_1/ses_1/flair.img", pair.data());
  auto const m = read_manifest(f.path());
  CHECK(summary(m) == lines{"|1|1|t1", "|1|1|t2"});
  CHECK(m.scans[0].path == f / "sub_1/ses_1/t1.img");
  REQUIRE(m.problems.size() == 2);
  has(describe(m.problems), "pd.hdr': the .img with its voxels is missing");
  has(describe(m.problems), "flair.img': ");
}

TEST_CASE("data set folders keep subjects of one name apart and give them different numbers") {
  folder f;
  put_nifti(f / "a/sub_1/ses_1/t1.nii"), put_nifti(f / "b/x/sub_1/ses_1/t1.nii");
  auto const m = read_manifest(f.path());
  CHECK(summary(m) == lines{"a|1|1|t1", "b/x|1|1|t1"});
  CHECK(subjects_of(m) == lines{"a/1", "b/x/1"});
  CHECK(m.scans[0].subject_number == 1);
  CHECK(m.scans[1].subject_number == 2);
  REQUIRE(m.notes.size() == 1);
  has(m.notes[0], "'1' and '1' are the same number");
  auto const table = describe(m);
  has(table, "contrast  a  b/x  all\nt1        1    1    2\n");
  has(table, "subjects  1    1    2\n");
}

TEST_CASE("subject 0 and subjects with names are numbered from 1 in sorted order") {
  folder f;
  put_nifti(f / "sub_0/ses_0/t1.nii"), put_nifti(f / "sub_7/ses_1/t1.nii"),
      put_nifti(f / "sub_7/ses_b/t1.nii");
  auto const m = read_manifest(f.path());
  CHECK(m.scans[0].subject_number == 1);
  CHECK(m.scans[0].session_number == 1);
  CHECK(m.scans[1].subject_number == 2);
  CHECK(m.scans[2].session_number == 2);
  REQUIRE(m.notes.size() == 1);
  has(m.notes[0], "'0' is no whole number above 0");
}

TEST_CASE("a BIDS tree gives contrasts by suffix and leaves other images out") {
  folder f;
  put_file(f / "dataset_description.json", "{}");
  put_nifti(f / "sub-01/ses-pre/anat/sub-01_ses-pre_run-1_T1w.nii.gz");
  put_nifti(f / "sub-01/ses-pre/anat/sub-01_ses-pre_ce-gadolinium_T1w.nii.gz");
  put_nifti(f / "sub-01/ses-pre/anat/sub-01_ses-pre_FLAIR.nii");
  put_nifti(f / "sub-01/ses-pre/anat/sub-01_ses-pre_part-phase_T2starw.nii");
  put_nifti(f / "sub-01/ses-pre/anat/sub-01_ses-pre_desc-brain_mask.nii.gz");
  put_nifti(f / "sub-01/ses-pre/func/sub-01_ses-pre_task-rest_bold.nii.gz");
  put_nifti(f / "sub-02/anat/sub-02_PDw.nii.gz"), put_nifti(f / "sub-02/anat/t2w.nii.gz");
  put_nifti(f / "derivatives/x/sub-02/anat/sub-02_T1w.nii.gz");
  put_nifti(f / "sub-02/dwi/sub-02_dwi.nii.gz", {.dim = {4, 2, 3, 4, 5}});
  auto const m = read_manifest(f.path());
  CHECK(summary(m) == lines{"|01|pre|flair", "|01|pre|t1c", "|01|pre|t1", "|02||pd", "|02||t2"});
  CHECK(m.scans[2].mask == f / "sub-01/ses-pre/anat/sub-01_ses-pre_desc-brain_mask.nii.gz");
  CHECK(m.scans[2].subject_number == 1);
  CHECK(m.scans[3].session_number == 1);
  REQUIRE(m.problems.size() == 1);
  has(m.problems[0].reason, "4-D, it holds 5 volumes of 2x3x4");
  CHECK(m.notes == lines{"1 image of kind 'bold' left out", "1 image of kind 'part-phase' left out"});
}

TEST_CASE("links are followed, also in circles, and broken links are named") {
  folder f, elsewhere;
  put_nifti(elsewhere / "ses_1/t1.nii"), put_nifti(f / "sub_1/ses_1/t1.nii");
  std::filesystem::create_symlink(elsewhere.path(), f / "sub_2");
  std::filesystem::create_symlink(f.path(), f / "sub_3");
  std::filesystem::create_symlink("nowhere", f / "sub_1/ses_1/t2.nii");
  auto const m = read_manifest(f.path());
  CHECK(summary(m) == lines{"|1|1|t1", "|2|1|t1"});
  REQUIRE(m.problems.size() == 1);
  has(m.problems[0].reason, "No such file");
}

TEST_CASE("folders without scans are refused with the layouts that were looked for") {
  folder f;
  auto const empty = message_of([&] { (void)read_manifest(f.path()); });
  has(empty, f.path()), has(empty, "it holds no .nii, .nii.gz, .img or .npy file");
  has(empty, "sub_<X>/ses_<Y>"), has(empty, "(BIDS)");
  put_nifti(f / "images/a.nii"), put_nifti(f / "sub_1/ses_1/mask.nii");
  auto const none = message_of([&] { (void)read_manifest(f.path()); });
  has(none,
      "none of its 2 image files is a scan there; 1 image of kind 'outside of sub_<n> folders' left out");
  has(message_of([&] { (void)read_manifest(f / "x"); }), "there is no folder, .csv, .tsv or .json file");
}

TEST_CASE("bad files are skipped and named, or refused") {
  folder f;
  put_nifti(f / "sub_1/ses_1/t1.nii.gz"), put_file(f / "sub_1/ses_1/t2.nii.gz", "not an image");
  put_file(f / "sub_1/ses_1/pd.nii", ""), put_nifti(f / "sub_1/ses_1/t1.nii");
  put_nifti(f / "sub_2/ses_1/flair.nii", {.dim = {2, 8, 8}}), put_file(f / "sub_2/ses-02.zip", "PK");
  auto const m = read_manifest(f.path());
  CHECK(summary(m) == lines{"|1|1|t1"});
  REQUIRE(m.problems.size() == 5);
  auto const said = describe(m);
  has(said, "5 files cannot be used"), has(said, "t2.nii.gz"), has(said, "the file is empty");
  has(said, "flat: 8x8x1"), has(said, "the same scan is also stored as"), has(said, "unpack");
  auto const refused = message_of([&] { (void)read_manifest(f.path(), {.bad = bad_files::refuse}); });
  has(refused, "5 files cannot be used"), has(refused, "bad_files::skip");
  CHECK(read_manifest(f.path(), {.headers = false}).scans.size() == 4);
  thread_pool pool(2);
  CHECK(read_manifest(f.path(), {}, &pool).problems == m.problems);
  std::filesystem::remove(f / "sub_1/ses_1/t1.nii"), std::filesystem::remove(f / "sub_1/ses_1/t1.nii.gz");
  has(message_of([&] { (void)read_manifest(f.path()); }), "no scan is left; 4 files cannot be used");
}

TEST_CASE("a table gives paths, masks and labels under any usual column names") {
  folder f;
  put_nifti(f / "img/a.nii"), put_nifti(f / "img/b.nii"), put_nifti(f / "m.nii");
  put_file(f / "list.csv",
           "image_path,mask_path,age,patient_id,modality\n\"img/a.nii\",m.nii,71.5,sub-x,T1\n" +
               (f / "img/b.nii") + ",,n/a,y,flair\n");
  auto const m = read_manifest(f / "list.csv");
  CHECK(summary(m) == lines{"|x||t1", "|y||flair"});
  CHECK(m.scans[0].path == f / "img/a.nii");
  CHECK(m.scans[0].mask == f / "m.nii");
  CHECK(m.scans[0].labels == std::map<std::string, std::string>{{"age", "71.5"}});
  CHECK(m.scans[1].labels.empty());
  CHECK(m.scans[1].path == f / "img/b.nii");

  put_file(f / "n.csv", "path,label\nimg/a.nii,0\nimg/b.nii,1\n");
  auto const n = read_manifest(f / "n.csv");
  CHECK(summary(n) == lines{"|a||scan", "|b||scan"});
  has(n.notes.at(0), "2 of 2 rows name no subject");
  put_nifti(f / "sub_4/ses_2/t2_1.nii"), put_file(f / "p.csv", "path\nsub_4/ses_2/t2_1.nii\n");
  CHECK(summary(read_manifest(f / "p.csv")) == lines{"|4|2|t2"});
}

TEST_CASE("tables with mistakes are refused by line") {
  folder f;
  put_nifti(f / "a.nii"), put_nifti(f / "b.nii");
  auto const said = [&](std::string const& csv) {
    put_file(f / "l.csv", csv);
    return message_of([&] { (void)read_manifest(f / "l.csv"); });
  };
  has(said("label,age\n1,2\n"),
      "no column holds the images' paths; name one 'path' or 'image_path'. There are: 'label', 'age'");
  has(said("path,image\na.nii,b.nii\n"), "both mean path");
  has(said("path\na.nii\n./a.nii\n"), "l.csv:3: ");
  has(said("path\n"), "no rows");
  has(said("path,age\n,3\n"), "l.csv:2: the path is missing");
  has(said("path,subject,subject_number,session_number\na.nii,x,0,1\n"),
      "subject_number is '0', a whole number above 0");
  has(said("path,subject,subject_number,session_number\na.nii,x,1,1\nb.nii,y,1,1\n"),
      "'x' and 'y' both have the number 1");
  has(said("path,subject,subject_number,session_number\na.nii,x,1,1\nb.nii,x,2,1\n"),
      "'x' has the numbers 1 and 2");
  has(said("path,subject,subject_number\na.nii,x,1\n"), "need each other");
}

TEST_CASE("a written manifest reads back as it was, numbers included") {
  folder f;
  put_nifti(f / "d/sub_x/ses_1/t1.nii"), put_nifti(f / "d/sub_y/ses_pre/t2.nii"),
      put_nifti(f / "d/sub_y/ses_pre/mask.nii");
  put_nifti(f / "d/sub_y/scan.nii");
  auto m = read_manifest(f.path());
  m.scans[0].labels["note"] = "tab\there, \"quoted\"";
  m.scans[0].subject_number = 41;
  write_manifest(f / "manifest.tsv", m);
  CHECK(read_manifest(f / "manifest.tsv").scans == m.scans);
  std::filesystem::rename(f / "d", f / "e");
  has(message_of([&] { (void)read_manifest(f / "manifest.tsv"); }), "no scan is left");
  folder other;
  std::filesystem::rename(f / "e", f / "d"), write_manifest(other / "m.tsv", m);
  CHECK(read_manifest(other / "m.tsv").scans == m.scans);
  has(message_of([&] { write_manifest(f / "manifest.csv", m); }), "must end in .tsv");
  m.scans[0].labels["path"] = "x";
  has(message_of([&] { write_manifest(f / "manifest.tsv", m); }), "a label is called 'path'");
  CHECK(read_manifest(f / "manifest.tsv").scans.size() == 3);
}

TEST_CASE("a MONAI datalist gives sessions of several contrasts, parts and labels") {
  folder f;
  for (auto const* n :
       {"BRATS_001_flair.nii.gz", "BRATS_001_t1ce.nii.gz", "c0.nii", "c1.nii", "seg/a.nii", "t.nii"})
    put_nifti(f / n);
  put_file(f / "d.json", R"({"name": "x", "training": [
      {"image": ["BRATS_001_flair.nii.gz", "./BRATS_001_t1ce.nii.gz"], "label": "seg/a.nii", "fold": 2},
      {"image": ["c0.nii", "c1.nii"], "subject": "p7", "label": 1}], "test": ["./t.nii"]})");
  auto const m = read_manifest(f / "d.json");
  CHECK(summary(m) == lines{"|BRATS_001_flair||flair", "|BRATS_001_flair||t1c", "|p7||channel0",
                            "|p7||channel1", "|t||scan"});
  CHECK(m.scans[1].path == f / "BRATS_001_t1ce.nii.gz");
  CHECK(m.scans[0].labels ==
        std::map<std::string, std::string>{{"fold", "2"}, {"label", f / "seg/a.nii"}, {"part", "training"}});
  CHECK(m.scans[2].labels.at("label") == "1");
  CHECK(m.scans[4].labels.at("part") == "test");
  auto const said = [&](std::string const& s) {
    put_file(f / "e.json", s);
    return message_of([&] { (void)read_manifest(f / "e.json"); });
  };
  has(said("{"), "no valid JSON"), has(said("{}"), "no entry has an \"image\""),
      has(said("3"), "a datalist is an object");
  has(said(R"([{"image": [3]}])"), "training[0]: image 0 is 3, a path is needed");
  has(said(R"([{"image": "t.nii"}, {"image": "t.nii"}])"), "training[1]: ");
}

TEST_CASE("the shipped brains are three subjects with masks where they belong") {
  auto const m = read_manifest(support::brain(""));
  CHECK(summary(m) == lines{"|1|1|pd", "|1|1|t1", "|1|1|t2", "|1|2|t1", "|2|1|t1", "|2|2|t1", "|3|1|t1"});
  CHECK(m.problems.empty());
  CHECK(std::filesystem::equivalent(m.scans[0].mask, support::brain("sub_1/ses_1/mask.nii.gz")));
  CHECK(m.scans[3].mask.empty());
  has(describe(m), "t1             5    5\n");
}

TEST_CASE("participants.tsv gives labels by subject, session and data set") {
  folder f;
  put_nifti(f / "a/sub_1/ses_1/t1.nii"), put_nifti(f / "a/sub_1/ses_2/t1.nii"),
      put_nifti(f / "b/sub_1/ses_1/t1.nii");
  put_file(
      f / "participants.tsv",
      "dataset\tparticipant_id\tsession_id\tage\tsex\na\tsub_1\tses_1\t70\tF\na\tsub_1\tses_2\t71.5\tn/a\n"
      "n/a\tsub_1\tses_1\t5\tM\nc\tsub_9\tses_1\t1\tM\n");
  put_file(f / "b/participants.tsv", "participant_id\tgroup\n1\tcontrol\n");
  auto m = read_manifest(f.path());
  using labels = std::map<std::string, std::string>;
  CHECK(m.scans[0].labels == labels{{"age", "70"}, {"sex", "F"}});
  CHECK(m.scans[1].labels == labels{{"age", "71.5"}});
  CHECK(m.scans[2].labels == labels{{"group", "control"}});
  put_file(f / "b/participants.tsv", "participant_id\tgroup\n1\tcontrol\n1\tpatient\n");
  m = read_manifest(f.path());
  CHECK(m.scans[2].labels.empty());
  REQUIRE(m.notes.size() == 2);
  has(m.notes[0], "has the group 'patient' here and 'control' in a row before");
}

TEST_CASE("a split file keeps parts apart") {
  folder f;
  subject_split const s{{"3", "a/1"}, {"x\ty"}, {}};
  write_split(f / "split.tsv", s);
  auto const back = read_split(f / "split.tsv");
  CHECK(back.train == s.train);
  CHECK(back.validation == s.validation);
  CHECK(back.test.empty());
  CHECK(split_fingerprint(back) == split_fingerprint({{"a/1", "3"}, {"x\ty"}, {}}));
  CHECK(split_fingerprint(back) != split_fingerprint({{"a/1"}, {"x\ty", "3"}, {}}));
  has(message_of([&] {
        write_split(f / "split.tsv", {{"1"}, {"1"}, {}});
      }),
      "subject \"1\" is in train and in validation");
  put_file(f / "twice.tsv", "subject\tpart\n1\ttrain\n2\ttrain\n1\ttest\n");
  has(message_of([&] { (void)read_split(f / "twice.tsv"); }),
      ":4: subject '1' is in test and, in line 2, in train");
  put_file(f / "odd.tsv", "subject\tpart\n1\tvalid\n");
  has(message_of([&] { (void)read_split(f / "odd.tsv"); }), "the part is 'valid'");

  auto const m = read_manifest(support::brain(""));
  auto const split = patient_split(subjects_of(m), 0.3);
  auto const train = scans_of(m, split, split_part::train), held = scans_of(m, split, split_part::validation);
  CHECK(train.scans.size() + held.scans.size() == m.scans.size());
  for (auto const& a : train.scans)
    for (auto const& b : held.scans) CHECK(a.subject != b.subject);
  has(message_of([&] { (void)scans_of(m, {{"1"}, {"2"}, {}}, split_part::train); }), "\"3\" is in no part");
}
