// SPDX-License-Identifier: Apache-2.0
// Files: errors that say what to do, reading whole files, and the owner of a file descriptor.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "insula/base/check.hpp"
#include "insula/io/quote.hpp"

namespace insula {

/// What a user can do about a failed system call.
inline std::string_view advice(int errno_value) {
  switch (errno_value) {
    case ENOENT:
      return "check the path, and create its folder if it is missing";
    case EACCES:
    case EPERM:
      return "check the permissions of the file and of its folder";
    case ENOSPC:
      return "free some space on this disk or write to another one";
    case EDQUOT:
      return "your disk quota is used up: delete files or write elsewhere";
    case EFBIG:
      return "the file would pass the size limit: raise `ulimit -f` or use another file system";
    case EROFS:
      return "this file system is read-only: write to another one";
    case EISDIR:
      return "this is a folder: name a file in it";
    case ENOTDIR:
      return "a part of the path is a file and not a folder: check the path";
    case EMFILE:
    case ENFILE:
      return "too many files are open: raise `ulimit -n`";
    case ENAMETOOLONG:
      return "use a shorter path";
    case ENOMEM:
      return "the system is out of memory or address space: check `ulimit -v`";
    case EIO:
      return "the disk or its connection failed: check the system log";
    case ESTALE:
      return "the network file system lost this file: try again";
    default:
      return "check the path and the disk";
  }
}

/// Throws error: "write '/data/x': No space left on device; free some space on this disk or write to another
/// one".
[[noreturn]] inline void fail_errno(std::string_view what, std::string_view path, int errno_value) {
  fail(what, " ", quote(path, 4096), ": ", std::system_category().message(errno_value), "; ",
       advice(errno_value));
}

/// Owns an open file; closes it when destroyed. Move-only.
class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int fd) : fd_(fd) {}
  descriptor(descriptor&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  descriptor& operator=(descriptor&& o) noexcept {
    if (this != &o) (void)close(), fd_ = std::exchange(o.fd_, -1);
    return *this;
  }
  ~descriptor() { (void)close(); }

  int get() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  /// Closes and gives 0 or errno: some file systems report a failed write only here.
  int close() {
    if (fd_ < 0) return 0;
    return ::close(std::exchange(fd_, -1)) == 0 || errno == EINTR ? 0 : errno;
  }

 private:
  int fd_ = -1;
};

/// Opens for reading; refuses folders. Throws error.
inline descriptor open_to_read(std::string const& path) {
  descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.open()) fail_errno("open", path, errno);
  struct stat st {};
  if (fstat(file.get(), &st) != 0) fail_errno("inspect", path, errno);
  if (S_ISDIR(st.st_mode)) fail_errno("read", path, EISDIR);
  return file;
}

/// Writes all bytes at the file's position; goes on after short writes and signals. 0 or errno.
inline int write_fully(int fd, void const* data, std::size_t size) {
  auto const* p = static_cast<char const*>(data);
  while (size > 0) {
    ssize_t const n = ::write(fd, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : ENOSPC;
    p += n, size -= std::size_t(n);
  }
  return 0;
}

/// The whole contents of a file, pipes included. Throws error, also if the file holds more than `most` bytes.
inline std::string read_file(std::string const& path, std::size_t most = std::size_t{1} << 40) {
  descriptor const file = open_to_read(path);
  struct stat st {};
  if (fstat(file.get(), &st) != 0) fail_errno("inspect", path, errno);
  std::string s;
  if (S_ISREG(st.st_mode)) {
    check(std::size_t(st.st_size) <= most, "read ", quote(path, 4096), ": it has ", st.st_size,
          " bytes, at most ", most, " are expected here; is it the right file?");
    s.reserve(std::size_t(st.st_size) + 1);
  }
  for (std::size_t used = 0;;) {
    s.resize(s.capacity() > used ? s.capacity() : used + 65536);
    ssize_t const n = ::read(file.get(), s.data() + used, s.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("read", path, errno);
    used += std::size_t(n);
    check(used <= most, "read ", quote(path, 4096), ": it has more than the ", most,
          " bytes expected here; is it the right file?");
    if (n == 0) return s.resize(used), s;
  }
}

/// Folder of a path, "." if it names none.
inline std::string folder_of(std::string const& path) {
  auto const parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace insula
