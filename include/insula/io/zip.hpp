// SPDX-License-Identifier: Apache-2.0
// The directory of a zip file in memory, checked as a whole; stored entries are used in place, deflated ones inflated.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "insula/io/byte_reader.hpp"
#include "insula/io/quote.hpp"

namespace insula {

/// One file in a zip file. `name` points into the zip file's bytes.
struct zip_entry {
  std::string_view name;
  std::size_t header = 0;             // where its local header begins
  std::size_t begin = 0, stored = 0;  // its bytes, compressed or not
  std::size_t size = 0;               // bytes once inflated
  std::uint32_t crc = 0;
  std::uint16_t method = 0, flags = 0;  // method 0: stored, 8: deflated
};

/// The entries of a zip file, by name.
class zip_directory {
 public:
  zip_directory() = default;
  zip_directory(std::vector<zip_entry> entries, std::string_view file) : entries_(std::move(entries)) {
    std::sort(entries_.begin(), entries_.end(),
              [](zip_entry const& a, zip_entry const& b) { return a.name < b.name; });
    for (std::size_t i = 1; i < entries_.size(); ++i)
      if (entries_[i].name == entries_[i - 1].name)
        fail(file, ": the zip directory names ", quote(entries_[i].name), " twice; the file is damaged");
  }
  std::vector<zip_entry> const& entries() const { return entries_; }
  /// Null if there is none.
  zip_entry const* find(std::string_view name) const {
    auto const it = std::lower_bound(entries_.begin(), entries_.end(), name,
                                     [](zip_entry const& e, std::string_view n) { return e.name < n; });
    return it == entries_.end() || it->name != name ? nullptr : &*it;
  }

