// SPDX-License-Identifier: Apache-2.0
// Records of a run: rows on resume, log lines, progress on a terminal and elsewhere, environment.
#include "insula/train/log.hpp"

#include "insula/train/environment.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using Catch::Matchers::StartsWith;

namespace {

/// A terminal whose screen the test reads.
class screen {
 public:
  screen() : master_(::posix_openpt(O_RDWR | O_NOCTTY)) {
    check(master_.open() && ::grantpt(master_.get()) == 0 && ::unlockpt(master_.get()) == 0,
          "screen: no terminal");
    slave_ = descriptor(::open(::ptsname(master_.get()), O_RDWR | O_NOCTTY));
    winsize const size{24, 60, 0, 0};
    check(ioctl(slave_.get(), TIOCSWINSZ, &size) == 0, "screen: no size");
    ::fcntl(master_.get(), F_SETFL, O_NONBLOCK);
  }
  int file() const { return slave_.get(); }
  std::string shown() const {
    std::string s;
    std::array<char, 4096> b{};
    for (ssize_t n; (n = ::read(master_.get(), b.data(), b.size())) > 0;) s.append(b.data(), std::size_t(n));
    return s;
  }

 private:
  descriptor master_, slave_;
};

/// A file that a console writes to.
struct sink {
  support::folder dir;
  descriptor file{::open((dir / "err").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600)};
  std::string shown() const { return read_file(dir / "err"); }
};

constexpr named_value values[] = {{"train/loss", 0.123456}, {"lr", 1e-4}};
progress_view at(index_t step) {
  return {.step = step,
          .steps = 200,
          .values = values,
          .samples_per_second = 12.5,
          .data_share = 0.031,
          .seconds_left = 3725};
}

}  // namespace

TEST_CASE("rows go to CSV and JSON lines, and resuming drops later ones") {
  support::folder const dir;
  console_options const quiet{.quiet = true};
  {
    run_log log(dir / "run", {.console = quiet});
    for (index_t s = 1; s <= 5; ++s) log.append(s, {{"train/loss", 1.0 / double(s)}, {"lr", 0.5}});
  }
  {
    run_log log(dir / "run", {.resumes_at = 3, .console = quiet});
    log.append(4, {{"train/loss", 44}, {"lr", 0.5}});
  }
  CHECK(read_file(dir / "run/metrics.csv") ==
        "step,train/loss,lr\n1,1,0.5\n2,0.5,0.5\n3,0.3333333333333333,0.5\n4,44,0.5\n");
  auto const lines = read_file(dir / "run/metrics.jsonl");
  CHECK_THAT(lines, EndsWith("{\"step\":4,\"train/loss\":44.0,\"lr\":0.5}\n"));
  CHECK(std::count(lines.begin(), lines.end(), '\n') == 4);
  int event_files = 0;
  for (auto const& e : std::filesystem::directory_iterator(dir / "run"))
    event_files += e.path().filename().string().starts_with("events.out.tfevents.");
  CHECK(event_files == 2);
  run_log const afresh(dir / "run", {.console = quiet});
  CHECK(read_file(dir / "run/metrics.csv") == "step\n");
}

TEST_CASE("images are files and events; event files can be off") {
  support::folder const dir;
  run_log log(dir.path(), {.events = false, .console = {.quiet = true}});
  std::vector<std::uint8_t> const pixels(12, 7);
  log.image("val/montage", {4, 3, 1, pixels}, 120);
  CHECK(std::filesystem::exists(dir / "images/val_montage-00000120.png"));
  CHECK(log.events() == nullptr);
  CHECK(dir.list() == std::vector<std::string>{"images", "metrics.csv", "metrics.jsonl"});
}

TEST_CASE("log lines have time and level; quiet leaves warnings and errors") {
  sink loud, quiet;
  console c({.file = loud.file.get()});
  CHECK_FALSE(c.terminal());
  c.info("loss ", 0.5);
  c.warning("odd");
  CHECK_THAT(loud.shown(), Catch::Matchers::Matches("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z info loss 0\\.5\n"
                                                    "[0-9T:Z-]+ warning odd\n"));
  console q({.quiet = true, .file = quiet.file.get()});
  q.info("nothing");
  q.progress(at(200));
  q.error("bad");
  CHECK_THAT(quiet.shown(), Contains("error bad") && !Contains("nothing") && !Contains("step"));
  CHECK(iso_time(951782400) == "2000-02-29T00:00:00Z");
}

