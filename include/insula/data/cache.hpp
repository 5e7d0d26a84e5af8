// SPDX-License-Identifier: Apache-2.0
// Preprocessed volumes, made once: on disk and shared by all processes of a machine, or in memory.
#pragma once

#include <atomic>

#include "insula/data/cache_lock.hpp"
#include "insula/data/cache_plan.hpp"

namespace insula {

namespace detail {

inline void check_least(extent size, extent least) {
  check(size.d >= least.d && size.h >= least.h && size.w >= least.w, "the volume has ", size,
        " voxels after preprocessing, at least ", least, " are wanted");
}

/// The manifest without the scans that have a reason; refuses them if asked.
inline manifest without_bad(manifest m, std::vector<std::string> const& reasons, bad_files how) {
  std::size_t const before = m.problems.size();
  drop_scans(m, reasons);
  std::vector<problem> const fresh(m.problems.begin() + std::ptrdiff_t(before), m.problems.end());
  check(how == bad_files::skip || fresh.empty(), "cache: ", describe(fresh),
        "\nrepair or remove them, or ask for bad_files::skip");
  check(!m.scans.empty(), "cache: no volume is left; ", describe(fresh));
  return m;
}

}  // namespace detail

/// The preprocessed volumes of a manifest, one mapped file per scan in o.folder. The constructor writes what is missing, on
/// `pool` if there is one, and shares that work with other processes that do the same; a build that was interrupted goes on
/// where it stopped. Volume i belongs to contents().scans[i], which are the manifest's scans without the bad ones: make pairs
/// from contents(). Throws error if the disk is full, if cache files are stale and to be refused, if bad sources are to be
/// refused, and if nothing is left.
class volume_cache {
 public:
  volume_cache(manifest const& m, pipeline p, cache_options o, thread_pool* pool = nullptr)
      : pipeline_(std::move(p)), json_(to_json(pipeline_)), options_(std::move(o)) {
    check(!options_.folder.empty(), "volume_cache: no folder is named; set cache_options::folder");
    check_stored(options_.stored);
    std::error_code e;
    std::filesystem::create_directories(options_.folder, e);
    if (e) fail_errno("create the folder", options_.folder, e.value());
    (void)remove_stale_temporaries(options_.folder);
    std::vector<std::string> reasons(m.scans.size());
    std::vector<char> busy(m.scans.size(), 0);
    for (bool const wait :
         {false, true})  // first what nobody else is making, then what others have not finished
      for_tasks(pool, index_t(m.scans.size()), [&](index_t i) {
        auto const k = std::size_t(i);
        if (!wait || busy[k]) busy[k] = !provide(m.scans[k].path, wait, reasons[k]);
      });
    contents_ = detail::without_bad(m, reasons, options_.bad);
    for (auto const& s : contents_.scans) files_.push_back(file_of(s.path));
    checked_ = std::make_unique<std::atomic<bool>[]>(files_.size());
  }

  /// What is in the cache, and in `problems` what is not.
  manifest const& contents() const { return contents_; }
  index_t size() const { return index_t(files_.size()); }
  /// Volumes that this process wrote.
  index_t built() const { return built_; }

  /// Volume i, mapped. Its checksum is verified when a process opens it first. A file that is damaged or gone is made anew from
  /// the source, unless stale cache files are to be refused; throws error if that fails. May be called from many threads.
  cached_volume open(index_t i) const {
    check(i >= 0 && i < size(), "volume_cache: volume ", i, " of ", size(), " is asked for");
    cached_volume v = open_or_make(std::size_t(i));
    cache_key const key = v.key();
    check(key.pipeline == json_ && key.stored == options_.stored,
          "volume_cache: ", quote(files_[std::size_t(i)], 4096),
          " was replaced by another run, with the preprocessing ", key.pipeline, " as ", name_of(key.stored),
          ": give each preprocessing a folder of its own");
    return v;
  }
  /// A copy of volume i, for augmentation.
  volume read(index_t i) const { return open(i).copy(); }

