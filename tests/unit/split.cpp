// SPDX-License-Identifier: Apache-2.0
// Splits: the published generators' golden numbers, the recipes built on them, and refusal of overlap.
#include "insula/data/split.hpp"

#include <set>

#include "support/catch.hpp"

using namespace insula;

namespace {
std::vector<std::string> numbered(int n) {
  std::vector<std::string> ids;
  for (int i = 0; i < n; ++i) ids.push_back(text("sub_", i + 1));
  return ids;
}
}  // namespace

TEST_CASE("permutations and shuffles with seed 42 are the published ones") {
  CHECK(numpy_permutation(42, 10) == std::vector<index_t>{8, 1, 5, 0, 7, 2, 9, 4, 3, 6});
  CHECK(python_shuffle(42, 10) == std::vector<index_t>{7, 3, 2, 8, 5, 6, 9, 4, 0, 1});
  auto const longer = python_shuffle(123, 1000);  // CPython 3.11
  CHECK(std::vector<index_t>(longer.begin(), longer.begin() + 6) ==
        std::vector<index_t>{178, 830, 641, 410, 255, 470});
  auto const numpy = numpy_permutation(123, 1000);  // NumPy 1.24
  CHECK(std::vector<index_t>(numpy.begin(), numpy.begin() + 6) ==
        std::vector<index_t>{131, 203, 50, 585, 138, 632});
  CHECK(numpy_permutation(42, 0).empty());
  CHECK(python_shuffle(42, 1) == std::vector<index_t>{0});
  for (auto const& order : {numpy_permutation(7, 1000), python_shuffle(7, 1000)}) {
    std::set<index_t> const all(order.begin(), order.end());
    CHECK(all.size() == 1000);
    CHECK(*all.rbegin() == 999);
  }
}

TEST_CASE("the patient split sorts as strings, rounds up and covers every patient once") {
  auto ids = numbered(10);
  std::reverse(ids.begin(), ids.end());
  ids.push_back("sub_3");  // a second session
  // string order: 1 10 2 3 4 5 6 7 8 9; permutation 8 1 5 0 7 2 9 4 3 6
  auto const s = patient_split(ids, 0.11);
  CHECK(s.validation == std::vector<std::string>{"sub_8", "sub_10"});
  CHECK(s.train ==
        std::vector<std::string>{"sub_5", "sub_1", "sub_7", "sub_2", "sub_9", "sub_4", "sub_3", "sub_6"});
  CHECK(patient_split(numbered(51)).validation.size() == 2);
  CHECK(patient_split(numbered(50)).validation.size() == 1);
  CHECK_THROWS_WITH(patient_split(ids, 1.5), Catch::Contains("1.5"));
}

TEST_CASE("the few-shot subset takes the first of the shuffled ids, all of them at fraction 1") {
  auto const ids = numbered(10);
  // string order: 1 10 2 3 4 5 6 7 8 9; shuffle 7 3 2 8 5 ...
  CHECK(few_shot_subset(ids, 0.39) == std::vector<std::string>{"sub_7", "sub_3", "sub_2"});
  CHECK(few_shot_subset(ids, 1).front() == "sub_1");
  CHECK(few_shot_subset(ids, 1).size() == 10);
  CHECK(few_shot_subset(ids, 0).empty());
}

TEST_CASE("random splits have the asked sizes, do not depend on the order of ids, and differ between keys") {
  auto ids = numbered(40);
  auto const s = random_split(ids, 0.1, 0.2, {.seed = 3});
  CHECK(s.validation.size() == 4);
  CHECK(s.test.size() == 8);
  CHECK(s.train.size() == 28);
  check_no_overlap(s);
  std::reverse(ids.begin(), ids.end());
  CHECK(random_split(ids, 0.1, 0.2, {.seed = 3}).test == s.test);
  CHECK(random_split(ids, 0.1, 0.2, {.seed = 4}).test != s.test);
  CHECK_THROWS_AS(random_split(ids, 0.6, 0.5, {}), error);
}

TEST_CASE("a subject in two parts is refused by name, and so is an item without a part") {
  subject_split s{.train = {"a", "b"}, .validation = {"c"}, .test = {"d"}};
  CHECK_NOTHROW(check_no_overlap(s));
  auto const parts = part_of_items(s, {"b", "d", "c", "b"});
  CHECK(parts == std::vector<split_part>{split_part::train, split_part::test, split_part::validation,
                                         split_part::train});
  CHECK_THROWS_WITH(part_of_items(s, {"e"}), Catch::Contains("\"e\""));
  s.test.push_back("b");
  CHECK_THROWS_WITH(check_no_overlap(s),
                    Catch::Contains("\"b\"") && Catch::Contains("train") && Catch::Contains("test"));
  CHECK_THROWS_AS(part_of_items(s, {"a"}), error);
}
