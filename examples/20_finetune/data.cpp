// SPDX-License-Identifier: Apache-2.0
// Labelled volumes and their parts.
#include "data.hpp"

#include <set>

labelled_data::labelled_data(settings const& s, insula::extent grid, insula::thread_pool& pool)
    : s_(s),
      plain_(insula::for_grid(insula::plain_chain(), grid)),
      augmented_(insula::for_grid(insula::supervised_chain(), grid)) {
  std::vector<insula::scan_list> lists;
  std::vector<part> part_of_list;
  auto const add = [&](std::string const& path, part which) {
    if (path.empty()) return;
    lists.push_back(program::scans_of(path, s.scans, s.label)), part_of_list.push_back(which);
  };
  add(s.scans.data, part::split), add(s.train, part::train), add(s.validation, part::validation),
      add(s.test, part::test);
  std::vector<insula::scan_list const*> all;
  for (auto const& list : lists) all.push_back(&list);
  insula::check_disjoint(all);
  std::vector<std::int32_t> classes;
  for (std::size_t l = 0; l < lists.size(); ++l) {
    auto const binary = s.classification() ? insula::binary_labels(lists[l])
                                           : std::vector<std::int32_t>(lists[l].rows.size(), 0);
    classes.insert(classes.end(), binary.begin(), binary.end());
    for (auto const& p : insula::patients_of(lists[l]))
      patient_.push_back(lists[l].has_patients ? p : insula::text("table ", l + 1, ", ", p));
    for (std::size_t r = 0; r < lists[l].rows.size(); ++r)
      place_.push_back({l, insula::index_t(r), part_of_list[l]});
  }
  subjects_ = insula::classes_of_subjects(patient_, classes);
  for (auto& list : lists) sets_.push_back(program::open_scans(std::move(list), s.scans, grid, &pool));
}

items labelled_data::of(std::vector<std::string> const& patients) const {
  std::set<std::string> const wanted(patients.begin(), patients.end());
  items some;
  for (insula::index_t i = 0; i < size(); ++i)
    if (wanted.count(patient(i))) some.push_back(i);
  return some;
}

void labelled_data::check_part(char const* name, items const& part, bool may_be_empty) const {
  if (part.empty() && may_be_empty) return;
  insula::check(!part.empty(), "the part for ", name, " has no scan: add patients, or change the split");
  if (!s_.classification()) return;
  insula::index_t ones = 0;
  for (auto const i : part) ones += label(i) == 1;
  insula::check(
      ones > 0 && ones<insula::index_t(part.size()), "the part for ", name, " has one class only: all ",
                       part.size(), " labels in the column \"", s_.label, "\" are ", ones> 0
          ? 1
          : 0,
      "; a classification needs both classes in every part");
}

data_parts labelled_data::parts(insula::index_t round, double fraction) const {
  data_parts p;
  insula::random_key const key{s_.split_seed, 0x5917, 0};
  std::vector<std::string> train;
  if (!s_.scans.data.empty()) {
    auto const split = s_.folds > 0
                           ? insula::fold_split(insula::stratified_folds(subjects_, s_.folds, key), round)
                           : insula::stratified_split(subjects_, s_.part_validation, s_.part_test, key);
    insula::check_no_overlap(split);
    train = split.train, p.validation = of(split.validation), p.test = of(split.test);
  } else {
    for (insula::index_t i = 0; i < size(); ++i) {
      auto const which = place_[std::size_t(i)].in;
      if (which == part::train)
        train.push_back(patient(i));
      else
        (which == part::test ? p.test : p.validation).push_back(i);
    }
  }
  if (fraction < 1) {
    std::set<std::string> const all(train.begin(), train.end());
    std::vector<insula::classed_subject> classed;
    for (auto const& c : subjects_)
      if (all.count(c.id)) classed.push_back(c);
    train = insula::stratified_fraction(classed, fraction, key);
  }
  p.train = of(train);
  check_part("training", p.train, false), check_part("validation", p.validation, true),
      check_part("test", p.test, false);
  return p;
}

void labelled_data::volume(insula::index_t i, insula::random_key const* key, float* y) const {
  static thread_local insula::simclr_scratch scratch;
  auto const& p = place_[std::size_t(i)];
  auto const v = sets_[p.set].open(p.row);
  insula::simclr_view(v->image, v->mask, key ? augmented_ : plain_, key ? *key : insula::random_key{},
                      scratch, y);
}

std::string labelled_data::described() const {
  std::string s;
  for (auto const& set : sets_) s += insula::text(set.list().path, ": ", insula::describe(set.list()), "\n");
  return s;
}
