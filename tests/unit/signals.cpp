// SPDX-License-Identifier: Apache-2.0
// Requests to stop: reasons, exit codes, the second SIGINT, nesting, forked children.
#include "insula/train/signals.hpp"
#include "support/catch.hpp"
#include "support/processes.hpp"

using namespace insula;
using support::end_of;
using support::start_child;

namespace {
int after(int first, int second = 0) {
  return end_of(start_child([=] {
    stop_request const stop;
    std::raise(first);
    if (second) std::raise(second);
    return exit_code(stop.reason());
  }));
}
}  // namespace

TEST_CASE("SIGTERM and SIGUSR1 ask for a restart, SIGINT for an end") {
  CHECK(after(SIGTERM) == 75);
  CHECK(after(SIGUSR1) == 75);
  CHECK(after(SIGINT) == 130);
  CHECK(exit_code(stop_reason::none) == 0);
}

TEST_CASE("the first signal counts, and only a second SIGINT ends the process at once") {
  CHECK(after(SIGTERM, SIGINT) == 75);
  CHECK(after(SIGINT, SIGTERM) == 130);
  CHECK(after(SIGTERM, SIGTERM) == 75);
  int const status = end_of(start_child([] {
    stop_request const stop;
    std::raise(SIGINT);
    std::raise(SIGINT);
    return 1;  // not reached
  }));
  CHECK(status == 130);
}

TEST_CASE("a request tells its reason and the name of the signal") {
  stop_request const stop;
  CHECK(stop.reason() == stop_reason::none);
  CHECK(stop.name() == std::string("none"));
  std::raise(SIGUSR1);
  CHECK(stop.reason() == stop_reason::terminate);
  CHECK(stop.signal() == SIGUSR1);
  CHECK(stop.name() == std::string("SIGUSR1"));
}

TEST_CASE("a new request starts without the signals of the last one") {
  stop_request const stop;
  CHECK(stop.reason() == stop_reason::none);
}

TEST_CASE("scopes nest: an inner request sees what reached the outer one, and does not end it") {
  int const status = end_of(start_child([] {
    stop_request const outer;
    std::raise(SIGTERM);
    {
      stop_request const inner;
      if (inner.reason() != stop_reason::terminate) return 1;
    }
    std::raise(SIGUSR1);  // still caught
    return outer.reason() == stop_reason::terminate ? 0 : 2;
  }));
  CHECK(status == 0);
}

TEST_CASE("the old handlers come back") {
  CHECK(end_of(start_child([] {
          std::signal(SIGTERM, SIG_DFL);
          { stop_request const stop; }
          std::raise(SIGTERM);
          return 0;
        })) == -SIGTERM);
  auto* const before = std::signal(SIGUSR1, SIG_IGN);
  { stop_request const stop; }
  CHECK(std::signal(SIGUSR1, before) == SIG_IGN);
}

TEST_CASE("a forked child without a request of its own ends as usual") {
  stop_request const stop;
  CHECK(end_of(start_child([] {
          std::raise(SIGTERM);
          ::usleep(1'000'000);
          return 0;
        })) == -SIGTERM);
  CHECK(stop.reason() == stop_reason::none);
}

TEST_CASE("a forked child with a request of its own has its own flag") {
  stop_request const stop;
  std::raise(SIGTERM);
  CHECK(end_of(start_child([] {
          stop_request const own;
          if (own.reason() != stop_reason::none) return 1;
          std::raise(SIGINT);
          return exit_code(own.reason());
        })) == 130);
}

TEST_CASE("signals that were ignored are caught all the same") {
  CHECK(end_of(start_child([] {
          std::signal(SIGINT, SIG_IGN);  // as a shell does for jobs in the background
          stop_request const stop;
          std::raise(SIGINT);
          return exit_code(stop.reason());
        })) == 130);
}
