// SPDX-License-Identifier: Apache-2.0
// The directories of zip and tar files, and files whose directories lie.
#include "insula/io/zip.hpp"

#include "insula/io/tar.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/torch_bytes.hpp"

using namespace insula;
using namespace std::string_literals;
using Catch::Matchers::Contains;
using support::message_of;
using support::raw;
using support::tar_bytes;
using support::zip_bytes;

namespace {

/// Bytes in memory of their exact size, so that a sanitizer sees reads past the end.
std::vector<std::byte> exact(std::string const& s) {
  auto const* const p = reinterpret_cast<std::byte const*>(s.data());
  return {p, p + s.size()};
}
std::string refusal(std::string const& zip) {
  auto const bytes = exact(zip);
  return message_of([&] { (void)read_zip_directory(bytes, "f"); });
}
std::string contents(std::string const& zip, std::string const& name, std::size_t limit = 1 << 20) {
  auto const bytes = exact(zip);
  auto const directory = read_zip_directory(bytes, "f");
  auto const* const e = directory.find(name);
  if (!e) return "none";
  auto const made = e->method ? inflate_zip_entry(*e, bytes, limit, "f")
                              : std::vector<std::byte>(bytes.begin() + std::ptrdiff_t(e->begin),
                                                       bytes.begin() + std::ptrdiff_t(e->begin + e->stored));
  return {reinterpret_cast<char const*>(made.data()), made.size()};
}
/// A copy with other bytes at a place.
std::string with(std::string s, std::size_t at, std::string const& bytes) {
  return s.replace(at, bytes.size(), bytes);
}

std::string const two = zip_bytes({{"a/one", "first"}, {"a/two", "second entry"}});
std::size_t const directory_at = two.find("PK\x01\x02"), second_at = two.find("PK\x01\x02", directory_at + 1),
                  end_at = two.find("PK\x05\x06");

}  // namespace

TEST_CASE("stored entries are found where they are, in zip and zip64 files") {
  for (bool const zip64 : {false, true}) {
    auto const zip = zip_bytes({{"a/one", "first"}, {"a/two", ""}, {"b", std::string(1000, 'x')}}, zip64);
    CHECK(contents(zip, "a/one") == "first");
    CHECK(contents(zip, "a/two").empty());
    CHECK(contents(zip, "b") == std::string(1000, 'x'));
    CHECK(contents(zip, "c") == "none");
  }
  CHECK(contents(zip_bytes({}), "a") == "none");
  auto const bytes = exact(two);
  CHECK(read_zip_directory(bytes, "f").find("a/two")->begin % 64 == 0);
}

TEST_CASE("a comment behind the directory is no harm") {
  auto commented = two;
  commented.replace(commented.size() - 2, 2, raw(std::uint16_t(10)));
  CHECK(contents(commented + "hello PK\x05\x06", "a/one") == "first");
}

TEST_CASE("deflated entries are inflated up to a limit and checked") {
  auto const text = std::string(5000, 'a') + "end";
  auto const zip = zip_bytes({{"d", text, true}, {"none", "", true}});
  CHECK(contents(zip, "d") == text);
  CHECK(contents(zip, "none").empty());
  CHECK_THAT(message_of([&] { (void)contents(zip, "d", 5002); }), Contains("5003 bytes, at most 5002"));
  auto const central = zip.find("PK\x01\x02");
  CHECK_THAT(message_of([&] { (void)contents(with(zip, central + 16, "xxxx"), "d"); }), Contains("checksum"));
  for (auto const size : {5002u, 5004u})
    CHECK_THAT(message_of([&] { (void)contents(with(zip, central + 24, raw(size)), "d"); }),
               Contains("does not give the") && Contains(std::to_string(size)));
  CHECK_THAT(message_of([&] { (void)contents(with(zip, 64, "\xff\xff\xff"), "d"); }), Contains("damaged"));
}