TEST_CASE("without a terminal progress is plain lines, at most one per interval, and the last step") {
  sink s;
  console c({.line_seconds = 3600, .file = s.file.get()});
  for (index_t i = 1; i <= 200; ++i) c.progress(at(i));
  auto const shown = s.shown();
  CHECK(std::count(shown.begin(), shown.end(), '\n') == 2);
  CHECK_THAT(shown, Contains("info step 1/200  loss 0.1235  lr 0.0001  12.5 samples/s  data 3%") &&
                        Contains(" GiB  ETA 1:02:05\n") && Contains("step 200/200"));
  CHECK(shown.find('\x1b') == shown.npos);
  CHECK(shown.find('\r') == shown.npos);
}

TEST_CASE("on a terminal a bar fits its width, and log lines push it aside") {
  setenv("TERM", "xterm", 1);
  unsetenv("NO_COLOR");
  screen t;
  console c({.file = t.file()});
  REQUIRE(c.terminal());
  c.progress(at(100));
  auto shown = t.shown();
  CHECK_THAT(shown,
             StartsWith("\r[\x1b[32m=====     \x1b[0m] 50% 100/200  loss 0.1235") && EndsWith("\x1b[K"));
  std::size_t visible = 0;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    if (shown[i] == '\x1b')
      while (!std::isalpha(static_cast<unsigned char>(shown[i]))) ++i;
    else
      visible += shown[i] != '\r';
  }
  CHECK(visible == 59);  // of 60: the last column stays free, or some terminals wrap
  c.progress(at(101));
  CHECK(t.shown().empty());  // not within a tenth of a second
  c.info("hello");
  CHECK_THAT(t.shown(), StartsWith("\r\x1b[K") && EndsWith("info hello\r\n"));
  c.progress(at(102));
  CHECK_THAT(t.shown(), Contains("102/200"));
  c.end_progress();
  CHECK(t.shown() == "\r\n");
}

TEST_CASE("NO_COLOR takes the colours away, TERM=dumb the bar") {
  setenv("TERM", "xterm", 1);
  setenv("NO_COLOR", "1", 1);
  screen t;
  console plain_bar({.file = t.file()});
  plain_bar.progress(at(100));
  plain_bar.error("x");
  auto const shown = t.shown();
  CHECK_THAT(shown, Contains("[=====     ] 50%") && Contains("error x"));
  CHECK(shown.find("\x1b[3") == shown.npos);
  unsetenv("NO_COLOR");
  setenv("TERM", "dumb", 1);
  CHECK_FALSE(console({.file = t.file()}).terminal());
}

TEST_CASE("unknown rates show as a dash and long metrics do not overflow") {
  sink s;
  console c({.file = s.file.get()});
  std::string const name(5000, 'n');
  named_value const huge[] = {{name.c_str(), 1.0}};
  c.progress({.step = 1, .steps = 1, .values = huge});
  CHECK(s.shown().size() < 1200);
  sink u;
  console d({.file = u.file.get()});
  double const none = std::numeric_limits<double>::quiet_NaN();
  d.progress({.step = 1, .steps = 2, .samples_per_second = none, .data_share = none, .seconds_left = none});
  CHECK_THAT(u.shown(), Contains("data -") && Contains("ETA -"));
}

TEST_CASE("the environment names compiler, processor and system, and no host or user") {
  support::folder const dir;
  write_environment(dir.path(), {.kernels = "AVX2", .threads = 3});
  auto const j = nlohmann::json::parse(read_file(dir / "env.json"));
  CHECK(j["library"]["version"] == version_text);
  CHECK(j["compiler"].contains("version"));
  CHECK(j["processor"]["usable_cores"].get<int>() >= 1);
  CHECK(j["processor"].contains("model"));
  CHECK(j["memory_bytes"].get<double>() > 1e6);
  CHECK(j["kernels"] == "AVX2");
  CHECK(j["threads"] == 3);
  CHECK(j["system"]["machine"].is_string());
  utsname u{};
  uname(&u);
  CHECK(j.dump().find("\"" + std::string(u.nodename) + "\"") == std::string::npos);
  CHECK(detail::system_entry("a b\t: x y\nflags : q\n", "a b", ':') == "x y");
  CHECK(detail::system_entry("NAME=\"A\"\nPRETTY_NAME=\"B c\"\n", "PRETTY_NAME", '=') == "B c");
  CHECK(detail::system_entry("flagsx: 1\n", "flags", ':').empty());
}
