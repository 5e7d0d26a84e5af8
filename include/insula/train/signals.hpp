// SPDX-License-Identifier: Apache-2.0
// Requests from outside to stop a run at the next step boundary: SIGTERM, SIGUSR1 and SIGINT.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>

#include "insula/base/check.hpp"

namespace insula {

/// terminate: the batch system wants the machine back (SIGTERM, SIGUSR1); interrupt: the user wants to end (SIGINT).
enum class stop_reason { none, terminate, interrupt };

/// Exit status of a run that was stopped: 75 (EX_TEMPFAIL: state is saved, start me again), 130 (128 + SIGINT), else 0.
constexpr int exit_code(stop_reason r) {
  return r == stop_reason::terminate ? 75 : r == stop_reason::interrupt ? 130 : 0;
}

namespace detail {
/// What the signal handler may touch.
struct signal_state {
  std::atomic<int> first{0};       // the first signal caught
  std::atomic<int> interrupts{0};  // SIGINTs caught
  std::atomic<int> owner{0};       // the process that asked for the handlers
};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may only touch lock-free atomics");
inline signal_state signals;

inline void on_stop_signal(int signal) {
  int const saved = errno;
  if (signals.owner.load() !=
      int(::getpid())) {  // a forked child inherited the handler, but nobody there reads the flag
    std::signal(signal, SIG_DFL);
    (void)std::raise(signal);
    errno = saved;
    return;
  }
  if (signal == SIGINT && signals.interrupts.fetch_add(1) > 0) ::_exit(exit_code(stop_reason::interrupt));
  int none = 0;
  signals.first.compare_exchange_strong(none, signal);
  errno = saved;
}
}  // namespace detail

/// While it lives, SIGTERM, SIGUSR1 and SIGINT set a flag in place of ending the process, also if they were ignored before;
/// a second SIGINT ends the process at once with status 130. The old handlers come back when it is destroyed. Scopes may
/// nest and share one flag; a signal that reached the outer scope is seen by the inner one. Forked children that do not
/// make a stop_request of their own keep the default behaviour. Interrupted system calls are restarted. Throws error.
///   stop_request stop;  while (...) { if (stop.reason() != stop_reason::none) return exit_code(stop.reason()); ... }
class stop_request {
 public:
  stop_request() : owner_before_(detail::signals.owner.load()) {
    if (owner_before_ != int(::getpid())) {
      detail::signals.first = 0;
      detail::signals.interrupts = 0;
      detail::signals.owner = int(::getpid());
    }
    struct sigaction now {};
    now.sa_handler = detail::on_stop_signal;
    now.sa_flags = SA_RESTART;
    sigemptyset(&now.sa_mask);
    for (int i = 0; i < count; ++i)
      check(sigaction(caught[i], &now, &old_[i]) == 0, "stop_request: signal ", caught[i],
            " cannot be caught on this system");
  }
  stop_request(stop_request const&) = delete;
  stop_request& operator=(stop_request const&) = delete;
  ~stop_request() {
    for (int i = 0; i < count; ++i) (void)sigaction(caught[i], &old_[i], nullptr);
    detail::signals.owner = owner_before_;
  }

  /// Why to stop: the first signal counts.
  stop_reason reason() const {
    int const s = signal();
    return s == 0 ? stop_reason::none : s == SIGINT ? stop_reason::interrupt : stop_reason::terminate;
  }
  /// The first signal caught, 0 if none.
  int signal() const { return detail::signals.first.load(); }
  /// "SIGTERM", "SIGUSR1", "SIGINT" or "none".
  char const* name() const {
    int const s = signal();
    return s == SIGTERM ? "SIGTERM" : s == SIGUSR1 ? "SIGUSR1" : s == SIGINT ? "SIGINT" : "none";
  }

 private:
  static constexpr int count = 3;
  static constexpr int caught[count] = {SIGTERM, SIGUSR1, SIGINT};

  struct sigaction old_[count] {};
  int owner_before_;
};

}  // namespace insula