TEST_CASE("a small entry that promises gigabytes is refused before memory is taken") {
  auto const zip = zip_bytes({{"d", std::string(100, 'a'), true}});
  auto const bomb = with(zip, zip.find("PK\x01\x02") + 24, raw(std::uint32_t(0xfffffff0)));
  CHECK_THAT(message_of([&] { (void)contents(bomb, "d", std::size_t(1) << 40); }),
             Contains("made to deceive"));
}

TEST_CASE("encrypted entries and other methods are named when they are used") {
  auto const bytes = exact(with(two, directory_at + 8, "\x01"));
  auto const encrypted = read_zip_directory(bytes, "f");
  CHECK_THAT(message_of([&] { check_zip_entry(*encrypted.find("a/one"), "f"); }),
             Contains("encrypted") && Contains("'a/one'"));
  check_zip_entry(*encrypted.find("a/two"), "f");
  auto const other = exact(with(two, directory_at + 10, "\x0e"));
  CHECK_THAT(message_of([&] { check_zip_entry(*read_zip_directory(other, "f").find("a/one"), "f"); }),
             Contains("method 14"));
}

TEST_CASE("truncated files are told from damaged ones") {
  for (std::size_t n = 4; n < two.size(); ++n)
    if (refusal(two.substr(0, n)).find("truncated") == std::string::npos) FAIL("cut to " << n << " bytes");
  CHECK_THAT(refusal("PK\x03\x04"), Contains("no zip directory"));
}

TEST_CASE("directories that lie are refused") {
  REQUIRE(refusal(two).empty());
  CHECK_THAT(refusal(with(two, end_at + 16, raw(std::uint32_t(two.size())))),
             Contains("the zip directory would lie at"));
  CHECK_THAT(refusal(with(two, end_at + 12, raw(std::uint32_t(0x7fffffff)))),
             Contains("with 2147483647 bytes"));
  CHECK_THAT(refusal(with(two, end_at + 10, raw(std::uint16_t(3)))),
             Contains("has 2 entries, its end record says 3"));
  CHECK_THAT(refusal(with(two, end_at + 10, "\xff\xff")), Contains("zip64 locator is missing"));
  CHECK_THAT(refusal(with(two, directory_at, "QK")), Contains("the zip directory is damaged"));
  CHECK_THAT(refusal(with(two, directory_at + 28, "\xff\xff")), Contains("a name in the zip directory"));
  CHECK_THAT(refusal(with(two, directory_at + 42, raw(std::uint32_t(0x7fffffff)))),
             Contains("would begin at byte"));
  CHECK_THAT(refusal(with(two, directory_at + 42, raw(std::uint32_t(1)))), Contains("has no valid header"));
  CHECK_THAT(refusal(with(two, directory_at + 42, raw(std::uint32_t(69)))),
             Contains("'a/one' is called 'a/two'"));
  CHECK_THAT(
      refusal(with(two, directory_at + 20, raw(std::uint32_t(0x7fffffff)) + raw(std::uint32_t(0x7fffffff)))),
      Contains("would have 2147483647 bytes"));
  CHECK_THAT(refusal(with(two, directory_at + 24, raw(std::uint32_t(4)))), Contains("5 bytes for 4"));
  CHECK_THAT(refusal(with(two, 26, "\xff\xff")), Contains("no valid header"));
  CHECK_THAT(refusal(with(two, 30, "b")), Contains("is called 'b/one'"));
}

TEST_CASE("overlapping and repeated entries are refused") {
  // The first entry claims the second one's header and bytes.
  auto const long_first = with(two, directory_at + 20, raw(std::uint32_t(70)) + raw(std::uint32_t(70)));
  CHECK_THAT(refusal(long_first), Contains("'a/two' begins at byte") && Contains("inside of 'a/one'"));
  // Both entries of the directory are one entry of the file.
  auto same = with(two, second_at + 42, raw(std::uint32_t(0)));
  same = with(same, second_at + 46, "a/one");
  same = with(same, second_at + 20, raw(std::uint32_t(5)) + raw(std::uint32_t(5)));
  CHECK_THAT(refusal(same), Contains("inside of 'a/one'"));
  CHECK_THAT(refusal(zip_bytes({{"a", "1"}, {"a", "2"}})), Contains("'a' twice"));
}