 private:
  std::vector<zip_entry> entries_;
};

namespace detail {

struct zip_end {
  std::uint64_t entries, size, offset;  // of the central directory
  std::size_t limit;                    // the directory ends at or before this byte
};

inline constexpr std::uint32_t zip_end_mark = 0x06054b50, zip64_end_mark = 0x06064b50,
                               zip64_locator_mark = 0x07064b50, zip_central_mark = 0x02014b50,
                               zip_local_mark = 0x04034b50;
inline constexpr std::uint32_t zip_full32 = 0xffffffff;  // the number stands in a zip64 record
inline constexpr std::uint16_t zip_full16 = 0xffff;

/// The end record is the last thing in the file but for a comment of at most 65535 bytes.
inline zip_end find_zip_end(std::span<std::byte const> bytes, std::string_view file) {
  constexpr std::size_t record = 22;
  std::size_t const last = bytes.size() < record ? 0 : bytes.size() - record;
  std::size_t const first = last > zip_full16 ? last - zip_full16 : 0;
  std::size_t at = last + 1;
  bool found = false;
  while (!found && bytes.size() >= record && at-- > first)
    found = number_at<std::uint32_t>(bytes, at) == zip_end_mark &&
            number_at<std::uint16_t>(bytes, at + 20) == bytes.size() - at - record;
  if (!found)
    fail(file,
         ": it begins as a zip file but has no zip directory at its end; it is truncated: copy or "
         "download it again");
  auto const u16 = [&](std::size_t k) { return number_at<std::uint16_t>(bytes, at + k); };
  auto const u32 = [&](std::size_t k) { return number_at<std::uint32_t>(bytes, at + k); };
  zip_end end{u16(10), u32(12), u32(16), at};
  bool const large = u16(10) == zip_full16 || u32(12) == zip_full32 || u32(16) == zip_full32;
  if (large) {
    byte_reader r(bytes, std::string(file));
    constexpr std::size_t locator = 20;
    if (at < locator || number_at<std::uint32_t>(bytes, at - locator) != zip64_locator_mark)
      fail(file, ": the zip64 locator is missing; the file is damaged: copy or download it again");
    auto const record64 = number_at<std::uint64_t>(bytes, at - locator + 8);
    (void)r.take(record64, "what lies before the zip64 record");
    if (r.number<std::uint32_t>("the zip64 record") != zip64_end_mark)
      fail(file, ": there is no zip64 record at byte ", record64, "; the file is damaged");
    (void)r.take(28, "the zip64 record");
    end = {r.number<std::uint64_t>("the zip64 record"), r.number<std::uint64_t>("the zip64 record"),
           r.number<std::uint64_t>("the zip64 record"), std::size_t(record64)};
  }
  if (end.offset > end.limit || end.size > end.limit - end.offset)
    fail(file, ": the zip directory would lie at byte ", end.offset, " with ", end.size,
         " bytes, but it must end before byte ", end.limit, "; the file is damaged");
  return end;
}

/// Sizes and offset that do not fit 32 bits stand in the extra field 1, in this order, each only if it is needed.
inline void read_zip64_extra(std::span<std::byte const> extra, std::string_view file, std::uint64_t& size,
                             std::uint64_t& stored, std::uint64_t& offset) {
  byte_reader all(extra, text(file, ", the zip directory's extra fields"));
  while (all.left() >= 4) {
    auto const id = all.number<std::uint16_t>("an extra field");
    auto const n = all.number<std::uint16_t>("an extra field");
    auto const part = all.take(n, "an extra field");
    if (id != 1) continue;
    byte_reader r(part, text(file, ", a zip64 extra field"));
    for (auto* const v : {&size, &stored, &offset})
      if (*v == zip_full32) *v = r.number<std::uint64_t>("a zip64 number");
    return;
  }
}

inline zip_entry read_central_entry(byte_reader& r, std::string_view file) {
  constexpr auto what = "an entry of the zip directory";
  if (auto const mark = r.number<std::uint32_t>(what); mark != zip_central_mark)
    fail(file, ": the zip directory is damaged ", r.at() - 4,
         " bytes after its start; copy or download it again");
  (void)r.take(4, what);  // versions
  zip_entry e;
  e.flags = r.number<std::uint16_t>(what);
  e.method = r.number<std::uint16_t>(what);
  (void)r.take(4, what);  // time and date
  e.crc = r.number<std::uint32_t>(what);
  std::uint64_t stored = r.number<std::uint32_t>(what), size = r.number<std::uint32_t>(what);
  auto const name = r.number<std::uint16_t>(what), extra = r.number<std::uint16_t>(what),
             comment = r.number<std::uint16_t>(what);
  (void)r.take(8, what);  // disk, attributes
  std::uint64_t offset = r.number<std::uint32_t>(what);
  e.name = r.take_text(name, "a name in the zip directory");
  read_zip64_extra(r.take(extra, what), file, size, stored, offset);
  (void)r.take(comment, what);
  e.header = std::size_t(offset), e.stored = std::size_t(stored), e.size = std::size_t(size);
  return e;
}

/// Finds the entry's bytes behind its local header, whose name must be the directory's.
inline void locate_zip_entry(zip_entry& e, std::span<std::byte const> bytes, std::string_view file) {
  constexpr std::size_t record = 30;
  auto const who = [&] { return text(file, ": the zip entry ", quote(e.name)); };
  if (e.header > bytes.size() || bytes.size() - e.header < record)
    fail(who(), " would begin at byte ", e.header, ", past the ", bytes.size(),
         " bytes before the zip directory; the file is damaged");
  auto const name = number_at<std::uint16_t>(bytes, e.header + 26);
  std::size_t const skip = record + name + number_at<std::uint16_t>(bytes, e.header + 28);
  if (number_at<std::uint32_t>(bytes, e.header) != zip_local_mark || bytes.size() - e.header < skip)
    fail(who(), " has no valid header at byte ", e.header,
         "; the file is damaged: copy or download it again");
  std::string_view const local(reinterpret_cast<char const*>(bytes.data()) + e.header + record, name);
  if (local != e.name)
    fail(who(), " is called ", quote(local), " at byte ", e.header, "; the file is damaged");
  e.begin = e.header + skip;
  if (e.stored > bytes.size() - e.begin)
    fail(who(), " would have ", e.stored, " bytes from byte ", e.begin, ", but only ", bytes.size() - e.begin,
         " lie before the zip directory; the file is damaged");
  if (e.method == 0 && e.stored != e.size)
    fail(who(), " is not compressed, yet has ", e.stored, " bytes for ", e.size, "; the file is damaged");
}

}  // namespace detail

/// True if the bytes begin as a zip file with entries does.
inline bool looks_like_zip(std::span<std::byte const> bytes) {
  return bytes.size() >= 4 && number_at<std::uint32_t>(bytes, 0) == detail::zip_local_mark;
}

/// Reads the directory of a zip or zip64 file that lies in memory as a whole (PKWARE, APPNOTE 6.3.10, sections 4.3 and
/// 4.5.3); `file` is its name in messages. Touches headers only. Every entry must lie inside of the file, before the
/// directory, overlap no other, and be named once. Throws error naming the file, the entry and both values.
inline zip_directory read_zip_directory(std::span<std::byte const> bytes, std::string_view file) {
  auto const end = detail::find_zip_end(bytes, file);
  byte_reader r(bytes.subspan(std::size_t(end.offset), std::size_t(end.size)), std::string(file));
  std::vector<zip_entry> entries;
  while (r.left() > 0) {
    entries.push_back(detail::read_central_entry(r, file));
    detail::locate_zip_entry(entries.back(), bytes.first(std::size_t(end.offset)), file);
  }
  if (entries.size() != end.entries)
    fail(file, ": the zip directory has ", entries.size(), " entries, its end record says ", end.entries,
         "; the file is damaged");
  std::sort(entries.begin(), entries.end(),
            [](zip_entry const& a, zip_entry const& b) { return a.header < b.header; });
  for (std::size_t i = 1; i < entries.size(); ++i) {
    auto const& [a, b] = std::pair(entries[i - 1], entries[i]);
    if (b.header < a.begin + a.stored)
      fail(file, ": the zip entry ", quote(b.name), " begins at byte ", b.header, " inside of ",
           quote(a.name), ", which ends at ", a.begin + a.stored, "; the file is damaged or made to deceive");
  }
  return {std::move(entries), file};
}

/// Throws error unless the entry can be read: neither encrypted nor compressed other than by deflate.
inline void check_zip_entry(zip_entry const& e, std::string_view file) {
  if (e.flags & 1) fail(file, ": the zip entry ", quote(e.name), " is encrypted; decrypt the file first");
  if (e.method != 0 && e.method != 8)
    fail(file, ": the zip entry ", quote(e.name), " is compressed by method ", e.method,
         "; unpack the file and pack it again with `zip -0`");
}

/// Inflates a deflated entry of at most `limit` bytes and checks its size and checksum. Throws error.
inline std::vector<std::byte> inflate_zip_entry(zip_entry const& e, std::span<std::byte const> bytes,
                                                std::size_t limit, std::string_view file) {
  check_zip_entry(e, file);
  auto const who = [&] { return text(file, ": the zip entry ", quote(e.name)); };
  constexpr std::size_t expansion = 1032;  // deflate makes no more of a byte
  if (e.size > limit)
    fail(who(), " would inflate to ", e.size, " bytes, at most ", limit,
         " are allowed; unpack the file and pack it again with `zip -0`, or raise the limit");
  if (e.size / expansion > e.stored)
    fail(who(), " cannot inflate from ", e.stored, " to ", e.size, " bytes; the file is made to deceive");
  std::vector<std::byte> out(e.size);
  z_stream z{};
  if (inflateInit2(&z, -MAX_WBITS) != Z_OK) fail(who(), ": zlib has no memory to inflate it");
  auto const* from = bytes.data() + e.begin;
  std::size_t in_left = e.stored, out_left = out.size();
  std::byte surplus{};
  z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(from));
  z.next_out = reinterpret_cast<Bytef*>(out.empty() ? &surplus : out.data());
  int code = Z_OK;
  do {  // zlib counts in 32 bits
    constexpr std::size_t most = std::numeric_limits<uInt>::max();
    uInt const in = uInt(std::min(in_left, most)), room = uInt(std::min(out_left, most));
    z.avail_in = in, z.avail_out = room;
    code = inflate(&z, Z_NO_FLUSH);
    in_left -= in - z.avail_in, out_left -= room - z.avail_out;
    if (in == z.avail_in && room == z.avail_out && code == Z_OK) code = Z_BUF_ERROR;
  } while (code == Z_OK);
  (void)inflateEnd(&z);
  if (code != Z_STREAM_END || in_left > 0 || out_left > 0)
    fail(who(), " is damaged: its deflate stream does not give the ", e.size,
         " bytes that the directory promises; copy or download the file again");
  uLong crc = crc32_z(0, reinterpret_cast<Bytef const*>(out.data()), out.size());
  if (crc != e.crc)
    fail(who(), " is damaged: its checksum is ", crc, ", wanted is ", e.crc, "; copy or download it again");
  return out;
}

}  // namespace insula
