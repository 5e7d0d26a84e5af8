// SPDX-License-Identifier: Apache-2.0
// Which tensor of a file fills which tensor of a model: renaming, matching and a report.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/io/quote.hpp"
#include "insula/io/tensor_info.hpp"

namespace insula {

struct named_shape {
  std::string name;
  std::vector<index_t> shape;
};

/// Names and shapes of anything whose elements have a name and a shape, such as safetensors_file::tensors().
template <class Tensors>
std::vector<named_shape> named_shapes(Tensors const& tensors) {
  std::vector<named_shape> v;
  for (auto const& t : tensors) v.push_back({t.name, {t.shape.begin(), t.shape.end()}});
  return v;
}

/// Replaces the prefix `from` of a name by `to`; an empty `from` puts `to` in front of every name.
struct rename_rule {
  std::string from, to;
};

/// Applies rules to names one after the other, each to what the one before made. Gives those that fit no name.
inline std::vector<rename_rule> apply_renames(std::vector<std::string>& names,
                                              std::vector<rename_rule> const& rules) {
  std::vector<rename_rule> unused;
  for (auto const& rule : rules) {
    bool used = false;
    for (auto& n : names)
      if (n.starts_with(rule.from)) n.replace(0, rule.from.size(), rule.to), used = true;
    if (!used) unused.push_back(rule);
  }
  return unused;
}

struct mapping_options {
  /// Applied to the file's names one after the other, each to what the one before made.
  std::vector<rename_rule> renames{};
  /// Prefixes of the file's names that may be removed, any number of times, as far as that makes names match.
  std::vector<std::string> prefixes{"module.",   "model.",   "_orig_mod.", "state_dict.",
                                    "network.",  "net.",     "teacher.",   "student.",
                                    "backbone.", "encoder.", "swinViT.",   "encoder_q."};
  std::vector<std::string> ignored{};  ///< prefixes of (renamed) file tensors that the model need not use
  std::vector<std::string>
      ignored_endings{};  ///< the same by the ends of their names, such as an index table's
  std::vector<std::string>
      optional{};      ///< prefixes of model tensors that the file need not have, such as a new head
  bool strict = true;  ///< throw unless every tensor is matched, ignored or optional
};

/// The outcome. Indices point into the two lists given to map_names().
struct mapping {
  struct match {
    std::size_t wanted, source;
  };
  struct gap {
    std::size_t wanted;
    std::vector<std::size_t> candidates;  // unused tensors of the file, nearest first
    bool optional;
  };
  struct clash {
    std::size_t wanted;
    std::vector<std::size_t> sources;  // two or more become the same name
  };

  std::vector<match> matched, wrong_shape;
  std::vector<gap> missing;
  std::vector<std::size_t> unexpected, ignored;
  std::vector<clash> ambiguous;
  std::vector<rename_rule> unused_rules;  // they fit no name: a typing error?
  std::string stripped;                   // the prefix that was removed from the file's names
  std::vector<named_shape> wanted, source;
  std::vector<std::string> renamed;  // the file's names after rules and prefix

  /// True if every wanted tensor has its match, but for optional ones, and nothing is left over, but for
  /// ignored ones.
  bool complete() const {
    return wrong_shape.empty() && unexpected.empty() && ambiguous.empty() && unused_rules.empty() &&
           std::all_of(missing.begin(), missing.end(), [](gap const& g) { return g.optional; });
  }
  /// One line: "matched 148, missing 2, unexpected 4, wrong shape 0, ambiguous 0".
  std::string summary() const {
    return text("matched ", matched.size(), ", missing ", missing.size(), ", unexpected ", unexpected.size(),
                ", wrong shape ", wrong_shape.size(), ", ambiguous ", ambiguous.size());
  }
  /// The report: summary, then what does not fit, at most `most` lines of each kind.
  std::string report(std::size_t most = 40) const;
};

namespace detail {

/// Columns padded to equal width; at most `most` rows and a line that tells how many there are besides.
inline std::string aligned(std::vector<std::vector<std::string>> rows, std::size_t most) {
  std::size_t const all = rows.size();
  if (rows.size() > most) rows.resize(most);
  std::vector<std::size_t> width;
  for (auto const& r : rows)
    for (std::size_t c = 0; c < r.size(); ++c) {
      if (c == width.size()) width.push_back(0);
      width[c] = std::max(width[c], r[c].size());
    }
  std::string s;
  for (auto const& r : rows) {
    std::string line;
    for (std::size_t c = 0; c < r.size(); ++c) line += "  " + r[c] + std::string(width[c] - r[c].size(), ' ');
    line.erase(line.find_last_not_of(' ') + 1);
    s += line + '\n';
  }
  if (all > rows.size()) s += text("  ... and ", all - rows.size(), " more\n");
  return s;
}

inline bool starts_with_any(std::string_view name, std::vector<std::string> const& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](auto const& p) { return name.starts_with(p); });
}

inline bool ends_with_any(std::string_view name, std::vector<std::string> const& endings) {
  return std::any_of(endings.begin(), endings.end(), [&](auto const& e) { return name.ends_with(e); });
}

inline std::string_view without(std::string_view prefix, std::string_view name) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

/// Searches the chain of known prefixes whose removal matches the most wanted names; the shortest of equally
/// good ones.
struct prefix_search {
  std::set<std::string, std::less<>> const& wanted;
  std::vector<std::string> const& names;
  std::vector<std::string> const& prefixes;
  std::string best{};
  std::size_t most = 0;

