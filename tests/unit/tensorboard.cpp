// SPDX-License-Identifier: Apache-2.0
// TensorBoard event files, read back by an independent decoder of the wire format.
#include "insula/io/tensorboard.hpp"

#include <sys/resource.h>

#include <csignal>
#include <map>
#include <regex>

#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

template <class T>
T take(std::string_view& s) {
  REQUIRE(s.size() >= sizeof(T));
  T v;
  std::memcpy(&v, s.data(), sizeof(T));
  s.remove_prefix(sizeof(T));
  return v;
}
std::uint64_t take_varint(std::string_view& s) {
  std::uint64_t v = 0;
  for (int shift = 0;; shift += 7) {
    auto const b = take<unsigned char>(s);
    v |= std::uint64_t(b & 127) << shift;
    if (b < 128) return v;
  }
}

/// A message of the wire format: the raw bytes of each field, fixed-width numbers included.
struct message {
  std::multimap<unsigned, std::string> fields;
  explicit message(std::string_view s) {
    while (!s.empty()) {
      auto const tag = take_varint(s);
      std::size_t n = 0;
      std::string value;
      switch (tag & 7) {
        case 0: {
          auto const v = take_varint(s);
          value.assign(reinterpret_cast<char const*>(&v), 8);
          break;
        }
        case 1:
          n = 8;
          break;
        case 5:
          n = 4;
          break;
        case 2:
          n = std::size_t(take_varint(s));
          break;
        default:
          FAIL("wire type");
      }
      REQUIRE(s.size() >= n);
      if ((tag & 7) != 0) value = s.substr(0, n);
      s.remove_prefix(n);
      fields.emplace(unsigned(tag >> 3), value);
    }
  }
  std::string const& operator[](unsigned field) const {
    REQUIRE(fields.count(field) == 1);
    return fields.find(field)->second;
  }
  bool has(unsigned field) const { return fields.count(field) > 0; }
  template <class T>
  T as(unsigned field) const {
    std::string_view s = (*this)[field];
    return take<T>(s);
  }
};

std::vector<message> events_of(std::string const& file) {
  std::vector<message> out;
  for (std::string_view s = file; !s.empty();) {
    auto const length_bytes = s.substr(0, 8);
    auto const n = take<std::uint64_t>(s);
    REQUIRE(take<std::uint32_t>(s) == masked_crc32c(length_bytes));
    REQUIRE(s.size() >= n + 4);
    auto const payload = s.substr(0, n);
    s.remove_prefix(n);
    REQUIRE(take<std::uint32_t>(s) == masked_crc32c(payload));
    out.emplace_back(payload);
  }
  return out;
}
std::vector<double> doubles(std::string_view s) {
  std::vector<double> v;
  while (!s.empty()) v.push_back(take<double>(s));
  return v;
}

}  // namespace

TEST_CASE("crc32c gives the vectors of RFC 3720") {
  CHECK(crc32c("123456789") == 0xE3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AAu);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62A8AB43u);
  CHECK(crc32c("") == 0);
}

TEST_CASE("an event file starts with its version, and scalars carry tag, value, step and time") {
  support::folder const dir;
  event_writer log(dir / "run/logs");
  CHECK(
      std::regex_match(log.path(), std::regex(R"(.*/run/logs/events\.out\.tfevents\.\d{10}\..+\.\d+\.\d+)")));
  log.scalar("train/loss", 0.1, 7, 1234.5);
  log.scalar("train/loss", std::nan(""), index_t{1} << 40, 1235);
  log.flush();
  auto const e = events_of(read_file(log.path()));
  REQUIRE(e.size() == 3);
  CHECK(e[0][3] == "brain.Event:2");
  CHECK(e[1].as<double>(1) == 1234.5);
  CHECK(e[1].as<std::int64_t>(2) == 7);
  message const value{message(e[1][5])[1]};
  CHECK(value[1] == "train/loss");
  CHECK(value.as<float>(2) == 0.1f);
  CHECK(e[2].as<std::int64_t>(2) == std::int64_t{1} << 40);
  CHECK(std::isnan(message(message(e[2][5])[1]).as<float>(2)));
}

