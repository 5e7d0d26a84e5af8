// SPDX-License-Identifier: Apache-2.0
// What a run says while it works: a progress bar on a terminal, plain lines elsewhere, and log lines with time and level.
#pragma once

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "insula/io/file.hpp"
#include "insula/train/step_result.hpp"

namespace insula {

/// Where a run stands. Rates are NaN while unknown.
struct progress_view {
  index_t step = 0, steps = 0;
  std::span<named_value const> values{};
  double samples_per_second = 0;
  double data_share = 0;  ///< of the time, spent waiting for data; 0 to 1
  double seconds_left = 0;
};

struct console_options {
  bool quiet = false;        ///< only warnings and errors
  double line_seconds = 10;  ///< without a terminal: at least this long between two lines of progress
  int file = 2;              ///< descriptor; standard error
};

/// UTC as "2025-01-31T12:34:56Z".
inline std::string iso_time(std::time_t t = std::time(nullptr)) {
  std::tm utc{};
  (void)gmtime_r(&t, &utc);
  std::array<char, 32> b{};
  return {b.data(), std::strftime(b.data(), b.size(), "%Y-%m-%dT%H:%M:%SZ", &utc)};
}

/// Most memory this process ever had, bytes.
inline double peak_memory() {
  rusage u{};
  return getrusage(RUSAGE_SELF, &u) == 0 ? double(u.ru_maxrss) * 1024 : 0;
}

namespace detail {
/// Text in a fixed buffer, cut at its end: a step must not allocate.
class line_buffer {
 public:
  line_buffer& operator<<(std::string_view s) {
    auto const n = std::min(s.size(), bytes_.size() - size_);
    std::memcpy(bytes_.data() + size_, s.data(), n);
    size_ += n;
    return *this;
  }
  line_buffer& operator<<(index_t v) { return print("%lld", static_cast<long long>(v)); }
  /// Four significant digits.
  line_buffer& operator<<(double v) { return print("%.4g", v); }
  line_buffer& percent(double share) {
    return std::isfinite(share) ? print("%.0f%%", 100 * share) : *this << "-";
  }
  /// h:mm:ss
  line_buffer& duration(double seconds) {
    if (!(seconds >= 0 && seconds < 1e9)) return *this << "-";
    auto const s = static_cast<long long>(seconds + 0.5);
    return print("%lld:%02d:%02d", s / 3600, int(s / 60 % 60), int(s % 60));
  }
  line_buffer& repeat(char c, index_t n) {
    for (; n > 0; --n) *this << std::string_view(&c, 1);
    return *this;
  }
  void cut(std::size_t size) { size_ = std::min(size_, size); }
  std::string_view view() const { return {bytes_.data(), size_}; }

 private:
  template <class... V>
  line_buffer& print(char const* format, V... v) {
    std::array<char, 48> b{};
    int const n = std::snprintf(b.data(), b.size(), format, v...);
    return *this << std::string_view(b.data(), std::size_t(std::clamp(n, 0, int(b.size()) - 1)));
  }

  std::array<char, 1024> bytes_{};
  std::size_t size_ = 0;
};

/// "loss 0.4213  lr 0.0001  12.5 samples/s  data 3%  1.4 GiB  ETA 0:12:30"; names without what stands before the slash.
inline void describe_progress(line_buffer& b, progress_view const& p) {
  for (auto const& v : p.values) {
    std::string_view const name = v.name;
    b << name.substr(name.rfind('/') + 1) << " " << v.value << "  ";
  }
  if (p.samples_per_second > 0) b << p.samples_per_second << " samples/s  ";
  (b << "data ").percent(p.data_share) << "  " << peak_memory() / 0x1p30 << " GiB";
  if (p.step < p.steps) (b << "  ETA ").duration(p.seconds_left);
}
}  // namespace detail

/// Standard error of a run. The bar is drawn only on a terminal that understands it (TERM is not "dumb"), in colour unless
/// NO_COLOR is set; log lines push it aside. Nothing here throws: a lost terminal must not end a run.
class console {
 public:
  explicit console(console_options const& options = console_options{}) : options_(options) {
    auto const* const term = std::getenv("TERM");
    auto const* const no_color = std::getenv("NO_COLOR");
    terminal_ = ::isatty(options_.file) == 1 && term && std::string_view(term) != "dumb";
    color_ = terminal_ && !(no_color && *no_color);
  }

  /// "2025-01-31T12:34:56Z info ..." at once.
  template <class... A>
  void info(A const&... parts) {
    if (!options_.quiet) line("info", "", text(parts...));
  }
  template <class... A>
  void warning(A const&... parts) {
    line("warning", "\x1b[33m", text(parts...));
  }
  template <class... A>
  void error(A const&... parts) {
    line("error", "\x1b[31m", text(parts...));
  }

  /// Shows where the run stands: on a terminal at most ten times a second, elsewhere every options.line_seconds and at the
  /// last step. Allocates nothing on a terminal, nor when it shows nothing.
  void progress(progress_view const& p) {
    if (options_.quiet) return;
    double const now = seconds();
    bool const last = p.step >= p.steps;
    if (!last && now - shown_ < (terminal_ ? 0.1 : options_.line_seconds)) return;
    shown_ = now;
    if (terminal_) return bar(p);
    detail::line_buffer b;
    b << "step " << p.step << "/" << p.steps << "  ";
    detail::describe_progress(b, p);
    line("info", "", std::string(b.view()));
  }
  /// Leaves the bar as it is and goes to a new line; call at the end of the work.
  void end_progress() {
    if (bar_) put("\n");
    bar_ = false;
  }

  bool terminal() const { return terminal_; }
  bool quiet() const { return options_.quiet; }

 private:
  static double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  void put(std::string_view s) const { (void)write_fully(options_.file, s.data(), s.size()); }
  void line(std::string_view level, std::string_view color, std::string const& message) {
    std::string s = bar_ ? "\r\x1b[K" : "";
    s += iso_time() + ' ';
    if (color_) s += color;
    s += level;
    if (color_ && !color.empty()) s += "\x1b[0m";
    put(s += ' ' + message + '\n');
    if (bar_) bar_ = false, shown_ = -1e9;  // draw it again soon
  }
  void bar(progress_view const& p) {
    winsize size{};
    index_t const columns =
        ioctl(options_.file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    index_t const cells = columns >= 100 ? 20 : 10;
    double const share = p.steps > 0 ? std::clamp(double(p.step) / double(p.steps), 0.0, 1.0) : 1;
    auto const done = index_t(share * double(cells));
    detail::line_buffer rest, out;
    (rest << "] ").percent(share) << " " << p.step << "/" << p.steps << "  ";
    detail::describe_progress(rest, p);
    rest.cut(std::size_t(std::max<index_t>(columns - cells - 2, 0)));
    out << "\r[" << (color_ ? "\x1b[32m" : "");
    out.repeat('=', done).repeat(' ', cells - done) << (color_ ? "\x1b[0m" : "") << rest.view() << "\x1b[K";
    put(out.view());
    bar_ = true;
  }

  console_options options_;
  bool terminal_ = false, color_ = false, bar_ = false;
  double shown_ = -1e9;
};

}  // namespace insula
