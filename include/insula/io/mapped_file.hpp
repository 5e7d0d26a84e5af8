// SPDX-License-Identifier: Apache-2.0
// A file's bytes as read-only memory.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "insula/io/file.hpp"

namespace insula {

/// Maps a regular file read-only; pages are read when touched and shared by all processes of a machine. The
/// address stays the same when the object is moved. The file must not be shortened while it is mapped (the
/// process would get SIGBUS); files replaced by rename, as atomic_file does, are safe: the mapping keeps the
/// old one. Throws error.
class mapped_file {
 public:
  mapped_file() = default;
  explicit mapped_file(std::string path) : path_(std::move(path)) {
    descriptor const file = open_to_read(path_);
    struct stat st {};
    if (fstat(file.get(), &st) != 0) fail_errno("inspect", path_, errno);
    check(S_ISREG(st.st_mode), "map ", quote(path_, 4096), ": not a regular file; copy it to a disk first");
    size_ = std::size_t(st.st_size);
    if (size_ == 0) return;  // an empty mapping is not allowed by the system
    void* const p = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.get(), 0);
    if (p == MAP_FAILED) fail_errno("map", path_, errno);
    data_ = static_cast<std::byte const*>(p);
  }
  mapped_file(mapped_file&& o) noexcept { swap(o); }
  mapped_file& operator=(mapped_file&& o) noexcept {
    mapped_file gone(std::move(*this));
    swap(o);
    return *this;
  }
  ~mapped_file() {
    if (data_) munmap(const_cast<std::byte*>(data_), size_);
  }

  std::byte const* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<std::byte const> bytes() const { return {data_, size_}; }
  std::string const& path() const { return path_; }
  void swap(mapped_file& o) noexcept {
    std::swap(path_, o.path_), std::swap(data_, o.data_), std::swap(size_, o.size_);
  }

 private:
  std::string path_;
  std::byte const* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace insula
