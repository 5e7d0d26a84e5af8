// SPDX-License-Identifier: Apache-2.0
// One preprocessed volume in a file that can be mapped: what it was made from, its place in the world, its voxels.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>

#include "insula/data/fingerprint.hpp"
#include "insula/data/voxel_code.hpp"
#include "insula/io/atomic_file.hpp"
#include "insula/io/mapped_file.hpp"

namespace insula {

/// What a stored volume was made from and how. If any of it differs, the stored volume is stale.
struct cache_key {
  std::string source;                // absolute path
  std::int64_t bytes = 0, time = 0;  // of the source; nanoseconds of its last change
  std::string pipeline;              // to_json()
  dtype stored = dtype::f32;
  friend bool operator==(cache_key const&, cache_key const&) = default;
};

/// The key of a source file as it is now. Throws error if there is no such file.
inline cache_key key_of(std::string const& source, std::string const& pipeline_json, dtype stored) {
  struct stat st {};
  if (::stat(source.c_str(), &st) != 0) fail_errno("inspect", source, errno);
  return {std::filesystem::absolute(source).lexically_normal().string(), std::int64_t(st.st_size),
          std::int64_t(st.st_mtim.tv_sec) * 1000000000 + st.st_mtim.tv_nsec, pipeline_json, stored};
}

namespace detail {

/// The first bytes of a file, followed by the source's path and the pipeline; the voxels begin at the next page.
struct cache_header {
  char magic[8] = {'i', 'n', 's', 'u', 'l', 'a', 'V', '1'};
  std::uint64_t header_fingerprint = 0;  // of what follows, up to the end of the pipeline
  std::uint64_t voxel_offset = 0, voxel_bytes = 0, voxel_fingerprint = 0;
  std::int64_t size[3] = {0, 0, 0};
  double to_world[16] = {};
  double scale = 1, offset = 0;
  std::int64_t zero = 0, stored = 0, source_bytes = 0, source_time = 0;
  std::uint64_t source_length = 0, pipeline_length = 0;
};
static_assert(std::is_trivially_copyable_v<cache_header> && sizeof(cache_header) == 256);
inline constexpr std::size_t fingerprint_from = offsetof(cache_header, voxel_offset);

inline constexpr index_t page = 4096;  // bytes; voxels start at a multiple
inline index_t voxel_offset(cache_key const& k) {
  return (index_t(sizeof(cache_header) + k.source.size() + k.pipeline.size()) + page - 1) / page * page;
}

}  // namespace detail

/// Bytes of the file that holds a volume of this size.
inline index_t cache_file_bytes(cache_key const& k, extent size) {
  return detail::voxel_offset(k) + size.size() * bits_of(k.stored) / 8;
}

/// A volume of a cache: in memory, or in a file that is mapped, not read. Move-only; valid as long as it lives, also while
/// another process replaces the file.
class cached_volume {
 public:
  /// Shares a volume in memory.
  explicit cached_volume(std::shared_ptr<volume const> v)
      : size_(v->size), to_world_(v->to_world), memory_(std::move(v)) {}
  /// Maps a file written by write_cache_file(). Throws error if it is missing or damaged (header and length; voxels are
  /// checked by verify()).
  explicit cached_volume(std::string const& path) : file_(path) {
    auto const damaged = [&](auto const&... why) {
      fail("cache file ", quote(path, 4096), " is damaged: ", why...);
    };
    std::size_t const have = file_.size();
    if (have < sizeof head_) damaged("it has ", have, " bytes, the header needs ", sizeof head_);
    std::memcpy(&head_, file_.data(), sizeof head_);
    if (std::memcmp(head_.magic, detail::cache_header{}.magic, sizeof head_.magic) != 0)
      damaged("it does not begin with ", quote({detail::cache_header{}.magic, 8}));
    if (head_.source_length > have || head_.pipeline_length > have ||
        sizeof head_ + head_.source_length + head_.pipeline_length > have)
      damaged("it has ", have, " bytes, fewer than its texts need");
    std::size_t const texts = head_.source_length + head_.pipeline_length;
    if (fingerprint(file_.data() + detail::fingerprint_from,
                    sizeof head_ - detail::fingerprint_from + texts) != head_.header_fingerprint)
      damaged("the header's checksum is wrong");
    if (head_.voxel_offset + head_.voxel_bytes != have)
      damaged("it has ", have, " bytes and needs ", head_.voxel_offset + head_.voxel_bytes,
              ": it is cut off");
    size_ = {head_.size[0], head_.size[1], head_.size[2]};
    std::copy_n(head_.to_world, 16, to_world_.begin());
  }

  extent size() const { return size_; }
  affine const& to_world() const { return to_world_; }
  index_t count() const { return size_.size(); }

