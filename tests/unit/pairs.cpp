// SPDX-License-Identifier: Apache-2.0
// UMBRA's pairing rules on made-up manifests and on the shipped brains.
#include "insula/data/pairs.hpp"

#include "insula/data/manifest.hpp"
#include "support/brains.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;

namespace {

/// Scans "subject session sequence", numbered.
manifest scans(std::vector<std::array<std::string, 3>> const& names) {
  manifest m;
  for (auto const& [subject, session, sequence] : names)
    m.scans.push_back(
        {"", subject, session, sequence, subject + session + sequence + text(m.scans.size()), ""});
  detail::number_subjects(m), detail::number_sessions(m);
  return m;
}

}  // namespace

TEST_CASE("modality pairs are all unordered pairs of a session's scans of known contrast") {
  auto const m = scans({{"4", "1", "t1"},
                        {"4", "1", "t1"},
                        {"4", "1", "t2"},
                        {"4", "1", "scan_ct"},
                        {"4", "2", "t1"},
                        {"4", "2", "scan"},
                        {"5", "9", "flair"},
                        {"5", "9", "pd"},
                        {"6", "1", "scan"},
                        {"6", "1", "scan"}});
  CHECK(contrastive_pairs(m, pair_mode::modality_pairs) ==
        std::vector<scan_pair>{{0, 1, 4, 1}, {0, 2, 4, 1}, {1, 2, 4, 1}, {6, 7, 5, 9}});
  CHECK(contrastive_pairs(m, pair_mode::regular) ==
        std::vector<scan_pair>{{0, 0, 4, 1}, {1, 1, 4, 1}, {2, 2, 4, 1}, {6, 6, 5, 9}, {7, 7, 5, 9}});
  CHECK(reconstruction_items(m, reconstruction_scans::all) ==
        std::vector<index_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(reconstruction_items(m, reconstruction_scans::exclude_contrastive_pairs) ==
        std::vector<index_t>{3, 4, 5, 8, 9});
}

TEST_CASE("no scan is in a modality pair and in the exclusive reconstruction list") {
  manifest m;
  random_stream draw({7, 1, 0});
  char const* const kinds[] = {"t1", "t2", "scan", "flair", "scan_pet"};
  for (int i = 0; i < 300; ++i)
    m.scans.push_back(
        {"", text(1 + draw.below(40)), text(1 + draw.below(3)), kinds[draw.below(5)], text("p", i), ""});
  std::sort(m.scans.begin(), m.scans.end(), detail::scan_before);
  detail::number_subjects(m), detail::number_sessions(m);
  std::vector<int> uses(m.scans.size());
  for (auto const& p : contrastive_pairs(m, pair_mode::regular)) uses[std::size_t(p.first)] += 1;
  for (auto const i : reconstruction_items(m, reconstruction_scans::exclude_contrastive_pairs))
    uses[std::size_t(i)] += 1;
  CHECK(uses == std::vector<int>(m.scans.size(), 1));
  for (auto const& p : contrastive_pairs(m, pair_mode::modality_pairs)) {
    auto const &a = m.scans[std::size_t(p.first)], &b = m.scans[std::size_t(p.second)];
    CHECK((a.subject_number == p.subject && b.subject_number == p.subject && a.session_number == p.session &&
           b.session_number == p.session && p.first < p.second));
  }
}

TEST_CASE("sessions without pairs are refused with what there is and what is needed") {
  auto const m = scans({{"1", "1", "t1"}, {"1", "2", "t2"}, {"2", "1", "scan"}});
  for (auto const mode : {pair_mode::modality_pairs, pair_mode::regular}) {
    auto const said = support::message_of([&] { (void)contrastive_pairs(m, mode); });
    CHECK(said.find("of 3 sessions (3 scans), 2 have one scan of known contrast, 1 have none") != said.npos);
    CHECK(said.find("at least one session with two is needed") != said.npos);
  }
  CHECK(reconstruction_items(m, reconstruction_scans::exclude_contrastive_pairs).size() == 3);
}

TEST_CASE("the shipped brains give the three pairs of their one session with three contrasts") {
  auto const m = read_manifest(support::brain(""));
  CHECK(contrastive_pairs(m, pair_mode::modality_pairs) ==
        std::vector<scan_pair>{{0, 1, 1, 1}, {0, 2, 1, 1}, {1, 2, 1, 1}});
  CHECK(reconstruction_items(m, reconstruction_scans::exclude_contrastive_pairs) ==
        std::vector<index_t>{3, 4, 5, 6});
}
