// SPDX-License-Identifier: Apache-2.0
// Reading a file front to back, inflated on the way if it is gzip, with every damage reported.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "insula/base/config.hpp"
#include "insula/io/file.hpp"

namespace insula {

/// A plain or gzip file (one or several members), told apart by its first bytes, not its name. Truncated streams, wrong
/// checksums and broken deflate data throw error. nifti_clib's own reader neither reports these nor keeps NaN voxels.
class byte_source {
 public:
  /// Opens. Throws error if the file is missing, unreadable or not a regular file.
  explicit byte_source(std::string path) : path_(std::move(path)) {
    descriptor file = open_to_read(path_);
    struct stat st {};
    if (fstat(file.get(), &st) != 0) fail_errno("inspect", path_, errno);
    check(S_ISREG(st.st_mode), "read ", quote(path_, 4096),
          ": it is not a regular file; copy it to one first");
    disk_bytes_ = st.st_size;
    unsigned char magic[2] = {0, 0};
    compressed_ = ::pread(file.get(), magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
    int const own = ::fcntl(file.get(), F_DUPFD_CLOEXEC, 0);  // gzclose closes it
    if (own < 0) fail_errno("open", path_, errno);
    stream_ = gzdopen(own, "rb");
    if (!stream_) (void)::close(own), fail("open ", quote(path_, 4096), ": zlib has no memory for it");
    (void)gzbuffer(stream_, 1u << 17);
  }
  byte_source(byte_source const&) = delete;
  byte_source& operator=(byte_source const&) = delete;
  ~byte_source() { (void)gzclose_r(stream_); }

  std::string const& path() const { return path_; }
  bool compressed() const { return compressed_; }
  index_t position() const { return position_; }
  /// Bytes on disk.
  index_t disk_bytes() const { return disk_bytes_; }
  /// No more than this can come out: deflate expands at most 1032 times.
  index_t most_bytes() const { return compressed_ ? disk_bytes_ * 1032 : disk_bytes_; }

  /// Reads up to `size` bytes; fewer only at the end of the file. Throws error if the stream is damaged or cut off.
  index_t read(void* to, index_t size) {
    auto* p = static_cast<char*>(to);
    index_t done = 0;
    while (done < size) {
      auto const want = unsigned(std::min<index_t>(size - done, index_t(1) << 24));
      int const got = gzread(stream_, p + done, want);
      if (got < 0) damaged(done);
      done += got;
      if (got < int(want)) {
        int code = Z_OK;
        (void)gzerror(stream_, &code);
        if (code != Z_OK && code != Z_STREAM_END) damaged(done);
        break;
      }
    }
    position_ += done;
    return done;
  }
  /// Passes over bytes. Throws error if there are not so many.
  void skip(index_t size, char const* what) {
    if (size == 0) return;
    if (!compressed_) {
      check(position_ + size <= disk_bytes_ && gzseek(stream_, size, SEEK_CUR) >= 0, "read ",
            quote(path_, 4096), ": the file ends inside ", what);
      position_ += size;
      return;
    }
    std::vector<char> sink(std::size_t(std::min<index_t>(size, 1 << 16)));
    for (index_t left = size; left > 0;) {
      index_t const n = read(sink.data(), std::min<index_t>(left, index_t(sink.size())));
      check(n > 0, "read ", quote(path_, 4096), ": the file ends inside ", what, ", ", left,
            " bytes too early");
      left -= n;
    }
  }
  /// Reads on to the end, which verifies the checksum, but at most `most` bytes. Gives how many there were.
  index_t finish(index_t most) {
    std::vector<char> sink(1 << 16);
    index_t seen = 0;
    while (seen < most) {
      index_t const n = read(sink.data(), std::min<index_t>(most - seen, index_t(sink.size())));
      if (n == 0) break;
      seen += n;
    }
    return seen;
  }

 private:
  [[noreturn]] void damaged(index_t read_before) {
    int code = Z_OK;
    std::string const why = gzerror(stream_, &code);
    if (code == Z_ERRNO) fail_errno("read", path_, errno);
    if (code == Z_BUF_ERROR)
      fail("read ", quote(path_, 4096), ": the gzip stream is cut off after ", position_ + read_before,
           " inflated bytes; copy or download the file again");
    fail("read ", quote(path_, 4096), ": the gzip stream is damaged after ", position_ + read_before,
         " inflated bytes (", why, "); copy or download the file again");
  }

  std::string path_;
  gzFile stream_ = nullptr;
  bool compressed_ = false;
  index_t disk_bytes_ = 0, position_ = 0;
};

}  // namespace insula
