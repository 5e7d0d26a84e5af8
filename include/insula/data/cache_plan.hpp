// SPDX-License-Identifier: Apache-2.0
// What a cache of preprocessed volumes will hold and how large it will be, before anything is written.
#pragma once

#include "insula/data/cache_file.hpp"
#include "insula/data/pipeline_json.hpp"
#include "insula/data/prepare.hpp"

namespace insula {

/// What happens to cache files that are stale (source, preprocessing or type changed) or damaged.
enum class stale_cache { rebuild, refuse };

struct cache_options {
  std::string folder;                        // created if it is missing; several processes may share it
  dtype stored = dtype::f32;                 // f32; f16, i16, u8 are smaller and rounded
  bad_files bad = bad_files::skip;           // sources that give no good volume
  stale_cache stale = stale_cache::rebuild;  // also when damage shows only while reading
  bool checksums = false;  // check all stored voxels at once, not each when it is first read
  extent least{1, 1, 1};   // smaller volumes (on any axis, after preprocessing) are bad
};

struct cache_plan {
  index_t volumes = 0, ready = 0;   // ready: stored already and good
  index_t bytes = 0, to_write = 0;  // of all files; of those still to be written
  bool exact = true;  // false: both are upper bounds, for the brain's box is known only from the voxels
  index_t free = 0;   // bytes that the folder's disk has left
  std::vector<problem> stale;     // cache files to be replaced, and why
  std::vector<problem> problems;  // sources that cannot be read; not counted above
};

namespace detail {

/// The name of a source's cache file depends on its absolute path alone, so that a changed pipeline replaces the file.
inline std::string cache_file_path(std::string const& folder, std::string const& absolute_source) {
  return folder + "/" + hexadecimal(fingerprint(absolute_source)) + ".vol";
}

/// Bytes free for this user on the disk of a folder, which need not exist yet.
inline index_t free_bytes(std::string const& folder) {
  namespace fs = std::filesystem;
  std::error_code e;
  fs::path at = fs::absolute(folder).lexically_normal();
  while (!fs::exists(at, e) && at.has_relative_path()) at = at.parent_path();
  auto const space = fs::space(at, e);
  return e ? std::numeric_limits<index_t>::max() : index_t(space.available);
}

}  // namespace detail

/// What volume_cache(m, p, o) will write, from the headers of the sources and of the cache. Nothing is written.
inline cache_plan plan_cache(manifest const& m, pipeline const& p, cache_options const& o,
                             thread_pool* pool = nullptr) {
  check(!o.folder.empty(), "plan_cache: no folder is named; set cache_options::folder");
  check_stored(o.stored);
  struct outlook {
    index_t bytes = 0;
    bool exact = true;
    cache_finding found;
    std::string unreadable;
  };
  std::string const json = to_json(p);
  std::vector<outlook> each(m.scans.size());
  for_tasks(pool, index_t(each.size()), [&](index_t i) {
    auto& e = each[std::size_t(i)];
    std::string const& source = m.scans[std::size_t(i)].path;
    e.unreadable = detail::refusal([&] {
      cache_key const key = key_of(source, json, o.stored);
      std::string const file = detail::cache_file_path(o.folder, key.source);
      e.found = inspect_cache_file(file, key, o.checksums);
      if (e.found.state == cache_state::ready) return void(e.bytes = index_t(mapped_file(file).size()));
      auto const bounds = extent_after(p, read_image_header(source));
      e.bytes = cache_file_bytes(key, bounds.most), e.exact = bounds.exact();
    });
  });
  cache_plan plan;
  for (std::size_t i = 0; i < each.size(); ++i) {
    auto const& e = each[i];
    if (!e.unreadable.empty()) {
      plan.problems.push_back({m.scans[i].path, e.unreadable});
      continue;
    }
    bool const ready = e.found.state == cache_state::ready;
    plan.volumes += 1, plan.ready += ready, plan.bytes += e.bytes, plan.to_write += ready ? 0 : e.bytes;
    plan.exact = plan.exact && e.exact;
    if (!ready && e.found.state != cache_state::missing)
      plan.stale.push_back({m.scans[i].path, e.found.reason});
  }
  plan.free = detail::free_bytes(o.folder);
  return plan;
}

/// "3.2 GB"; 1 kB is 1000 bytes.
inline std::string describe_bytes(index_t bytes) {
  constexpr char const* units[] = {" kB", " MB", " GB", " TB"};
  if (bytes < 1000) return text(bytes, " bytes");
  double x = double(bytes) / 1000;
  std::size_t unit = 0;
  while (x >= 999.95 && unit < 3) x /= 1000, ++unit;
  return text(std::round(x * 10) / 10, units[unit]);
}

/// "cache: 7 volumes, at most 70.1 MB (2 ready, at most 50 MB to write), 100.2 GB free", then what is replaced or left out.
inline std::string describe(cache_plan const& p) {
  char const* const most = p.exact ? "" : "at most ";
  std::string s =
      text("cache: ", p.volumes, " volumes, ", most, describe_bytes(p.bytes), " (", p.ready, " ready, ", most,
           describe_bytes(p.to_write), " to write), ", describe_bytes(p.free), " free");
  if (p.to_write > p.free) s += "\nwarning: that may not fit";
  if (!p.stale.empty()) s += text("\n", p.stale.size(), " cache files will be replaced: ", p.stale[0].reason);
  if (!p.problems.empty()) s += "\n" + describe(p.problems);
  return s;
}

}  // namespace insula
