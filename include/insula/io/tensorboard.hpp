// SPDX-License-Identifier: Apache-2.0
// Event files for TensorBoard: scalars, images and histograms over the steps of a run.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "insula/io/crc32c.hpp"
#include "insula/io/png.hpp"

namespace insula {

namespace detail {

/// Protocol-buffer wire format, as far as event files need it.
struct wire {
  std::string bytes;

  void varint(std::uint64_t v) {
    for (; v >= 128; v >>= 7) bytes += char((v & 127) | 128);
    bytes += char(v);
  }
  template <class T>
  void raw(T v) {
    char b[sizeof(T)];
    std::memcpy(b, &v, sizeof(T));
    bytes.append(b, sizeof(T));
  }
  void integer(unsigned field, std::int64_t v) { varint(field << 3), varint(std::uint64_t(v)); }
  void number(unsigned field, double v) { varint(field << 3 | 1), raw(v); }
  void number(unsigned field, float v) { varint(field << 3 | 5), raw(v); }
  void block(unsigned field, std::string_view v) { varint(field << 3 | 2), varint(v.size()), bytes += v; }
  void numbers(unsigned field, std::vector<double> const& v) {
    varint(field << 3 | 2), varint(8 * v.size());
    for (double const x : v) raw(x);
  }
};

/// Upper limits of TensorBoard's histogram buckets: -1.1^k 1e-12 ... 0 ... 1.1^k 1e-12, up to 1e20.
inline std::vector<double> const& histogram_limits() {
  static std::vector<double> const limits = [] {
    std::vector<double> v;
    for (double x = 1e-12; x < 1e20; x *= 1.1) v.push_back(x);
    std::size_t const n = v.size();
    v.push_back(std::numeric_limits<double>::max());
    std::vector<double> all;
    for (std::size_t i = n + 1; i-- > 0;) all.push_back(-v[i]);
    all.push_back(0);
    all.insert(all.end(), v.begin(), v.end());
    return all;
  }();
  return limits;
}

}  // namespace detail

struct event_options {
  /// On resume: steps from here on that earlier files of the folder hold are hidden by TensorBoard.
  std::optional<index_t> resumes_at{};
  double flush_seconds = 10;  ///< events wait at most this long for the next event to carry them to the disk
};

/// Appends to one event file, events.out.tfevents.<seconds>.<host>.<pid>.<n>, in `folder` (created if
/// missing).
///   event_writer log("run1");  log.scalar("train/loss", 0.3, step);
/// Records reach the file whole: after a failed write it is cut back to the last whole record, the events are
/// kept, and the next flush tries again. Every function throws error; the destructor flushes and is silent.
/// One thread at a time.
class event_writer {
 public:
  explicit event_writer(std::string const& folder, event_options const& options = event_options{})
      : options_(options) {
    std::error_code e;
    std::filesystem::create_directories(folder, e);
    if (e) fail_errno("create the folder", folder, e.value());
    create(folder);
    event(now(), 0, 3, "brain.Event:2");
    if (options_.resumes_at) {
      detail::wire session;
      session.integer(1, 1);  // SessionLog.status = START
      event(now(), *options_.resumes_at, 7, session.bytes);
    }
    flush();
  }
  event_writer(event_writer const&) = delete;
  event_writer& operator=(event_writer const&) = delete;
  ~event_writer() {
    try {
      flush();
    } catch (error const&) {  // a destructor has nobody to tell; flush() does
    }
  }

  std::string const& path() const { return path_; }
  static double now() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  }

