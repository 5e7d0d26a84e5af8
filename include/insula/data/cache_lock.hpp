// SPDX-License-Identifier: Apache-2.0
// Locks by which the processes that fill one cache share the work.
#pragma once

#include <optional>

#include "insula/io/file.hpp"

namespace insula::detail {

/// One of 2^30 locks of a folder, held while the object lives and freed by the system if the process dies. A file system
/// without locks grants all: then volumes may be made twice, which is slower and harmless, for files are replaced as a whole.
class folder_lock {
 public:
  /// Nothing if another thread or process has it and `wait` is false.
  static std::optional<folder_lock> take(std::string const& folder, std::uint64_t number, bool wait) {
    std::string const path = folder + "/.insula-lock";
    folder_lock lock;
    lock.file_ = descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    if (!lock.file_.open()) fail_errno("open", path, errno);
    struct flock range {};
    range.l_type = F_WRLCK, range.l_whence = SEEK_SET;
    range.l_start = off_t(number & ((1u << 30) - 1)), range.l_len = 1;
    while (fcntl(lock.file_.get(), wait ? F_OFD_SETLKW : F_OFD_SETLK, &range) != 0) {
      if (errno == EINTR) continue;
      if (!wait && (errno == EAGAIN || errno == EACCES)) return {};
      break;
    }
    return lock;
  }

 private:
  descriptor file_;
};

}  // namespace insula::detail