TEST_CASE("images are PNG with their size") {
  support::folder const dir;
  event_writer log(dir.path());
  std::vector<std::uint8_t> const pixels{1, 2, 3, 4, 5, 6};
  log.image("val/slice", {3, 2, 1, pixels}, 5);
  log.flush();
  auto const e = events_of(read_file(log.path()));
  message const value{message(e.at(1)[5])[1]};
  message const image(value[4]);
  CHECK(image.as<std::int64_t>(1) == 2);
  CHECK(image.as<std::int64_t>(2) == 3);
  CHECK(image.as<std::int64_t>(3) == 1);
  CHECK(image[4].substr(0, 8) == "\x89PNG\r\n\x1a\n");
}

TEST_CASE("histograms count every finite value in the bucket that holds it") {
  support::folder const dir;
  event_writer log(dir.path());
  auto values = testing::random_vector<float>(1000, 8);
  values.push_back(0);
  auto const finite = values;
  values.push_back(std::numeric_limits<float>::infinity());
  values.push_back(std::nanf(""));
  CHECK(log.histogram("w", std::span<float const>(values), 3) == 2);
  std::vector<double> const extremes{-1e300, 1e300, std::numeric_limits<double>::max(),
                                     std::numeric_limits<double>::lowest()};
  CHECK(log.histogram("extreme", extremes, 3) == 0);
  CHECK(log.histogram("empty", std::span<double const>(), 3) == 0);
  log.flush();
  auto const e = events_of(read_file(log.path()));
  REQUIRE(e.size() == 4);
  message const h{message(message(e[1][5])[1])[5]};
  auto const limit = doubles(h[6]), count = doubles(h[7]);
  REQUIRE(limit.size() == count.size());
  CHECK(std::is_sorted(limit.begin(), limit.end()));
  CHECK(count.front() == 0);
  double total = 0, sum = 0, squares = 0;
  for (auto const c : count) total += c;
  for (float const v : finite) sum += v, squares += double(v) * v;
  CHECK(total == 1001);
  CHECK(h.as<double>(3) == 1001);
  CHECK(h.as<double>(4) == sum);
  CHECK(h.as<double>(5) == squares);
  CHECK(h.as<double>(1) == *std::min_element(finite.begin(), finite.end()));
  CHECK(h.as<double>(2) == *std::max_element(finite.begin(), finite.end()));
  for (std::size_t b = 1; b < limit.size(); ++b) {
    double inside = 0;
    for (float const v : finite) inside += v >= limit[b - 1] && v < limit[b];
    if (inside != count[b]) FAIL("bucket " << b);
  }
  message const extreme{message(message(e[2][5])[1])[5]};
  double all = 0;
  for (auto const c : doubles(extreme[7])) all += c;
  CHECK(all == 4);
  CHECK(message(message(message(e[3][5])[1])[5]).as<double>(3) == 0);
}

TEST_CASE("a resumed run tells TensorBoard from which step on the old events do not count") {
  support::folder const dir;
  event_writer first(dir.path());
  event_writer const second(dir.path(), {.resumes_at = 100});
  CHECK(first.path() != second.path());
  auto const e = events_of(read_file(second.path()));
  REQUIRE(e.size() == 2);
  CHECK(e[1].as<std::int64_t>(2) == 100);
  CHECK(message(e[1][7]).as<std::int64_t>(1) == 1);
}

TEST_CASE("events reach the disk when the writer is destroyed, or by themselves when there are many") {
  support::folder const dir;
  std::string path;
  {
    event_writer log(dir.path(), {.flush_seconds = 1e9});
    path = log.path();
    for (int i = 0; i < 3000; ++i) log.scalar("a", i, i);
    CHECK(events_of(read_file(path)).size() > 1000);
  }
  CHECK(events_of(read_file(path)).size() == 3001);
  event_writer prompt(dir.path(), {.flush_seconds = 0});
  prompt.scalar("a", 1, 1);
  CHECK(events_of(read_file(prompt.path())).size() == 2);
}

TEST_CASE("a full disk leaves whole records, and the events follow once there is room") {
  support::folder const dir;
  event_writer log(dir.path(), {.flush_seconds = 1e9});
  for (int i = 0; i < 100; ++i) log.scalar("a", i, i);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  rlimit const small{1000, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  auto const message = message_of([&] { log.flush(); });
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(message, Contains("tfevents") && Contains("File too large"));
  CHECK(events_of(read_file(log.path())).size() == 1);
  log.flush();
  CHECK(events_of(read_file(log.path())).size() == 101);
  CHECK_THAT(message_of([] { event_writer("/dev/null/logs"); }), Contains("/dev/null/logs"));
}
