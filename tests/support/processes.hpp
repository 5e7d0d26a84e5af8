// SPDX-License-Identifier: Apache-2.0
// Child processes in tests: running a function in one, and limits on what a process may write.
#pragma once

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "insula/base/check.hpp"

namespace support {

/// Runs f, which gives an exit status, in a child process; gives its process id.
template <class F>
pid_t start_child(F&& f) {
  pid_t const child = ::fork();
  insula::check(child >= 0, "start_child: fork failed");
  if (child > 0) return child;
  int status = 99;
  try {
    status = f();
  } catch (...) {
  }
  ::_exit(status);
}
/// Exit status of a child, or minus the signal that ended it.
inline int end_of(pid_t child) {
  int status = 0;
  insula::check(::waitpid(child, &status, 0) == child, "end_of: there is no child ", int(child));
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// Limits the size of files that this process writes, as a full disk would, for the length of a scope.
class small_disk {
 public:
  explicit small_disk(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    rlimit const now{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
  }
  small_disk(small_disk const&) = delete;
  small_disk& operator=(small_disk const&) = delete;
  ~small_disk() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

}  // namespace support