  void run(std::string const& chain = "", int depth = 0) {
    std::set<std::string_view> hits;
    for (auto const& n : names)
      if (auto const bare = without(chain, n); wanted.contains(bare)) hits.insert(bare);
    if (hits.size() > most) most = hits.size(), best = chain;
    if (depth == 4) return;
    for (auto const& p : prefixes) {
      auto const next = chain + p;
      if (std::any_of(names.begin(), names.end(), [&](auto const& n) { return n.starts_with(next); }))
        run(next, depth + 1);
    }
  }
};

/// At most two unused tensors that are like a missing one: of equal shape first, then by edit distance, among
/// those whose names end alike.
inline std::vector<std::size_t> nearest_tensors(mapping const& m, named_shape const& gap) {
  struct likeness {
    bool other_shape;
    std::size_t tail, edits, index;
    auto operator<=>(likeness const&) const = default;
  };
  std::vector<likeness> all;
  for (auto const i : m.unexpected) {
    std::string_view const a = gap.name, b = m.renamed[i];
    auto const short_of = std::min(a.size(), b.size());
    std::size_t same = 0;
    while (same < short_of && a[a.size() - 1 - same] == b[b.size() - 1 - same]) ++same;
    all.push_back({m.source[i].shape != gap.shape, std::string_view::npos - same, 0, i});
  }
  std::sort(all.begin(), all.end());
  if (all.size() > 16) all.resize(16);  // edit distances of long lists are slow
  for (auto& l : all)
    l.edits = edit_distance(gap.name.substr(0, 200), m.renamed[l.index].substr(0, 200)), l.tail = 0;
  std::sort(all.begin(), all.end());
  std::vector<std::size_t> indices;
  for (auto const& l : all)
    if (indices.size() < 2 && (!l.other_shape || 2 * l.edits <= gap.name.size())) indices.push_back(l.index);
  return indices;
}

}  // namespace detail

inline std::string mapping::report(std::size_t most) const {
  auto const shape = [](named_shape const& t) { return shape_text(t.shape); };
  auto const was = [&](std::size_t i) {
    return source[i].name == renamed[i] ? std::string{} : "(in the file: " + quote(source[i].name) + ")";
  };
  std::string s = summary() + '\n';
  if (!stripped.empty()) s += "removed the prefix " + quote(stripped) + " from the file's names\n";
  for (auto const& r : unused_rules)
    s += "the rename rule " + quote(r.from) + " -> " + quote(r.to) + " fits no name\n";
  std::vector<std::vector<std::string>> rows;
  auto const section = [&](std::string_view title) {
    if (!rows.empty()) s += text(title, " (", rows.size(), "):\n") + detail::aligned(rows, most);
    rows.clear();
  };
  for (auto const& g : missing) {
    std::string near;
    for (auto const i : g.candidates)
      near += (near.empty() ? "nearest: " : ", ") + quote(renamed[i]) + ' ' + shape(source[i]);
    rows.push_back({quote(wanted[g.wanted].name), shape(wanted[g.wanted]), g.optional ? "optional" : near});
  }
  section("missing in the file");
  for (auto const& w : wrong_shape)
    rows.push_back({quote(wanted[w.wanted].name), "model " + shape(wanted[w.wanted]),
                    "file " + shape(source[w.source]), was(w.source)});
  section("wrong shape");
  for (auto const i : unexpected) rows.push_back({quote(renamed[i]), shape(source[i]), was(i)});
  section("unexpected in the file");
  for (auto const& c : ambiguous) {
    std::string names;
    for (auto const i : c.sources) names += (names.empty() ? "" : ", ") + quote(source[i].name);
    rows.push_back({quote(wanted[c.wanted].name), "could be " + names});
  }
  section("ambiguous");
  return s;
}

/// Maps the tensors of a file to those of a model by name and shape. First the rename rules, then the one
/// chain of known prefixes whose removal matches most names, if any. `file` is the name in messages. Throws
/// error with the report if options.strict and the mapping is not complete().
inline mapping map_names(std::vector<named_shape> wanted, std::vector<named_shape> source,
                         std::string_view file, mapping_options const& options = mapping_options{}) {
  mapping m;
  m.wanted = std::move(wanted), m.source = std::move(source);
  std::set<std::string, std::less<>> names;
  for (auto const& w : m.wanted)
    check(names.insert(w.name).second, "map_names: the model names ", quote(w.name), " twice");

  for (auto const& t : m.source) m.renamed.push_back(t.name);
  m.unused_rules = apply_renames(m.renamed, options.renames);
  detail::prefix_search search{names, m.renamed, options.prefixes};
  search.run();
  m.stripped = search.best;
  std::map<std::string, std::vector<std::size_t>, std::less<>> sources;
  for (std::size_t i = 0; i < m.renamed.size(); ++i) {
    m.renamed[i] = std::string(detail::without(m.stripped, m.renamed[i]));
    if (names.contains(m.renamed[i]))
      sources[m.renamed[i]].push_back(i);
    else
      (detail::starts_with_any(m.renamed[i], options.ignored) ||
               detail::ends_with_any(m.renamed[i], options.ignored_endings)
           ? m.ignored
           : m.unexpected)
          .push_back(i);
  }
  for (std::size_t w = 0; w < m.wanted.size(); ++w) {
    auto const& want = m.wanted[w];
    auto const found = sources.find(want.name);
    if (found == sources.end())
      m.missing.push_back(
          {w, detail::nearest_tensors(m, want), detail::starts_with_any(want.name, options.optional)});
    else if (found->second.size() > 1)
      m.ambiguous.push_back({w, found->second});
    else
      (m.source[found->second[0]].shape == want.shape ? m.matched : m.wrong_shape)
          .push_back({w, found->second[0]});
  }
  if (options.strict && !m.complete())
    fail(file, " does not fit the model: ", m.report(),
         "add rename rules, mark tensors as ignored or optional, or allow an incomplete load");
  return m;
}

}  // namespace insula
