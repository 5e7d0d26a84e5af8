// SPDX-License-Identifier: Apache-2.0
// Writing a file so that its name always holds either the old contents or the complete new ones.
#pragma once

#include <sys/file.h>

#include <atomic>
#include <cstdio>
#include <ctime>
#include <span>
#include <vector>

#include "insula/io/file.hpp"

namespace insula {

namespace detail {

inline constexpr std::string_view temporary_suffix = ".insula-tmp";

/// The file that a path names in the end: symbolic links are followed, also dangling ones, so that writing
/// through a link replaces what it points to and keeps the link.
inline std::string link_target(std::string path) {
  namespace fs = std::filesystem;
  std::error_code none;
  for (int i = 0; i < 40 && fs::is_symlink(fs::symlink_status(path, none)); ++i) {
    auto const to = fs::read_symlink(path, none);
    if (none) break;
    path = to.is_absolute() ? to.string() : (fs::path(path).parent_path() / to).string();
  }
  return path;
}

/// Makes a rename in this folder survive a power failure. 0 or errno; file systems without it count as done.
inline int sync_folder(std::string const& folder) {
  descriptor const d(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!d.open()) return errno == EACCES ? 0 : errno;  // writable but not readable folders cannot be synced
  if (fsync(d.get()) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS) return 0;
  return errno;
}

}  // namespace detail

/// A file in the making:  atomic_file f(path); f.write(...); f.commit();
/// The bytes go to a hidden temporary beside `path`; commit() flushes them to the disk, renames the temporary
/// to `path` and flushes the folder. Until then, or if anything fails or the process dies, `path` keeps its
/// old contents. The destructor removes a temporary that was not committed. Every failure throws error with
/// the file, the system's reason and advice. An existing file passes on its permissions. Devices, pipes and
/// folders as targets are refused.
class atomic_file {
 public:
  explicit atomic_file(std::string path) : path_(std::move(path)), target_(detail::link_target(path_)) {
    struct stat st {};
    bool const replaces = ::stat(target_.c_str(), &st) == 0;
    if (!replaces && errno != ENOENT) fail_errno("write", path_, errno);
    if (replaces && S_ISDIR(st.st_mode)) fail_errno("write", path_, EISDIR);
    check(!replaces || S_ISREG(st.st_mode), "write ", quote(path_, 4096),
          ": it exists and is not a regular file; choose another name");
    create();
    if (replaces) (void)fchmod(file_.get(), st.st_mode & 07777);
    (void)flock(file_.get(), LOCK_EX | LOCK_NB);  // tells remove_stale_temporaries that the writer lives
  }
  atomic_file(atomic_file const&) = delete;
  atomic_file& operator=(atomic_file const&) = delete;
  ~atomic_file() { discard(); }

  /// Appends bytes. Throws error, and then the temporary is gone.
  void write(void const* data, std::size_t size) {
    check(file_.open(), "write ", quote(path_, 4096),
          ": the file was committed or has failed before; open a new one");
    if (size >= buffer_size) {
      flush();
      put(data, size);
    } else if (size > 0) {
      if (buffer_.size() + size > buffer_size) flush();
      auto const* p = static_cast<char const*>(data);
      buffer_.insert(buffer_.end(), p, p + size);
    }
    size_ += size;
  }
  void write(std::string_view text) { write(text.data(), text.size()); }
  void write(std::span<std::byte const> bytes) { write(bytes.data(), bytes.size()); }

  /// Puts the new contents in place of the old. Throws error; then `path` is as it was before, unless the
  /// message says that only the folder's flush failed.
  void commit() {
    check(file_.open(), "commit ", quote(path_, 4096),
          ": the file was committed or has failed before; open a new one");
    flush();
    if (fsync(file_.get()) != 0) broken("flush to disk", errno);
    if (int const e = file_.close()) broken("close", e);
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) broken("rename the new contents to", errno);
    temporary_.clear();
    if (int const e = detail::sync_folder(folder_of(target_)))
      fail_errno("the new contents are in place, but flush to disk the folder of", path_, e);
  }
  /// Forgets the new contents and removes the temporary; harmless after commit().
  void discard() noexcept {
    (void)file_.close();
    if (!temporary_.empty()) (void)::unlink(temporary_.c_str());
    temporary_.clear();
  }

  /// Bytes written so far.
  std::size_t size() const { return size_; }
  std::string const& path() const { return path_; }

 private:
  static constexpr std::size_t buffer_size = std::size_t{256} << 10;  // bytes

  void create() {
    static std::atomic<unsigned> count{0};
    auto const name = std::filesystem::path(target_).filename().string();
    check(!name.empty(), "write ", quote(path_, 4096), ": the path ends in a slash; add a file name");
    for (int tries = 0; tries < 10000; ++tries) {
      temporary_ = text(folder_of(target_), "/.", name.substr(0, 200), ".", ::getpid(), ".", count++,
                        detail::temporary_suffix);
      file_ = descriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
      if (file_.open()) return;
      if (errno != EEXIST) break;
    }
    int const e = errno;
    temporary_.clear();
    fail_errno("write", path_, e);
  }
  void flush() {
    std::vector<char> full;
    full.swap(buffer_);
    put(full.data(), full.size());
    full.clear();
    buffer_.swap(full);  // keeps the capacity
  }
  void put(void const* data, std::size_t size) {
    if (int const e = write_fully(file_.get(), data, size)) broken("write", e);
  }
  [[noreturn]] void broken(std::string_view what, int errno_value) {
    discard();
    fail_errno(what, path_, errno_value);
  }

  std::string path_, target_, temporary_;
  descriptor file_;
  std::vector<char> buffer_;
  std::size_t size_ = 0;
};

/// Replaces or creates a file with these contents, atomically. Throws error.
inline void write_file(std::string const& path, std::string_view contents) {
  atomic_file f(path);
  f.write(contents);
  f.commit();
}
inline void write_file(std::string const& path, std::span<std::byte const> contents) {
  write_file(path, std::string_view(reinterpret_cast<char const*>(contents.data()), contents.size()));
}

/// Removes temporaries of atomic_file that a killed process left in `folder`: those not written to for
/// `older_than_seconds` and not locked by a living writer. Gives the number removed. Files that vanish
/// meanwhile are not an error; throws error if the folder cannot be listed.
inline int remove_stale_temporaries(std::string const& folder, double older_than_seconds = 3600) {
  namespace fs = std::filesystem;
  std::error_code e;
  int removed = 0;
  for (fs::directory_iterator it(folder, e), end; !e && it != end; it.increment(e)) {
    auto const name = it->path().filename().string();
    if (name.front() != '.' || !name.ends_with(detail::temporary_suffix)) continue;
    descriptor const file(::open(it->path().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat st {};
    if (!file.open() || fstat(file.get(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
    if (std::difftime(std::time(nullptr), st.st_mtime) < older_than_seconds) continue;
    if (flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) continue;
    if (::unlink(it->path().c_str()) == 0) ++removed;
  }
  if (e) fail_errno("list the folder", folder, e.value());
  return removed;
}

}  // namespace insula
