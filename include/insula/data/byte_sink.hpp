// SPDX-License-Identifier: Apache-2.0
// Writing a plain or gzip file that appears under its name only when complete.
#pragma once

#include <zlib.h>

#include <limits>
#include <vector>

#include "insula/base/config.hpp"
#include "insula/io/atomic_file.hpp"

namespace insula {

/// byte_sink out(path, 4); out.write(...); out.commit();
/// `level` 1 to 9 writes one gzip member (equal contents give equal files: no time, no name in it); 0 writes plain bytes.
/// Without commit(), and on any failure, the old file stays. Throws error.
class byte_sink {
 public:
  byte_sink(std::string path, int level) : file_(std::move(path)), compress_(level > 0) {
    check(level >= 0 && level <= 9, "write ", quote(file_.path(), 4096), ": compression is ", level,
          ", it must be 0 to 9");
    constexpr int gzip = 15 + 16, memory = 9;
    if (compress_ && deflateInit2(&z_, level, Z_DEFLATED, gzip, memory, Z_DEFAULT_STRATEGY) != Z_OK)
      fail("write ", quote(file_.path(), 4096), ": zlib has no memory for it");
    if (compress_) packed_.resize(std::size_t{1} << 17);
  }
  byte_sink(byte_sink const&) = delete;
  byte_sink& operator=(byte_sink const&) = delete;
  ~byte_sink() {
    if (compress_) deflateEnd(&z_);
  }

  void write(void const* data, index_t size) {
    if (!compress_) return file_.write(data, std::size_t(size));
    auto const* p = static_cast<unsigned char const*>(data);
    for (index_t done = 0; done < size;) {
      index_t const n = std::min<index_t>(size - done, index_t(1) << 24);
      pump(p + done, n, Z_NO_FLUSH);
      done += n;
    }
  }
  void commit() {
    if (compress_) pump(nullptr, 0, Z_FINISH);
    file_.commit();
  }

 private:
  void pump(unsigned char const* data, index_t size, int flush) {
    z_.next_in = const_cast<unsigned char*>(data);  // zlib's old interface; it only reads
    z_.avail_in = unsigned(size);
    int code = Z_OK;
    do {
      z_.next_out = packed_.data(), z_.avail_out = unsigned(packed_.size());
      code = deflate(&z_, flush);
      check(code != Z_STREAM_ERROR, "write ", quote(file_.path(), 4096),
            ": zlib reports an inconsistent state");
      file_.write(packed_.data(), packed_.size() - z_.avail_out);
    } while (z_.avail_out == 0 || (flush == Z_FINISH && code != Z_STREAM_END));
  }

  atomic_file file_;
  bool compress_;
  z_stream z_{};
  std::vector<unsigned char> packed_;
};

}  // namespace insula
