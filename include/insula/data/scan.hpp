// SPDX-License-Identifier: Apache-2.0
// What a data set holds: scans with their subject, session and contrast, and the files that could not be used.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/io/quote.hpp"

namespace insula {

/// One volume on disk. Names are as on disk without "sub_"/"sub-" and "ses_"/"ses-".
struct scan {
  std::string dataset;   // "" if the tree has no such level
  std::string subject;   // unique within its data set
  std::string session;   // "" if the tree has no such level
  std::string sequence;  // "t1", "t2", "flair", ...; "scan..." if unknown
  std::string path;
  std::string mask;  // brain mask, "" if there is none
  std::map<std::string, std::string> labels{};
  std::int64_t subject_number = 0;  // one per subject over all data sets, never 0
  std::int64_t session_number = 0;  // one per session within its subject, never 0
  friend bool operator==(scan const&, scan const&) = default;
};

/// A file that could not be used, and why.
struct problem {
  std::string path, reason;
  friend bool operator==(problem const&, problem const&) = default;
};

/// What happens to files that cannot be used: they are listed and left out, or all of them are named in an error.
enum class bad_files { skip, refuse };

/// Scans sorted by data set, subject, session and path (in the order of strings, so the same on every machine).
struct manifest {
  std::vector<scan> scans;
  std::vector<problem> problems;
  std::vector<std::string> notes;  // decisions the importer made, one sentence each
};

/// The subject's name over all data sets: "7", or "ds01/7".
inline std::string subject_key(scan const& s) {
  return s.dataset.empty() ? s.subject : s.dataset + "/" + s.subject;
}

/// The subjects of a manifest, each once, in the order of strings: what the functions of split.hpp take.
inline std::vector<std::string> subjects_of(manifest const& m) {
  std::vector<std::string> keys;
  for (auto const& s : m.scans) keys.push_back(subject_key(s));
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

/// "3 files cannot be used:\n  'a.nii.gz': why\n ...", at most `most` of them; "" if there are none.
inline std::string describe(std::vector<problem> const& problems, std::size_t most = 10) {
  if (problems.empty()) return {};
  std::string s = text(problems.size(), problems.size() == 1 ? " file" : " files", " cannot be used:");
  for (std::size_t i = 0; i < std::min(most, problems.size()); ++i)
    s += text("\n  ", quote(problems[i].path, 4096), ": ", problems[i].reason);
  if (problems.size() > most) s += text("\n  and ", problems.size() - most, " more");
  return s;
}

namespace detail {

/// The positive whole number that a name is, such as 7 for "007"; 0 if it is none.
inline std::int64_t positive_number(std::string_view name) {
  if (name.empty() || name.size() > 18) return 0;
  std::int64_t n = 0;
  for (char const c : name) {
    if (c < '0' || c > '9') return 0;
    n = n * 10 + (c - '0');
  }
  return n;
}

/// The numbers of sorted distinct names: their own if all are positive and differ, else 1, 2, 3, ...
/// `because` then says which name had none of its own.
inline std::vector<std::int64_t> numbers_of(std::vector<std::string> const& names, std::string& because) {
  std::vector<std::int64_t> numbers;
  std::map<std::int64_t, std::string> owner;
  because.clear();
  for (auto const& name : names) {
    auto const n = positive_number(name);
    auto const [at, fresh] = owner.emplace(n, name);
    if (n == 0)
      because = text(quote(name), " is no whole number above 0");
    else if (!fresh)
      because = text(quote(at->second), " and ", quote(name), " are the same number");
    if (!because.empty()) break;
    numbers.push_back(n);
  }
  if (because.empty()) return numbers;
  numbers.resize(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) numbers[i] = std::int64_t(i) + 1;
  return numbers;
}

inline bool scan_before(scan const& a, scan const& b) {
  return std::tie(a.dataset, a.subject, a.session, a.path) <
         std::tie(b.dataset, b.subject, b.session, b.path);
}

/// Subject numbers: those of the names if these are distinct positive whole numbers over all data sets, else by rank.
inline void number_subjects(manifest& m) {
  std::map<std::pair<std::string, std::string>, std::int64_t> number;
  for (auto const& s : m.scans) number[{s.dataset, s.subject}] = 0;
  std::vector<std::string> names;
  for (auto const& [key, n] : number) names.push_back(key.second);
  std::string because;
  auto const numbers = numbers_of(names, because);
  std::size_t i = 0;
  for (auto& [key, n] : number) n = numbers[i++];
  for (auto& s : m.scans) s.subject_number = number[{s.dataset, s.subject}];
  if (!because.empty())
    m.notes.push_back(text("subjects are numbered 1 to ", names.size(),
                           " in the order of their names, for subject ", because));
}

/// Session numbers, within each subject.
inline void number_sessions(manifest& m) {
  std::map<std::int64_t, std::map<std::string, std::int64_t>> number;
  for (auto const& s : m.scans) number[s.subject_number][s.session] = 0;
  for (auto& [subject, sessions] : number) {
    std::vector<std::string> names;
    for (auto const& [name, n] : sessions) names.push_back(name);
    std::string because;
    auto const numbers = numbers_of(names, because);
    std::size_t i = 0;
    for (auto& [name, n] : sessions) n = numbers[i++];
  }
  for (auto& s : m.scans) s.session_number = number[s.subject_number][s.session];
}

/// Throws error if problems are to be refused and there are any, or if no scan is left.
inline void settle(manifest const& m, bad_files how, std::string const& where) {
  check(how == bad_files::skip || m.problems.empty(), "read_manifest ", quote(where, 4096), ": ",
        describe(m.problems), "\nrepair or remove them, or ask for bad_files::skip");
  check(!m.scans.empty(), "read_manifest ", quote(where, 4096), ": no scan is left; ", describe(m.problems));
}

}  // namespace detail

}  // namespace insula
