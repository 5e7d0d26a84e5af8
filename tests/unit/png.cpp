// SPDX-License-Identifier: Apache-2.0
// PNG files and base64 text.
#include "insula/io/png.hpp"

#include <cstring>

#include "insula/base/random.hpp"
#include "insula/io/base64.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

struct decoded {
  std::uint32_t width = 0, height = 0;
  int channels = 0;
  std::vector<std::uint8_t> pixels;
};

std::uint32_t big_endian(std::byte const* p) {
  return std::uint32_t(p[0]) << 24 | std::uint32_t(p[1]) << 16 | std::uint32_t(p[2]) << 8 |
         std::uint32_t(p[3]);
}

/// Undoes one row of filtering by the formulas of the PNG specification, section 9.2.
void unfilter(int type, std::vector<std::uint8_t>& row, std::vector<std::uint8_t> const& above,
              std::size_t channels) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    int const a = i >= channels ? row[i - channels] : 0, b = above[i],
              c = i >= channels ? above[i - channels] : 0;
    int const p = a + b - c, pa = std::abs(p - a), pb = std::abs(p - b), pc = std::abs(p - c);
    int const guess = type == 1   ? a
                      : type == 2 ? b
                      : type == 3 ? (a + b) / 2
                      : type == 4 ? (pa <= pb && pa <= pc ? a
                                     : pb <= pc           ? b
                                                          : c)
                                  : 0;
    row[i] = std::uint8_t(row[i] + guess);
  }
}

decoded decode(std::vector<std::byte> const& png) {
  decoded d;
  REQUIRE(png.size() > 8);
  REQUIRE(std::memcmp(png.data(), "\x89PNG\r\n\x1a\n", 8) == 0);
  std::vector<std::byte> packed;
  std::string kinds;
  for (std::size_t at = 8; at < png.size();) {
    std::size_t const n = big_endian(png.data() + at);
    REQUIRE(at + 12 + n <= png.size());
    auto const* const p = png.data() + at + 4;
    REQUIRE(big_endian(p + 4 + n) == crc32(0, reinterpret_cast<Bytef const*>(p), uInt(n + 4)));
    std::string const kind(reinterpret_cast<char const*>(p), 4);
    kinds += kind + ' ';
    if (kind == "IHDR") {
      REQUIRE(n == 13);
      d.width = big_endian(p + 4), d.height = big_endian(p + 8);
      REQUIRE(p[12] == std::byte{8});
      d.channels = p[13] == std::byte{2} ? 3 : 1;
    }
    if (kind == "IDAT") packed.insert(packed.end(), p + 4, p + 4 + n);
    at += 12 + n;
  }
  REQUIRE(kinds == "IHDR IDAT IEND ");
  std::size_t const row_bytes = std::size_t(d.width) * std::size_t(d.channels);
  std::vector<std::uint8_t> filtered((row_bytes + 1) * d.height);
  uLongf size = uLongf(filtered.size());
  REQUIRE(uncompress(filtered.data(), &size, reinterpret_cast<Bytef const*>(packed.data()),
                     uLong(packed.size())) == Z_OK);
  REQUIRE(size == filtered.size());
  std::vector<std::uint8_t> above(row_bytes), row;
  for (std::size_t y = 0; y < d.height; ++y) {
    auto const* const p = filtered.data() + y * (row_bytes + 1);
    row.assign(p + 1, p + 1 + row_bytes);
    unfilter(p[0], row, above, std::size_t(d.channels));
    d.pixels.insert(d.pixels.end(), row.begin(), row.end());
    above = row;
  }
  return d;
}

}  // namespace

TEST_CASE("images of noise, gradients and flat areas come back bit by bit") {
  random_stream draw({1, 2});
  for (int channels : {1, 3})
    for (auto const& [w, h] : {std::pair<index_t, index_t>{1, 1}, {7, 5}, {64, 33}, {1, 9}, {9, 1}}) {
      std::vector<std::uint8_t> pixels(std::size_t(w * h * channels));
      for (std::size_t i = 0; i < pixels.size(); ++i)
        pixels[i] = i % 3 == 0 ? std::uint8_t(draw.below(256)) : std::uint8_t(i / 2);
      auto const d = decode(encode_png({w, h, channels, pixels}));
      CHECK(d.width == w);
      CHECK(d.height == h);
      CHECK(d.channels == channels);
      CHECK(d.pixels == pixels);
    }
}

TEST_CASE("filters make smooth images small") {
  std::vector<std::uint8_t> pixels(256 * 256);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = std::uint8_t(i % 256 / 2 + i / 256 / 2);
  CHECK(encode_png({256, 256, 1, pixels}).size() < pixels.size() / 50);
}

TEST_CASE("sizes that do not fit are refused with both numbers") {
  std::vector<std::uint8_t> const pixels(12);
  CHECK_THAT(message_of([&] { encode_png({2, 2, 2, pixels}); }), Contains("2 channels"));
  CHECK_THAT(message_of([&] { encode_png({3, 3, 1, pixels}); }), Contains("needs 9 bytes, given are 12"));
  CHECK_THAT(message_of([&] { encode_png({0, 3, 1, {}}); }), Contains("0 x 3"));
  CHECK_THAT(message_of([&] {
               encode_png({index_t{1} << 40, index_t{1} << 40, 1, pixels});
             }),
             Contains("at most 2^31"));
}

TEST_CASE("a PNG is written to a file") {
  support::folder const dir;
  std::vector<std::uint8_t> const pixels{0, 128, 255, 7, 8, 9};
  write_png(dir / "a.png", {2, 1, 3, pixels});
  auto const s = read_file(dir / "a.png");
  auto const* const p = reinterpret_cast<std::byte const*>(s.data());
  CHECK(decode({p, p + s.size()}).pixels == pixels);
}

TEST_CASE("base64 gives the vectors of RFC 4648") {
  auto const of = [](std::string_view s) { return base64(std::as_bytes(std::span(s))); };
  CHECK(of("") == "");
  CHECK(of("f") == "Zg==");
  CHECK(of("fo") == "Zm8=");
  CHECK(of("foo") == "Zm9v");
  CHECK(of("foob") == "Zm9vYg==");
  CHECK(of("fooba") == "Zm9vYmE=");
  CHECK(of("foobar") == "Zm9vYmFy");
  CHECK(of("\xff\xff\xfe\xfb") == "///++w==");
  CHECK(data_uri("image/png", std::as_bytes(std::span("ab", 2))) == "data:image/png;base64,YWI=");
}
