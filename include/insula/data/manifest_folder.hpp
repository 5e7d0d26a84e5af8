// SPDX-License-Identifier: Apache-2.0
// Reading a folder of FOMO, UMBRA or BIDS layout into a manifest.
#pragma once

#include <filesystem>
#include <optional>

#include "insula/data/scan.hpp"
#include "insula/data/scan_name.hpp"
#include "insula/io/file.hpp"

namespace insula {

namespace detail {

/// Where a file lies: "<dataset>/sub_<subject>/ses_<session>/<folder>/<name>".
struct place_in_tree {
  std::string dataset, subject, session;
  bool bids = false;  // "sub-" and not "sub_"
};

/// "7" of "sub_7" or "sub-7"; "" if the component has no such form.
inline std::string after_key(std::string const& component, std::string_view key) {
  bool const fits = component.size() > key.size() + 1 && component.starts_with(key) &&
                    (component[key.size()] == '_' || component[key.size()] == '-');
  return fits ? component.substr(key.size() + 1) : std::string();
}

/// Takes the first "sub_"/"sub-" folder of a path; the folders before it are the data set. Nothing if there is none.
inline std::optional<place_in_tree> place_of(std::filesystem::path const& relative) {
  place_in_tree p;
  for (auto const& part : relative.parent_path()) {
    std::string const c = part.string();
    if (!p.subject.empty()) {
      if (p.session.empty()) p.session = after_key(c, "ses");
    } else if (p.subject = after_key(c, "sub"); !p.subject.empty()) {
      p.bids = c[3] == '-';
    } else if (c != "." && c != "/") {
      p.dataset += (p.dataset.empty() ? "" : "/") + c;
    }
  }
  if (p.subject.empty()) return {};
  return p;
}

/// All files below a folder, sorted. Hidden entries and BIDS's folders of other things (derivatives, sourcedata, code) are
/// passed over; links to folders are followed, unless to a folder that contains them. Ends at a depth of `most_depth`.
class tree_walk {
 public:
  explicit tree_walk(std::string const& root) { visit(std::filesystem::path(root), "", 0); }
  std::vector<std::string> files;  // relative to the root

 private:
  static constexpr int most_depth = 8;

  void visit(std::filesystem::path const& folder, std::string const& relative, int depth) {
    namespace fs = std::filesystem;
    std::error_code e;
    fs::path const real = fs::canonical(folder, e);
    if (e) fail_errno("list the folder", folder.string(), e.value());
    if (std::find(open_.begin(), open_.end(), real) != open_.end()) return;
    open_.push_back(real);
    std::vector<fs::directory_entry> entries;
    for (fs::directory_iterator it(folder, e), end; !e && it != end; it.increment(e)) entries.push_back(*it);
    if (e) fail_errno("list the folder", folder.string(), e.value());
    std::sort(entries.begin(), entries.end());
    for (auto const& entry : entries) {
      std::string const name = entry.path().filename().string();
      if (name.starts_with('.') || name == "derivatives" || name == "sourcedata" || name == "code") continue;
      std::string const inside = relative.empty() ? name : relative + "/" + name;
      std::error_code dangling;
      if (!entry.is_directory(dangling))
        files.push_back(inside);
      else if (depth < most_depth)
        visit(entry.path(), inside, depth + 1);
    }
    open_.pop_back();
  }

  std::vector<std::filesystem::path> open_;  // from the root to here
};

/// Sorts the files of a tree into scans, masks, segmentations and others.
class tree_reader {
 public:
  explicit tree_reader(std::string root) : root_(std::move(root)) {}

  manifest read() {
    for (auto const& f : tree_walk(root_).files) take(f);
    std::sort(m_.scans.begin(), m_.scans.end(), scan_before);
    attach();
    for (auto const& [kind, n] : ignored_)
      m_.notes.push_back(text(n, n == 1 ? " image" : " images", " of kind ", quote(kind), " left out"));
    return std::move(m_);
  }
  std::size_t images() const { return images_; }

 private:
  struct attachment {
    std::string sequence, path;
    file_role role;
  };
  using session_key = std::tuple<std::string, std::string, std::string>;