 private:
  std::string file_of(std::string const& source) const {
    return detail::cache_file_path(options_.folder,
                                   std::filesystem::absolute(source).lexically_normal().string());
  }
  cached_volume open_or_make(std::size_t k) const {
    try {
      return open_checked(k);
    } catch (error const&) {
      if (options_.stale == stale_cache::refuse) throw;
    }
    std::string const& source = contents_.scans[k].path;
    auto const lock = detail::folder_lock::take(options_.folder, fingerprint(files_[k]), true);
    cache_key const key = key_of(source, json_, options_.stored);
    if (inspect_cache_file(files_[k], key, true).state != cache_state::ready) {
      std::string const bad = make(source, files_[k]);
      check(bad.empty(), "volume_cache: ", quote(source, 4096), " was good and is not any more: ", bad);
    }
    return open_checked(k);
  }
  cached_volume open_checked(std::size_t k) const {
    cached_volume v(files_[k]);
    if (!checked_[k].load(std::memory_order_relaxed)) v.verify(), checked_[k] = true;
    return v;
  }

  /// Sees that a source's file is there; a bad source gives a reason. False if another process is making it and `wait` is not
  /// set. Throws error for what is not the source's fault.
  bool provide(std::string const& source, bool wait, std::string& reason) {
    cache_key key;
    reason = detail::refusal([&] { key = key_of(source, json_, options_.stored); });
    if (!reason.empty()) return true;
    std::string const file = file_of(source);
    if (!ready(file, key)) {
      auto const lock = detail::folder_lock::take(options_.folder, fingerprint(file), wait);
      if (!lock) return false;
      if (!ready(file, key)) reason = make(source, file);  // another process may have made it meanwhile
      if (!reason.empty()) return true;
    }
    extent const size = cached_volume(file).size();
    reason = detail::refusal([&] { detail::check_least(size, options_.least); });
    return true;
  }
  bool ready(std::string const& file, cache_key const& key) const {
    auto const found = inspect_cache_file(file, key, options_.checksums);
    check(options_.stale == stale_cache::rebuild || found.reason.empty(), "volume_cache: ", found.reason,
          "; name another folder, delete the file, or ask for stale_cache::rebuild");
    return found.state == cache_state::ready;
  }
  /// Makes a file. A bad source gives a reason and no file.
  std::string make(std::string const& source, std::string const& file) const {
    cache_key key;
    volume v;
    std::string const bad = detail::refusal([&] {
      key = key_of(source, json_, options_.stored);
      v = prepare_volume(source, pipeline_);
      check(key == key_of(source, json_, options_.stored), "the file changed while it was read");
      if (key.stored == dtype::f16) check_f16(v.voxels);
    });
    if (!bad.empty()) return bad;
    write_cache_file(file, key, v);
    ++built_;
    return {};
  }

  pipeline pipeline_;
  std::string json_;
  cache_options options_;
  manifest contents_;
  std::vector<std::string> files_;
  std::unique_ptr<std::atomic<bool>[]> checked_;
  mutable std::atomic<index_t> built_{0};
};

/// The same, in the memory of this process: for small sets. Uses o.bad and o.least; voxels are F32.
class memory_cache {
 public:
  memory_cache(manifest const& m, pipeline const& p, cache_options const& o = cache_options{},
               thread_pool* pool = nullptr) {
    std::vector<std::string> reasons(m.scans.size());
    std::vector<std::shared_ptr<volume const>> all(m.scans.size());
    for_tasks(pool, index_t(m.scans.size()), [&](index_t i) {
      auto const k = std::size_t(i);
      reasons[k] = detail::refusal([&] {
        all[k] = std::make_shared<volume const>(prepare_volume(m.scans[k].path, p));
        detail::check_least(all[k]->size, o.least);
      });
    });
    contents_ = detail::without_bad(m, reasons, o.bad);
    for (std::size_t k = 0; k < all.size(); ++k)
      if (reasons[k].empty()) volumes_.push_back(std::move(all[k]));
  }

  manifest const& contents() const { return contents_; }
  index_t size() const { return index_t(volumes_.size()); }
  /// Volume i, shared. Throws error if there is none.
  cached_volume open(index_t i) const {
    check(i >= 0 && i < size(), "memory_cache: volume ", i, " of ", size(), " is asked for");
    return cached_volume(volumes_[std::size_t(i)]);
  }
  volume read(index_t i) const { return open(i).copy(); }

 private:
  manifest contents_;
  std::vector<std::shared_ptr<volume const>> volumes_;
};

}  // namespace insula
