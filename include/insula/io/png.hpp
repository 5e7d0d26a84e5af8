// SPDX-License-Identifier: Apache-2.0
// Writing 8-bit grey and RGB images as PNG.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "insula/io/atomic_file.hpp"

namespace insula {

/// An 8-bit image: rows from top to bottom, pixels from left to right, channels (1 grey, 3 RGB) contiguous.
struct raster {
  index_t width = 0, height = 0;
  int channels = 1;
  std::span<std::uint8_t const> pixels;  // height * width * channels
};

namespace detail {

inline void put_big_endian(std::vector<std::byte>& out, std::uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(std::byte(v >> shift));
}

/// Length, type, contents, CRC-32 of type and contents. PNG specification (ISO/IEC 15948), section 5.3.
inline void put_chunk(std::vector<std::byte>& out, char const (&type)[5],
                      std::span<std::byte const> contents) {
  put_big_endian(out, std::uint32_t(contents.size()));
  std::size_t const start = out.size();
  for (int i = 0; i < 4; ++i) out.push_back(std::byte(type[i]));
  out.insert(out.end(), contents.begin(), contents.end());
  auto const* const p = reinterpret_cast<Bytef const*>(out.data() + start);
  put_big_endian(out, std::uint32_t(crc32(0, p, uInt(out.size() - start))));
}

/// One row behind its filter type, with the filter (none, sub, up, average, Paeth) whose residues have the
/// smallest sum of absolute values. PNG specification, sections 9.2 and 12.8.
inline void put_row(std::vector<std::uint8_t>& out, std::uint8_t const* row, std::uint8_t const* above,
                    std::size_t bytes, std::size_t channels) {
  std::vector<std::uint8_t> trial(bytes), best;
  std::uint64_t least = ~std::uint64_t{0};
  std::uint8_t best_type = 0;
  for (std::uint8_t type = 0; type < 5; ++type) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < bytes; ++i) {
      int const a = i >= channels ? row[i - channels] : 0, b = above ? above[i] : 0;
      int const c = above && i >= channels ? above[i - channels] : 0;
      int const pa = std::abs(b - c), pb = std::abs(a - c), pc = std::abs(a + b - 2 * c);
      int const paeth = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
      int const guess[] = {0, a, b, (a + b) / 2, paeth};
      trial[i] = std::uint8_t(row[i] - guess[type]);
      sum += trial[i] < 128 ? trial[i] : 256u - trial[i];
    }
    if (sum < least) least = sum, best_type = type, best = trial;
  }
  out.push_back(best_type);
  out.insert(out.end(), best.begin(), best.end());
}

}  // namespace detail

/// The bytes of a PNG file. Throws error if the sizes do not fit or are above 2^31 - 1 bytes.
inline std::vector<std::byte> encode_png(raster const& image) {
  check(image.channels == 1 || image.channels == 3, "encode_png: the image has ", image.channels,
        " channels; grey has 1, RGB has 3");
  constexpr index_t most = 0x7fffffff;
  check(image.width > 0 && image.height > 0 && image.width <= most / 3 && image.height <= most &&
            image.height <= (most - 1) / (image.width * image.channels + 1),
        "encode_png: the image is ", image.width, " x ", image.height, " with ", image.channels,
        " channels; it must have pixels and at most 2^31 bytes");
  check(index_t(image.pixels.size()) == image.width * image.height * image.channels,
        "encode_png: ", image.width, " x ", image.height, " with ", image.channels, " channels needs ",
        image.width * image.height * image.channels, " bytes, given are ", image.pixels.size());

  auto const bytes = std::size_t(image.width * image.channels);
  std::vector<std::uint8_t> filtered;
  filtered.reserve((bytes + 1) * std::size_t(image.height));
  for (std::size_t y = 0; y < std::size_t(image.height); ++y) {
    auto const* const row = image.pixels.data() + y * bytes;
    detail::put_row(filtered, row, y ? row - bytes : nullptr, bytes, std::size_t(image.channels));
  }
  uLongf size = compressBound(uLong(filtered.size()));
  std::vector<std::byte> packed(size);
  int const status =
      compress2(reinterpret_cast<Bytef*>(packed.data()), &size, filtered.data(), uLong(filtered.size()), 6);
  check(status == Z_OK && size <= uLongf(most), "encode_png: zlib failed with code ", status,
        "; is memory left?");
  packed.resize(size);

  std::vector<std::byte> out;
  for (int const c : {0x89, 'P' + 0, 'N' + 0, 'G' + 0, 0x0d, 0x0a, 0x1a, 0x0a}) out.push_back(std::byte(c));
  std::vector<std::byte> header;
  detail::put_big_endian(header, std::uint32_t(image.width));
  detail::put_big_endian(header, std::uint32_t(image.height));
  for (int const v : {8, image.channels == 3 ? 2 : 0, 0, 0, 0})
    header.push_back(std::byte(v));  // depth, colour type
  detail::put_chunk(out, "IHDR", header);
  detail::put_chunk(out, "IDAT", packed);
  detail::put_chunk(out, "IEND", {});
  return out;
}

/// Writes a PNG file, atomically.
inline void write_png(std::string const& path, raster const& image) { write_file(path, encode_png(image)); }

}  // namespace insula