TEST_CASE("zip64 records that lie are refused") {
  auto const zip = zip_bytes({{"a", "first"}}, true);
  auto const locator = zip.find("PK\x06\x07"), record = zip.find("PK\x06\x06"),
             central = zip.find("PK\x01\x02");
  CHECK_THAT(refusal(with(zip, locator + 8, std::string(8, '\xff'))),
             Contains("what lies before the zip64 record"));
  CHECK_THAT(refusal(with(zip, locator + 8, raw(std::uint64_t(1)))), Contains("no zip64 record at byte 1"));
  CHECK_THAT(refusal(with(zip, record + 48, std::string(8, '\xff'))),
             Contains("the zip directory would lie at"));
  auto const extra = central + 46 + 1;
  CHECK_THAT(refusal(with(zip, extra + 2, raw(std::uint16_t(8)))), Contains("zip64 number"));
  CHECK_THAT(refusal(with(zip, extra + 2, raw(std::uint16_t(60)))), Contains("an extra field"));
  CHECK_THAT(refusal(with(zip, extra + 20, std::string(8, '\xff'))), Contains("would begin at byte"));
  CHECK_THAT(refusal(with(zip, extra + 12, std::string(8, '\xff'))),
             Contains("would have 18446744073709551615"));
}

TEST_CASE("tar members are listed with their places, whatever wrote long names") {
  auto const tar = exact(tar_bytes({{"a.txt", "hello"}, {"dir/b", std::string(512, 'b')}, {"empty", ""}}));
  REQUIRE(looks_like_tar(tar));
  auto const members = read_tar(tar, "f");
  REQUIRE(members.size() == 3);
  CHECK(members[0].name == "a.txt");
  CHECK(members[0].begin == 512);
  CHECK(members[0].size == 5);
  CHECK(members[1].name == "dir/b");
  CHECK(members[1].begin == 1536);
  CHECK(members[2].size == 0);
  auto const unended = [](std::string s) { return s.substr(0, s.size() - 1024); };
  auto const name = std::string(300, 'n');
  auto const gnu =
      exact(unended(tar_bytes({{"././@LongLink", name + '\0'}}, 'L')) + tar_bytes({{name, "x"}, {"y", ""}}));
  CHECK(read_tar(gnu, "f")[0].name == name);
  CHECK(read_tar(gnu, "f")[1].name == "y");
  auto const pax = exact(unended(tar_bytes({{"PaxHeader", "13 size=abcd\n12 path=p/q\n"}}, 'x')) +
                         tar_bytes({{"short", "x"}}));
  CHECK(read_tar(pax, "f")[0].name == "p/q");
  CHECK(read_tar(exact(tar_bytes({{"folder", ""}}, '5')), "f").empty());
}

TEST_CASE("damaged tar files are refused") {
  auto const tar = tar_bytes({{"a.txt", "hello"}});
  auto const said = [](std::string const& s) {
    auto const bytes = exact(s);
    return message_of([&] { (void)read_tar(bytes, "f"); });
  };
  CHECK_THAT(said(with(tar, 3, "X")), Contains("tar header at byte 0 is damaged"));
  CHECK_THAT(said(tar.substr(0, 515)), Contains("would have 5 bytes, but only 3"));
  auto huge = with(tar, 124, "\x80"s + std::string(2, '\0') + std::string(9, '\xff'));
  CHECK_THAT(said(huge), Contains("damaged"));
  CHECK(said(tar.substr(0, 1024)).empty());  // the end's zero blocks may be missing
}
