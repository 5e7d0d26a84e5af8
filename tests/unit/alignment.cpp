// SPDX-License-Identifier: Apache-2.0
// Cross-modality and cross-subject distance on tables small enough to work out by hand.
#include "insula/eval/alignment.hpp"

#include "support/catch.hpp"

using namespace insula;

namespace {

struct scan {
  char const *patient, *session, *file, *modality;
  float x, y;
};

embedding_table table(std::vector<scan> const& scans) {
  embedding_table t{2, {}, {}};
  for (auto const& s : scans) {
    t.values.insert(t.values.end(), {s.x, s.y});
    t.sources.push_back({s.patient, s.session, s.file, s.modality});
  }
  return t;
}

// Distances between the directions: east-north 1, east-west 2, same 0. Lengths do not matter.
std::vector<scan> const cohort{
    {"1", "1", "t1.npy", "t1", 1, 0},   {"1", "1", "t2.npy", "t2", 0, 3},         // 1
    {"1", "1", "t1.npy", "t1", -1, 0},                                            // a repeated file
    {"1", "2", "t1.npy", "t1", 2, 0},                                             // same name, another visit
    {"2", "1", "t1.npy", "t1", 1, 0},   {"2", "1", "flair.npy", "flair", -4, 0},  // 2
    {"2", "1", "t1_2.npy", "t1", 0, 1},                                           // to flair: 1
    {"3", "1", "t1.npy", "t1", 0, 1},   {"3", "1", "t1_2.npy", "t1", 1, 0},  // one modality only: no group
    {"4", "1", "t1.npy", "t1", 0, 1},   {"4", "2", "t2.npy", "t2", 0, 1},    // pooled over visits: 0
};

}  // namespace

TEST_CASE("the cosine distance measures directions alone") {
  float const east[] = {2, 0}, north[] = {0, 5}, west[] = {-1, 0}, none[] = {0, 0};
  CHECK(cosine_distance(east, north, 2) == 1);
  CHECK(cosine_distance(east, west, 2) == 2);
  CHECK(cosine_distance(east, east, 2) == 0);
  CHECK(std::isnan(cosine_distance(east, none, 2)));
}

TEST_CASE("cross-modality distance takes the first row of every file and pools the visits of a patient") {
  auto const r = cross_modality_distance(table(cohort));
  // Patient 1: t2 against two t1, (1 + 1) / 2 = 1; patient 2: (2 + 1) / 2; patient 3: none; patient 4: 0.
  CHECK(r.count == 3);
  CHECK(r.mean == Approx((1 + 1.5 + 0) / 3));
  double const m = 2.5 / 3;
  CHECK(r.deviation == Approx(std::sqrt(((1 - m) * (1 - m) + (1.5 - m) * (1.5 - m) + m * m) / 2)));
}

TEST_CASE("a repeated file counts if asked for") {
  auto const r = cross_modality_distance(table(cohort), {.repeats = repeated_files::all});
  CHECK(r.count == 3);
  CHECK(r.mean == Approx((1 + 1.5 + 0) / 3));  // west is as far from north as east
  auto moved = cohort;
  moved[2].x = 0, moved[2].y = 1;  // the repeated row now equals t2
  CHECK(cross_modality_distance(table(moved), {.repeats = repeated_files::all}).mean ==
        Approx((2.0 / 3 + 1.5 + 0) / 3));
  CHECK(cross_modality_distance(table(moved)).mean == Approx((1 + 1.5 + 0) / 3));
}

TEST_CASE("cross-modality distance grouped by visit compares within a visit") {
  auto const r = cross_modality_distance(table(cohort), {.group = scan_group::session});
  CHECK(r.count == 2);  // (1, 1): 1 and (2, 1): 1.5
  CHECK(r.mean == Approx(1.25));
  CHECK(r.deviation == Approx(std::sqrt(2 * 0.25 * 0.25)));
}

TEST_CASE("a single group has no deviation") {
  auto const r = cross_modality_distance(table({cohort[0], cohort[1]}));
  CHECK(r.count == 1);
  CHECK(r.mean == 1);
  CHECK(r.deviation == 0);
}

TEST_CASE("cross-subject distance compares one modality of different patients, in all rows or first rows") {
  std::vector<scan> const some{cohort[0], cohort[1], cohort[2], cohort[4], cohort[9]};
  // t1 rows: patient 1 east and (repeated) west, patient 2 east, patient 4 north.
  auto const all = cross_subject_distance(table(some), "t1");
  CHECK(all.count == 5);  // 1-2: 0, 2; 1-4: 1, 1; 2-4: 1
  CHECK(all.mean == Approx(1));
  CHECK(all.deviation == Approx(std::sqrt(2.0 / 5)));
  auto const once = cross_subject_distance(table(some), "t1", repeated_files::first_only);
  CHECK(once.count == 3);  // 0, 1, 1
  CHECK(once.mean == Approx(2.0 / 3));
  CHECK(once.deviation == Approx(std::sqrt(2.0) / 3));
}

TEST_CASE("tables without anything to compare are errors that say so") {
  embedding_table const empty{2, {}, {}};
  CHECK_THROWS_WITH(cross_modality_distance(empty), Catch::Contains("no rows"));
  CHECK_THROWS_WITH(cross_subject_distance(empty, "t1"), Catch::Contains("no rows"));
  auto const one_modality = table({cohort[7], cohort[8]});
  CHECK_THROWS_WITH(cross_modality_distance(one_modality), Catch::Contains("none of 1 groups"));
  CHECK_THROWS_AS(cross_modality_distance(one_modality),
                  no_pairs);  // tables that are wrong throw error alone
  CHECK_THROWS_AS(cross_subject_distance(one_modality, "t1"), no_pairs);
  CHECK_THROWS_WITH(cross_subject_distance(one_modality, "t1"),
                    Catch::Contains("2 rows have modality \"t1\""));
  CHECK_THROWS_WITH(cross_subject_distance(one_modality, "pd"),
                    Catch::Contains("0 rows have modality \"pd\""));
  auto torn = table(cohort);
  torn.values.pop_back();
  CHECK_THROWS_WITH(cross_modality_distance(torn), Catch::Contains("21 values do not fill 11 rows of 2"));
  torn.width = 0;
  CHECK_THROWS_WITH(cross_modality_distance(torn), Catch::Contains("0 wide"));
}