  void take(std::string const& relative) {
    std::filesystem::path const path(relative);
    std::string const name = path.filename().string(), stem = image_stem(name),
                      whole = root_ + "/" + relative;
    auto const where = place_of(path);
    if (where && lower(name).ends_with(".zip"))
      m_.problems.push_back({whole, "the session is packed; unpack it first"});
    if (where && header_without_image(whole))
      m_.problems.push_back({whole, "the .img with its voxels is missing"});
    if (stem.empty()) return;
    ++images_;
    if (!where) return void(++ignored_["outside of sub_<n> folders"]);
    file_meaning const what = where->bids ? bids_name(stem) : fomo_name(stem);
    session_key const session{where->dataset, where->subject, where->session};
    if (what.role == file_role::other) {
      ++ignored_[what.why];
    } else if (what.role != file_role::scan) {
      attachments_[session].push_back({what.sequence, whole, what.role});
    } else if (auto const [at, fresh] = stems_.emplace(folder_of(whole) + "/" + stem, whole); !fresh) {
      m_.problems.push_back({whole, text("the same scan is also stored as ", quote(at->second, 4096),
                                         ", which is used; remove one")});
    } else {
      m_.scans.push_back({where->dataset, where->subject, where->session, what.sequence, whole, ""});
    }
  }
  static bool header_without_image(std::string const& path) {
    std::string const l = lower(path);
    for (std::string_view const end : {".hdr", ".hdr.gz"}) {
      if (!l.ends_with(end)) continue;
      std::string const stem = path.substr(0, path.size() - end.size());
      std::error_code e;
      return !std::filesystem::exists(stem + ".img", e) && !std::filesystem::exists(stem + ".img.gz", e);
    }
    return false;
  }
  /// A mask of "t1" belongs to t1 alone and goes before the session's.
  void attach() {
    for (auto& s : m_.scans) {
      auto const found = attachments_.find({s.dataset, s.subject, s.session});
      if (found == attachments_.end()) continue;
      for (bool const own : {false, true})
        for (auto const& a : found->second)
          if (own ? a.sequence == s.sequence : a.sequence.empty())
            (a.role == file_role::mask ? s.mask : s.labels["segmentation"]) = a.path;
    }
  }

  std::string root_;
  manifest m_;
  std::size_t images_ = 0;
  std::map<std::string, std::string> stems_;
  std::map<session_key, std::vector<attachment>> attachments_;
  std::map<std::string, int> ignored_;
};

}  // namespace detail

/// Scans below a folder, in one of these layouts, told apart by file (".nii", ".nii.gz", ".hdr" with ".img", and ".npy" everywhere):
///   FOMO, UMBRA   [<dataset>/]sub_<X>/[ses_<Y>/]<sequence>[_<n>].nii.gz
///   BIDS          [<dataset>/]sub-<X>/[ses-<Y>/][anat|dwi/]sub-<X>[_ses-<Y>][_key-value]_T1w.nii.gz, or just t1w.nii.gz
/// Brain masks and segmentations are attached to the scans of their session. Subjects are not yet numbered. Throws error
/// that names the folder and the layouts if there is no scan.
inline manifest read_tree(std::string const& folder) {
  std::error_code e;
  check(std::filesystem::is_directory(folder, e), "read_manifest ", quote(folder, 4096),
        ": there is no such folder; check the path");
  std::string root = std::filesystem::path(folder).lexically_normal().string();
  while (root.size() > 1 && root.back() == '/') root.pop_back();
  detail::tree_reader reader(root);
  manifest m = reader.read();
  if (m.scans.empty()) {
    std::string seen = reader.images() == 0
                           ? "it holds no .nii, .nii.gz, .img or .npy file"
                           : text("none of its ", reader.images(), " image files is a scan there");
    for (auto const& n : m.notes) seen += "; " + n;
    if (!m.problems.empty()) seen += "; " + describe(m.problems, 3);
    fail("read_manifest ", quote(folder, 4096), ": no scans found: ", seen,
         ". Looked for sub_<X>/ses_<Y>/<sequence>.nii.gz (FOMO; also .nii and .npy, below any data set "
         "folders) and "
         "sub-<X>/[ses-<Y>/]anat/..._T1w.nii.gz (BIDS); or name a .csv, .tsv or .json list of scans");
  }
  return m;
}

}  // namespace insula