  /// The voxels where they are, without copying: only of volumes in memory or stored as F32. Throws error for others.
  std::span<float const> voxels() const {
    if (memory_) return memory_->voxels;
    check(dtype(head_.stored) == dtype::f32, "cached_volume ", quote(file_.path(), 4096),
          ": voxels are stored as ", name_of(dtype(head_.stored)),
          ", only F32 can be seen in place; use copy()");
    return {reinterpret_cast<float const*>(file_.data() + head_.voxel_offset), std::size_t(count())};
  }
  /// The volume, to be changed at will.
  volume copy() const {
    if (memory_) return *memory_;
    volume v{size_, to_world_, std::vector<float>(std::size_t(count()))};
    decode_voxels(file_.data() + head_.voxel_offset, count(), dtype(head_.stored),
                  {head_.scale, head_.offset, head_.zero}, v.voxels.data());
    return v;
  }
  /// What a file was made from.
  cache_key key() const {
    auto const* texts = reinterpret_cast<char const*>(file_.data() + sizeof head_);
    return {std::string(texts, head_.source_length), head_.source_bytes, head_.source_time,
            std::string(texts + head_.source_length, head_.pipeline_length), dtype(head_.stored)};
  }
  /// Throws error if the voxels are not those that were written. Reads them all.
  void verify() const {
    if (memory_) return;
    check(fingerprint(file_.data() + head_.voxel_offset, head_.voxel_bytes) == head_.voxel_fingerprint,
          "cache file ", quote(file_.path(), 4096), " is damaged: the voxels' checksum is wrong");
  }

 private:
  extent size_;
  affine to_world_;
  std::shared_ptr<volume const> memory_;
  mapped_file file_;
  detail::cache_header head_;
};

/// Writes a volume of finite voxels atomically. Throws error; then no file is there or the old one.
inline void write_cache_file(std::string const& path, cache_key const& k, volume const& v) {
  check_stored(k.stored);
  auto const [low, high] = std::minmax_element(v.voxels.begin(), v.voxels.end());
  voxel_scale const s = v.voxels.empty() ? voxel_scale{} : scale_for(k.stored, *low, *high);
  auto const voxels = encode_voxels(v.voxels, k.stored, s);
  detail::cache_header h;
  h.voxel_offset = std::uint64_t(detail::voxel_offset(k)), h.voxel_bytes = voxels.size();
  h.voxel_fingerprint = fingerprint(voxels.data(), voxels.size());
  for (int i = 0; i < 3; ++i) h.size[i] = v.size[i];
  std::copy(v.to_world.begin(), v.to_world.end(), h.to_world);
  h.scale = s.scale, h.offset = s.offset, h.zero = s.zero, h.stored = std::int64_t(k.stored);
  h.source_bytes = k.bytes, h.source_time = k.time;
  h.source_length = k.source.size(), h.pipeline_length = k.pipeline.size();
  std::string head(sizeof h, '\0');
  std::memcpy(head.data(), &h, sizeof h);
  head += k.source + k.pipeline;
  h.header_fingerprint = fingerprint(std::string_view(head).substr(detail::fingerprint_from));
  std::memcpy(head.data(), &h, sizeof h);
  head.resize(h.voxel_offset, '\0');
  atomic_file f(path);
  f.write(head), f.write(voxels.data(), voxels.size());
  f.commit();
}

enum class cache_state { ready, missing, stale, damaged };

/// Whether a cache file serves a key, and if not, why.
struct cache_finding {
  cache_state state = cache_state::missing;
  std::string reason;
};

/// Looks at a cache file; with `voxels` also at their checksum. Never throws for what it finds.
inline cache_finding inspect_cache_file(std::string const& path, cache_key const& k, bool voxels = false) {
  std::error_code e;
  if (!std::filesystem::exists(path, e)) return {};
  try {
    cached_volume const v(path);
    cache_key const found = v.key();
    auto const stale = [&](auto const&... why) {
      return cache_finding{cache_state::stale, text("cache file ", quote(path, 4096), " is stale: ", why...)};
    };
    if (found.source != k.source)
      return stale("it was made from ", quote(found.source, 4096), ", not from ", quote(k.source, 4096));
    if (found.pipeline != k.pipeline)
      return stale("it was preprocessed by ", found.pipeline, ", not by ", k.pipeline);
    if (found.stored != k.stored)
      return stale("voxels are ", name_of(found.stored), ", ", name_of(k.stored), " is asked for");
    if (found.bytes != k.bytes || found.time != k.time)
      return stale("its source ", quote(k.source, 4096), " has changed since (", found.bytes, " bytes then, ",
                   k.bytes, " now)");
    if (voxels) v.verify();
    return {cache_state::ready, ""};
  } catch (error const& problem) {
    return {cache_state::damaged, problem.what()};
  }
}

}  // namespace insula
