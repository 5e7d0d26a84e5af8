// SPDX-License-Identifier: Apache-2.0
// Splits that keep the shares of classes: parts, fractions of a training set, and folds; by subject, drawn from a key.
#pragma once

#include <set>

#include "insula/data/split.hpp"

namespace insula {

/// A subject and its class. Regression has one class: 0 for all.
struct classed_subject {
  std::string id;
  std::int32_t label = 0;
};

/// One entry per subject, in the order of strings, of items (scans) with their subjects and classes. Throws error if two items
/// of a subject are of different classes.
inline std::vector<classed_subject> classes_of_subjects(std::vector<std::string> const& subject_of_item,
                                                        std::vector<std::int32_t> const& label_of_item) {
  check(subject_of_item.size() == label_of_item.size(), "classes_of_subjects: there are ",
        subject_of_item.size(), " subjects and ", label_of_item.size(), " labels");
  std::map<std::string, std::int32_t> label;
  for (std::size_t i = 0; i < subject_of_item.size(); ++i) {
    auto const [at, fresh] = label.emplace(subject_of_item[i], label_of_item[i]);
    check(fresh || at->second == label_of_item[i], "classes_of_subjects: subject \"", subject_of_item[i],
          "\" is of class ", at->second, " and of class ", label_of_item[i],
          ": a split by subject needs one class per subject");
  }
  std::vector<classed_subject> all;
  for (auto const& [id, l] : label) all.push_back({id, l});
  return all;
}

namespace detail {
/// Subjects by class, each class in an order that depends on (key, id) alone: adding a subject moves no other.
inline std::map<std::int32_t, std::vector<std::string>> shuffled_classes(
    std::vector<classed_subject> const& subjects, random_key key) {
  std::map<std::int32_t, std::vector<std::pair<double, std::string>>> ranked;
  std::set<std::string> seen;
  for (auto const& s : subjects) {
    check(seen.insert(s.id).second, "split: subject \"", s.id, "\" is listed twice");
    std::uint64_t h = 0xcbf29ce484222325u;  // FNV-1a
    for (char const c : s.id) h = (h ^ std::uint64_t(static_cast<unsigned char>(c))) * 0x100000001b3u;
    ranked[s.label].emplace_back(uniform_at({key.seed, mix(key.stream, h), key.sub}, 0), s.id);
  }
  std::map<std::int32_t, std::vector<std::string>> classes;
  for (auto& [label, members] : ranked) {
    std::sort(members.begin(), members.end());
    for (auto& m : members) classes[label].push_back(std::move(m.second));
  }
  return classes;
}
}  // namespace detail

/// A part of the subjects with floor(fraction n) of each class of n: 20 % of 53 + 53 are 10 + 10. Smaller fractions of one key
/// are parts of larger ones. Sorted. Throws error for a fraction outside of (0, 1] or if a class would be left without anyone.
inline std::vector<std::string> stratified_fraction(std::vector<classed_subject> const& subjects,
                                                    double fraction, random_key key) {
  check(fraction > 0 && fraction <= 1, "stratified_fraction: the fraction is ", fraction,
        ", it must be above 0 and at most 1");
  std::vector<std::string> chosen;
  for (auto const& [label, members] : detail::shuffled_classes(subjects, key)) {
    // 0.2 * 5 must give 1 although 0.2 is not exact
    auto const n = std::size_t(std::floor(fraction * double(members.size()) * (1 + 1e-12)));
    check(n > 0, "stratified_fraction: ", fraction, " of the ", members.size(), " subjects of class ", label,
          " is less than one; take a larger fraction");
    chosen.insert(chosen.end(), members.begin(), members.begin() + std::ptrdiff_t(n));
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

/// Parts with round(share n) of each class of n for validation and test, the rest for training; all parts sorted.
inline subject_split stratified_split(std::vector<classed_subject> const& subjects, double validation,
                                      double test, random_key key) {
  check(validation >= 0 && test >= 0 && validation + test <= 1, "stratified_split: validation ", validation,
        " and test ", test, " must not be negative nor add up to more than 1");
  subject_split s;
  for (auto const& [label, members] : detail::shuffled_classes(subjects, key)) {
    auto const n = double(members.size());
    auto const first = std::size_t(std::lround(validation * n)),
               second = std::min(members.size(), first + std::size_t(std::lround(test * n)));
    for (std::size_t i = 0; i < members.size(); ++i)
      (i < first ? s.validation : i < second ? s.test : s.train).push_back(members[i]);
  }
  for (auto* part : {&s.train, &s.validation, &s.test}) std::sort(part->begin(), part->end());
  return s;
}

/// k parts of nearly equal size that hold every subject once, each class dealt out evenly. Throws error unless 2 <= k <= number
/// of subjects.
inline std::vector<std::vector<std::string>> stratified_folds(std::vector<classed_subject> const& subjects,
                                                              index_t k, random_key key) {
  check(k >= 2 && k <= index_t(subjects.size()), "stratified_folds: ", k, " folds of ", subjects.size(),
        " subjects; it takes at least 2 folds and a subject for each");
  std::vector<std::vector<std::string>> folds(static_cast<std::size_t>(k));
  std::size_t next = 0;  // goes on over the classes, so that sizes differ by one at most
  for (auto const& [label, members] : detail::shuffled_classes(subjects, key))
    for (auto const& id : members) folds[next++ % folds.size()].push_back(id);
  for (auto& f : folds) std::sort(f.begin(), f.end());
  return folds;
}

/// Round i of cross-validation: fold i for the test, the next one for validation (for k = 2 there is none), the others for
/// training.
inline subject_split fold_split(std::vector<std::vector<std::string>> const& folds, index_t i) {
  auto const k = index_t(folds.size());
  check(i >= 0 && i < k, "fold_split: fold ", i, " of ", k, " is asked for");
  subject_split s;
  for (index_t f = 0; f < k; ++f) {
    auto& part = f == i ? s.test : k > 2 && f == (i + 1) % k ? s.validation : s.train;
    part.insert(part.end(), folds[std::size_t(f)].begin(), folds[std::size_t(f)].end());
  }
  std::sort(s.train.begin(), s.train.end());
  return s;
}

}  // namespace insula