  /// A point of a curve; tags in the style "train/loss". NaN and infinity are kept: TensorBoard marks them.
  void scalar(std::string_view tag, double value, index_t step, double time = now()) {
    detail::wire v;
    v.block(1, tag), v.number(2, float(value));
    summary(v, step, time);
  }
  void image(std::string_view tag, raster const& image, index_t step, double time = now()) {
    auto const png = encode_png(image);
    detail::wire i, v;
    i.integer(1, image.height), i.integer(2, image.width), i.integer(3, image.channels);
    i.block(4, {reinterpret_cast<char const*>(png.data()), png.size()});
    v.block(1, tag), v.block(4, i.bytes);
    summary(v, step, time);
  }
  /// Distribution of the finite values. Gives the number of values left out because they are NaN or infinite.
  index_t histogram(std::string_view tag, std::span<float const> values, index_t step, double time = now()) {
    return histogram_of(tag, values, step, time);
  }
  index_t histogram(std::string_view tag, std::span<double const> values, index_t step, double time = now()) {
    return histogram_of(tag, values, step, time);
  }
  /// Hands everything to the system, so that a TensorBoard that runs sees it.
  void flush() {
    last_flush_ = now();
    if (pending_.empty()) return;
    if (int const e = write_fully(file_.get(), pending_.data(), pending_.size())) {
      if (ftruncate(file_.get(), off_t(good_)) == 0) (void)lseek(file_.get(), off_t(good_), SEEK_SET);
      fail_errno("write", path_, e);
    }
    good_ += pending_.size();
    pending_.clear();
  }

 private:
  void create(std::string const& folder) {
    static std::atomic<unsigned> count{0};
    char host[256] = "localhost";
    (void)gethostname(host, sizeof(host) - 1);
    auto seconds = text(std::uint64_t(now()));
    seconds.insert(0, seconds.size() < 10 ? 10 - seconds.size() : 0, '0');
    for (int tries = 0; tries < 10000 && !file_.open(); ++tries) {
      path_ = text(folder, "/events.out.tfevents.", seconds, ".", std::string_view(host), ".", ::getpid(),
                   ".", count++);
      file_ = descriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
      if (!file_.open() && errno != EEXIST) break;
    }
    if (!file_.open()) fail_errno("create", path_, errno);
  }
  template <class T>
  index_t histogram_of(std::string_view tag, std::span<T const> values, index_t step, double time) {
    auto const& limits = detail::histogram_limits();
    std::vector<double> count(limits.size());
    double least = std::numeric_limits<double>::max(), most = -least, sum = 0, squares = 0, n = 0;
    for (double const x : values) {
      if (!std::isfinite(x)) continue;
      auto const bucket = std::upper_bound(limits.begin(), limits.end() - 1, x) - limits.begin();
      ++count[std::size_t(bucket)];  // holds [limit before, limit)
      least = std::min(least, x), most = std::max(most, x), sum += x, squares += x * x, ++n;
    }
    if (n == 0) least = most = 0;
    std::vector<double> bucket_limit, bucket;
    for (std::size_t i = 0; i < count.size(); ++i) {  // a run of empty buckets becomes one
      if (count[i] == 0)
        while (i + 1 < count.size() && count[i + 1] == 0) ++i;
      bucket_limit.push_back(limits[i]), bucket.push_back(count[i]);
    }
    if (bucket.back() == 0) bucket_limit.pop_back(), bucket.pop_back();
    detail::wire h, v;
    h.number(1, least), h.number(2, most), h.number(3, n), h.number(4, sum), h.number(5, squares);
    h.numbers(6, bucket_limit), h.numbers(7, bucket);
    v.block(1, tag), v.block(5, h.bytes);
    summary(v, step, time);
    return index_t(values.size()) - index_t(n);
  }
  void summary(detail::wire const& value, index_t step, double time) {
    detail::wire s;
    s.block(1, value.bytes);
    event(time, step, 5, s.bytes);
    if (pending_.size() > (std::size_t{1} << 16) || now() - last_flush_ > options_.flush_seconds) flush();
  }
  void event(double time, index_t step, unsigned field, std::string_view contents) {
    detail::wire e, length;
    e.number(1, time), e.integer(2, step), e.block(field, contents);
    length.raw(std::uint64_t(e.bytes.size()));
    detail::wire record;
    record.bytes = length.bytes;
    record.raw(masked_crc32c(length.bytes));
    record.bytes += e.bytes;
    record.raw(masked_crc32c(e.bytes));
    pending_ += record.bytes;
  }

  event_options options_;
  std::string path_, pending_;
  descriptor file_;
  std::size_t good_ = 0;  // bytes of whole records in the file
  double last_flush_ = 0;
};

}  // namespace insula
