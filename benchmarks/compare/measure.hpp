// SPDX-License-Identifier: Apache-2.0
// Rivals of one computation: their agreement, then their times in turn, and the lines of JSON that report both.
#pragma once

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "insula/device/buffer.hpp"
#include "insula/testing/compare.hpp"

namespace compare {

using json = nlohmann::ordered_json;

/// In memory of the library, as oneDNN takes its own: a vector may begin anywhere in a cache line.
inline insula::buffer<float, insula::cpu> copied(std::vector<float> const& from) {
  insula::buffer<float, insula::cpu> b(insula::index_t(from.size()));
  std::copy(from.begin(), from.end(), b.begin());
  return b;
}

inline double seconds_of(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

/// Time on the wall and processor time of the whole process, so that no work hides in another thread.
struct stopwatch {
  double wall = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
};
struct duration {
  double wall, cpu;
};
inline duration since(stopwatch const& s) {
  return {seconds_of(CLOCK_MONOTONIC) - s.wall, seconds_of(CLOCK_PROCESS_CPUTIME_ID) - s.cpu};
}

/// Median, quartiles and least of some times.
inline json spread(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  auto const at = [&](double q) { return v[std::size_t(q * double(v.size() - 1) + 0.5)]; };
  return {{"median", (v[(v.size() - 1) / 2] + v[v.size() / 2]) / 2},
          {"q1", at(0.25)},
          {"q3", at(0.75)},
          {"least", v.front()}};
}

/// Processor seconds of all processes of the machine since it started, waiting for disks not counted.
inline double busy_seconds() {
  double user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft = 0;
  if (std::FILE* f = std::fopen("/proc/stat", "r")) {
    if (std::fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf", &user, &nice, &system, &idle, &wait, &irq, &soft) !=
        7)
      user = nice = system = irq = soft = 0;
    std::fclose(f);
  }
  return (user + nice + system + irq + soft) / double(sysconf(_SC_CLK_TCK));
}

/// How many processors others keep busy, on average over the life of this object.
class neighbours {
 public:
  double processors() const {
    auto const t = since(start_);
    return t.wall > 0 ? std::max(0.0, (busy_seconds() - busy_ - t.cpu) / t.wall) : 0;
  }

 private:
  stopwatch start_;
  double busy_ = busy_seconds();
};

/// Waits until others use less than a tenth of a processor, at most `most` seconds. Gives the seconds waited.
inline double wait_for_idle(double most) {
  stopwatch const start;
  while (since(start).wall < most) {
    neighbours const others;
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    if (others.processors() < 0.1) break;
  }
  return since(start).wall;
}

/// Waits until this process' threads no longer spin: those of OpenMP do for up to some 15 ms after their work, on a processor that
/// the next rival needs.
inline void wait_for_own_threads() {
  for (int i = 0; i < 20; ++i) {
    stopwatch const start;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (since(start).cpu < 5e-4) return;
  }
}

/// One way to compute something. result() gives what run() wrote, in an order that all rivals share.
struct rival {
  std::string name;
  std::function<void()> run;
  std::function<std::vector<float>()> result;
  double limit = 1e-5;  ///< of the relative error against the first rival
};

/// What a computation cannot do without: the bound that table.py holds the times against.
struct work {
  double operations;     ///< of the direct algorithm, two per multiply-add
  double bytes;          ///< every input read once and every output written once
  double reduction = 1;  ///< by how much the best algorithm divides the operations: 4 for Winograd's F(4,4)
  double gelus = 0;      ///< exact ones
};

struct contest {
  std::string group, name;
  work needed;
  std::vector<rival> rivals;
};

struct settings {
  int threads = 1;
  double seconds = 0.6;    ///< of timed work per rival
  std::size_t fewest = 3;  ///< repetitions, however long they take
  double wait = 0;         ///< most seconds to wait for an idle machine before a contest
  double until = 0;        ///< seconds since 1970 after which no contest begins; 0: no such time
  std::string filter;
  std::vector<std::string> groups;  ///< empty: all

  /// Whether to hold a contest. What there is no time for is told in a line of JSON.
  bool wants(std::string const& group, std::string const& name) const {
    bool const g = groups.empty() || std::find(groups.begin(), groups.end(), group) != groups.end();
    if (!g || (group + "/" + name).find(filter) == std::string::npos) return false;
    if (until <= 0 || seconds_of(CLOCK_REALTIME) < until) return true;
    json const line{{"group", group}, {"case", name}, {"threads", threads}, {"left_out", "out of time"}};
    std::printf("%s\n", line.dump().c_str());
    return false;
  }
};

/// Checks agreement, times the rivals in turn (each round begins with another one) and prints one JSON line per rival.
/// Returns how many of insula's disagree; a peer that does is marked, and out of the comparison.
inline int hold(contest const& c, settings const& s) {
  constexpr double shortest = 5e-3;    // seconds of one repetition: many times the clock's resolution
  constexpr double long_enough = 0.2;  // seconds after which once is enough to know how long something takes
  constexpr std::size_t most = 25;
  struct record {
    double error = 0;
    int inner = 1;
    bool wakes =
        false;  // so short that threads that slept would cost much: a call before the clock wakes them
    std::vector<double> wall, cpu;
    double used = 0;
  };
  std::vector<record> records(c.rivals.size());
  std::vector<float> reference;
  int disagreements = 0;
  for (std::size_t i = 0; i < c.rivals.size(); ++i) {
    stopwatch const first;
    c.rivals[i].run();
    double once = since(first).wall;
    auto const out = c.rivals[i].result();
    if (i == 0) reference = out;
    records[i].error = insula::testing::relative_error(out, reference);
    bool const agrees = records[i].error <= c.rivals[i].limit;
    if (!agrees && c.rivals[i].name.starts_with("insula")) ++disagreements;
    if (once < long_enough) {  // the first run also maps memory and generates kernels
      stopwatch const second;
      c.rivals[i].run();
      once = since(second).wall;
    }
    records[i].inner = std::clamp(int(shortest / std::max(once, 1e-7)) + 1, 1, 100000);
    records[i].wakes = s.threads > 1 && once < long_enough;
  }
  double const waited = s.wait > 0 ? wait_for_idle(s.wait) : 0;
  neighbours const others;
  for (std::size_t round = 0;; ++round) {
    bool again = false;
    for (std::size_t k = 0; k < records.size(); ++k) {
      std::size_t const i = (k + round) % records.size();
      record& r = records[i];
      if (r.wall.size() >= most || (r.wall.size() >= s.fewest && r.used >= s.seconds)) continue;
      if (s.threads > 1) wait_for_own_threads();
      if (r.wakes) c.rivals[i].run();
      stopwatch const start;
      for (int j = 0; j < r.inner; ++j) c.rivals[i].run();
      auto const t = since(start);
      r.wall.push_back(t.wall / r.inner), r.cpu.push_back(t.cpu / r.inner), r.used += t.wall;
      again = true;
    }
    if (!again) break;
  }
  double const busy = others.processors();
  for (std::size_t i = 0; i < records.size(); ++i) {
    record const& r = records[i];
    json line{{"group", c.group},
              {"case", c.name},
              {"rival", c.rivals[i].name},
              {"threads", s.threads},
              {"error", r.error},
              {"agrees", r.error <= c.rivals[i].limit},
              {"repetitions", r.wall.size()},
              {"wall_s", spread(r.wall)},
              {"cpu_s", spread(r.cpu)},
              {"operations", c.needed.operations},
              {"reduction", c.needed.reduction},
              {"bytes", c.needed.bytes},
              {"gelus", c.needed.gelus},
              {"others", busy},
              {"waited_s", waited}};
    std::printf("%s\n", line.dump().c_str());
  }
  std::fflush(stdout);
  return disagreements;
}

}  // namespace compare
