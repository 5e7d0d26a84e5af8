// SPDX-License-Identifier: Apache-2.0
// Stratified parts, fractions and folds: floors per class, nesting, no subject twice, functions of the key.
#include "insula/data/split_strata.hpp"

#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

std::vector<classed_subject> subjects(std::vector<index_t> const& per_class) {
  std::vector<classed_subject> all;
  for (std::size_t k = 0; k < per_class.size(); ++k)
    for (index_t i = 0; i < per_class[k]; ++i) all.push_back({text("s", k, "_", i), std::int32_t(k)});
  return all;
}
index_t of_class(std::vector<std::string> const& ids, index_t k) {
  return std::count_if(ids.begin(), ids.end(),
                       [&](auto const& id) { return id.starts_with(text("s", k, "_")); });
}

}  // namespace

TEST_CASE("a fraction takes the floor of each class: 20 % of 53 + 53 are 10 + 10") {
  auto const all = subjects({53, 53});
  for (auto const& [fraction, n] : {std::pair{0.2, 10}, {0.4, 21}, {0.6, 31}, {0.8, 42}, {1.0, 53}}) {
    auto const part = stratified_fraction(all, fraction, {1, 2});
    CHECK(of_class(part, 0) == n);
    CHECK(of_class(part, 1) == n);
    CHECK(std::is_sorted(part.begin(), part.end()));
  }
  CHECK(stratified_fraction(subjects({5}), 0.2, {}).size() == 1);  // 0.2 in binary is not exact
  CHECK(stratified_fraction(subjects({10}), 0.3, {}).size() == 3);
}

TEST_CASE("smaller fractions are parts of larger ones, and do not depend on the order of the list") {
  auto all = subjects({20, 31});
  auto const small = stratified_fraction(all, 0.25, {3, 4}), large = stratified_fraction(all, 0.7, {3, 4});
  CHECK(std::includes(large.begin(), large.end(), small.begin(), small.end()));
  std::reverse(all.begin(), all.end());
  CHECK(stratified_fraction(all, 0.25, {3, 4}) == small);
  CHECK(stratified_fraction(all, 0.25, {5, 4}) != small);
}

TEST_CASE("stratified parts keep the shares of classes and hold every subject once") {
  auto const all = subjects({50, 10});
  auto const s = stratified_split(all, 0.2, 0.2, {1, 1});
  check_no_overlap(s);
  CHECK(s.train.size() + s.validation.size() + s.test.size() == 60);
  CHECK((of_class(s.validation, 0) == 10 && of_class(s.validation, 1) == 2));
  CHECK((of_class(s.test, 0) == 10 && of_class(s.test, 1) == 2));
}

TEST_CASE("folds hold every subject once, with even classes, and each is the test once") {
  auto const all = subjects({17, 6});
  auto const folds = stratified_folds(all, 5, {2, 1});
  REQUIRE(folds.size() == 5);
  std::vector<std::string> tested;
  for (index_t i = 0; i < 5; ++i) {
    auto const& f = folds[std::size_t(i)];
    CHECK((f.size() == 4 || f.size() == 5));
    CHECK((of_class(f, 0) == 3 || of_class(f, 0) == 4));
    CHECK((of_class(f, 1) == 1 || of_class(f, 1) == 2));
    auto const s = fold_split(folds, i);
    check_no_overlap(s);
    CHECK(s.test == f);
    CHECK(s.validation == folds[std::size_t((i + 1) % 5)]);
    CHECK(s.train.size() + s.validation.size() + s.test.size() == 23);
    tested.insert(tested.end(), s.test.begin(), s.test.end());
  }
  std::sort(tested.begin(), tested.end());
  CHECK((std::unique(tested.begin(), tested.end()) == tested.end() && tested.size() == 23));
  auto const two = fold_split(stratified_folds(all, 2, {}), 1);
  CHECK((two.validation.empty() && two.train.size() + two.test.size() == 23));
}

TEST_CASE("scans become subjects; a subject of two classes is named, as are impossible requests") {
  auto const s = classes_of_subjects({"b", "a", "b"}, {1, 0, 1});
  REQUIRE(s.size() == 2);
  CHECK((s[0].id == "a" && s[0].label == 0 && s[1].id == "b" && s[1].label == 1));
  CHECK_THAT(message_of([] { classes_of_subjects({"b", "b"}, {1, 0}); }), Contains("subject \"b\""));
  CHECK_THAT(message_of([] {
               stratified_fraction(subjects({53, 3}), 0.2, {});
             }),
             Contains("3 subjects of class 1") && Contains("less than one"));
  CHECK_THAT(message_of([] { stratified_fraction(subjects({5}), 0, {}); }), Contains("fraction is 0"));
  CHECK_THAT(message_of([] { stratified_folds(subjects({3}), 4, {}); }), Contains("4 folds of 3 subjects"));
  CHECK_THAT(message_of([] {
               stratified_split({{"a", 0}, {"a", 1}}, 0.5, 0, {});
             }),
             Contains("listed twice"));
  CHECK_THAT(message_of([] { stratified_split(subjects({3}), 0.7, 0.7, {}); }), Contains("0.7"));
}
