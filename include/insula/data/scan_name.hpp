// SPDX-License-Identifier: Apache-2.0
// What the name of an image file says: contrast, mask or segmentation, in FOMO's and in BIDS's spelling.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "insula/base/check.hpp"

namespace insula {

enum class file_role { scan, mask, segmentation, other };

/// `sequence` is the contrast of a scan; for a mask or segmentation the contrast it belongs to, "" for the whole session.
/// `why` says what an `other` is.
struct file_meaning {
  file_role role = file_role::other;
  std::string sequence, why{};
};

namespace detail {

inline std::string lower(std::string_view s) {
  std::string t(s);
  for (char& c : t)
    if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
  return t;
}

// of a pair the .img is the scan: a cache sees when its voxels change
inline constexpr std::array<std::string_view, 5> image_extensions{".nii.gz", ".nii", ".npy", ".img.gz",
                                                                  ".img"};

/// The name without its image extension; "" if it has none.
inline std::string image_stem(std::string_view name) {
  std::string const l = lower(name);
  for (auto const e : image_extensions)
    if (l.size() > e.size() && std::string_view(l).ends_with(e))
      return std::string(name.substr(0, name.size() - e.size()));
  return {};
}

/// "t1_2" -> "t1".
inline std::string without_run(std::string s) {
  auto const at = s.find_last_of('_');
  bool const run =
      at != s.npos && at > 0 && at + 1 < s.size() && s.find_first_not_of("0123456789", at + 1) == s.npos;
  return run ? s.substr(0, at) : s;
}

/// Removes the first of `ends` (and a "_" or "-" before it) that s ends in or is; false if there is none.
template <std::size_t N>
bool strip_end(std::string& s, std::array<std::string_view, N> const& ends) {
  for (auto const e : ends) {
    if (!std::string_view(s).ends_with(e)) continue;
    std::size_t const left = s.size() - e.size();
    if (left > 0 && s[left - 1] != '_' && s[left - 1] != '-') continue;
    return s.resize(left > 0 ? left - 1 : 0), true;
  }
  return false;
}

inline constexpr std::array<std::string_view, 7> mask_words{
    "brain_mask", "brain-mask", "brainmask", "mask_brain", "head_mask", "mask", "bet_mask"};
inline constexpr std::array<std::string_view, 9> segmentation_words{
    "segmentation", "probseg", "dseg", "aseg", "seg", "labels", "label", "lesion_mask", "lesion"};

struct suffix_contrast {
  std::string_view suffix, sequence;
};
inline constexpr std::array<suffix_contrast, 27> bids_suffixes{{{"t1w", "t1"},
                                                                {"t1", "t1"},
                                                                {"t2w", "t2"},
                                                                {"t2", "t2"},
                                                                {"flair", "flair"},
                                                                {"pdw", "pd"},
                                                                {"pd", "pd"},
                                                                {"dwi", "dwi"},
                                                                {"adc", "adc"},
                                                                {"swi", "swi"},
                                                                {"t2starw", "t2s"},
                                                                {"t2star", "t2s"},
                                                                {"t1c", "t1c"},
                                                                {"t1ce", "t1c"},
                                                                {"pdt2", "pdt2"},
                                                                {"unit1", "unit1"},
                                                                {"mp2rage", "mp2rage"},
                                                                {"angio", "angio"},
                                                                {"inplanet1", "t1"},
                                                                {"inplanet2", "t2"},
                                                                {"t1map", "t1map"},
                                                                {"t2map", "t2map"},
                                                                {"t2starmap", "t2smap"},
                                                                {"pdmap", "pdmap"},
                                                                {"minip", "minip"},
                                                                {"fa", "fa"},
                                                                {"trace", "trace"}}};

/// "" if the suffix names no structural contrast.
inline std::string_view contrast_of_suffix(std::string_view lower_suffix) {
  for (auto const& [suffix, sequence] : bids_suffixes)
    if (suffix == lower_suffix) return sequence;
  return {};
}

}  // namespace detail

/// FOMO60K and UMBRA: "<seq>[_<n>]" is a scan; "mask", "brain_mask", "<seq>_mask" are brain masks; "seg", "<seq>_seg",
/// "label", "lesion", ... are segmentations. `stem` has no extension.
inline file_meaning fomo_name(std::string_view stem) {
  std::string s = detail::without_run(detail::lower(stem));
  if (detail::strip_end(s, detail::segmentation_words)) return {file_role::segmentation, s};
  if (detail::strip_end(s, detail::mask_words)) return {file_role::mask, s};
  return {file_role::scan, s};
}

/// BIDS: "[sub-..._][ses-..._][key-value_]...<suffix>"; also a bare suffix such as "t1w". Suffixes of other kinds (bold, epi),
/// phase, real and imaginary images are `other`. A contrast agent (ce-...) makes T1w "t1c".
inline file_meaning bids_name(std::string_view stem) {
  std::string const s = detail::lower(stem);
  auto const last = s.find_last_of('_');
  std::string const suffix = last == s.npos ? s : s.substr(last + 1);
  auto const entity = [&](std::string_view key) -> std::string {
    std::string const mark = text("_", key, "-"), whole = "_" + s;
    auto const at = whole.find(mark);
    if (at == whole.npos) return {};
    auto const from = at + mark.size();
    return whole.substr(from, whole.find('_', from) - from);
  };
  if (suffix == "mask") return {entity("label") == "lesion" ? file_role::segmentation : file_role::mask, ""};
  if (suffix == "dseg" || suffix == "probseg" || suffix == "roi") return {file_role::segmentation, ""};
  if (auto const part = entity("part"); !part.empty() && part != "mag")
    return {file_role::other, "", "part-" + part};
  std::string const sequence{detail::contrast_of_suffix(suffix)};
  if (sequence.empty()) return {file_role::other, "", suffix};
  return {file_role::scan, sequence == "t1" && !entity("ce").empty() ? "t1c" : sequence};
}

}  // namespace insula
