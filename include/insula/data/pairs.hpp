// SPDX-License-Identifier: Apache-2.0
// What one training item is: pairs of a session's scans for contrastive learning, single scans for reconstruction.
#pragma once

#include "insula/data/scan.hpp"

namespace insula {

/// modality_pairs: two scans of a session; regular: one scan, seen twice.
enum class pair_mode { modality_pairs, regular };

/// Two places in manifest::scans, equal in `regular` mode, and whose they are.
struct scan_pair {
  index_t first = 0, second = 0;
  std::int64_t subject = 0, session = 0;
  friend bool operator==(scan_pair const&, scan_pair const&) = default;
};

/// all: every scan; exclude_contrastive_pairs: those that modality pairs do not use.
enum class reconstruction_scans { all, exclude_contrastive_pairs };

namespace detail {

/// The places of one session's scans: of known contrast, and "scan...".
struct session_scans {
  std::vector<index_t> known, unknown;
};

/// Sessions in the order of the manifest, which is sorted. Scans of unsorted manifests are grouped as well.
inline std::vector<session_scans> sessions_of(manifest const& m) {
  std::map<std::tuple<std::string, std::string, std::string>, session_scans> sessions;
  for (std::size_t i = 0; i < m.scans.size(); ++i) {
    auto const& s = m.scans[i];
    auto& session = sessions[{s.dataset, s.subject, s.session}];
    (s.sequence.starts_with("scan") ? session.unknown : session.known).push_back(index_t(i));
  }
  std::vector<session_scans> v;
  for (auto& [key, s] : sessions) v.push_back(std::move(s));
  return v;
}

}  // namespace detail

/// UMBRA's contrastive items. Per session, of the scans whose contrast does not start with "scan": modality_pairs gives all
/// unordered pairs (two scans of one contrast as well), regular one item per scan. Sessions with fewer than two such scans
/// are left out in both modes. Throws error if nothing is left. BraveDistribution/UMBRA, data/contrastive_dataset.py.
inline std::vector<scan_pair> contrastive_pairs(manifest const& m, pair_mode mode) {
  std::vector<scan_pair> pairs;
  auto const sessions = detail::sessions_of(m);
  auto const add = [&](index_t a, index_t b) {
    auto const& s = m.scans[std::size_t(a)];
    pairs.push_back({a, b, s.subject_number, s.session_number});
  };
  index_t single = 0;
  for (auto const& [known, unknown] : sessions) {
    single += known.size() == 1;
    if (known.size() < 2) continue;
    for (std::size_t i = 0; i < known.size(); ++i)
      if (mode == pair_mode::regular)
        add(known[i], known[i]);
      else
        for (std::size_t k = i + 1; k < known.size(); ++k) add(known[i], known[k]);
  }
  check(!pairs.empty(), "contrastive_pairs: sessions without pairs: of ", sessions.size(), " sessions (",
        m.scans.size(), " scans), ", single, " have one scan of known contrast, ",
        index_t(sessions.size()) - single,
        " have none, and at least one session with two is needed (t1 and t2 of one visit, say; \"scan...\" "
        "does not count). "
        "Train on masked reconstruction alone, or add sessions with several contrasts");
  return pairs;
}

/// UMBRA's masked reconstruction items: places of all scans, or of those in no modality pair: every "scan..." and the only
/// scan of known contrast of its session. In the order of the manifest; may be empty. data/mae_dataset.py.
inline std::vector<index_t> reconstruction_items(manifest const& m, reconstruction_scans which) {
  std::vector<index_t> items;
  for (auto const& [known, unknown] : detail::sessions_of(m)) {
    items.insert(items.end(), unknown.begin(), unknown.end());
    if (which == reconstruction_scans::all || known.size() == 1)
      items.insert(items.end(), known.begin(), known.end());
  }
  std::sort(items.begin(), items.end());
  return items;
}

}  // namespace insula
