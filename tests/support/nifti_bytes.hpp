// SPDX-License-Identifier: Apache-2.0
// NIfTI and npy files made byte by byte, without any library, in either byte order and with any fault.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "insula/base/check.hpp"

namespace support {

/// A NIfTI file as fields; bytes() lays them out at the offsets of the standard.
struct nifti_bytes {
  int version = 1;
  bool big_endian = false, pair = false;
  std::vector<std::int64_t> dim{3, 2, 3, 4};
  int datatype = 16, bitpix = -1;  // -1: what the type has
  std::vector<double> pixdim{1, 1, 1, 1};
  double slope = 1, inter = 0;
  int qform_code = 0, sform_code = 1;
  double quatern[3] = {0, 0, 0}, qoffset[3] = {0, 0, 0};
  double srow[12] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
  int units = 2;
  double vox_offset = -1;  // -1: right behind header and extensions
  std::int32_t sizeof_hdr = -1;
  std::string magic{}, extensions{}, description = "made by hand";
  std::vector<double> values{};  // in file order, d fastest; empty: 0, 1, 2, ...

  int type_bytes() const {
    switch (datatype) {
      case 2:
      case 256:
        return 1;
      case 4:
      case 512:
        return 2;
      case 64:
      case 1024:
      case 1280:
        return 8;
      default:
        return 4;
    }
  }
  template <class T>
  void put(std::string& s, std::size_t at, T value) const {
    char b[sizeof(T)];
    std::memcpy(b, &value, sizeof(T));
    if (big_endian == (std::endian::native == std::endian::little)) std::reverse(b, b + sizeof(T));
    std::memcpy(s.data() + at, b, sizeof(T));
  }
  /// One extension: size, code, content padded to 16.
  std::string extension(std::int32_t code, std::string content) const {
    content.resize((content.size() + 8 + 15) / 16 * 16 - 8);
    std::string s(8, '\0');
    put(s, 0, std::int32_t(content.size() + 8)), put(s, 4, code);
    return s + content;
  }
  std::string header() const {
    std::size_t const size = version == 1 ? 348 : 540;
    std::string s(size + 4, '\0');
    double const offset = vox_offset >= 0 || vox_offset != -1 ? vox_offset
                          : pair                              ? 0
                                                              : double(size + 4 + extensions.size());
    int const bits = bitpix < 0 ? 8 * type_bytes() : bitpix;
    put(s, 0, sizeof_hdr == -1 ? std::int32_t(size) : sizeof_hdr);
    std::string m = !magic.empty() ? magic : version == 1 ? (pair ? "ni1" : "n+1") : (pair ? "ni2" : "n+2");
    if (version == 2 && magic.empty()) m += std::string("\0\r\n\032\n", 5);
    std::memcpy(s.data() + (version == 1 ? 344 : 4), m.data(), m.size());
    auto const wide = [&](std::size_t at, double v) { put(s, at, v); };
    auto const slim = [&](std::size_t at, double v) { put(s, at, float(v)); };
    if (version == 1) {
      for (std::size_t i = 0; i < dim.size(); ++i) put(s, 40 + 2 * i, std::int16_t(dim[i]));
      put(s, 70, std::int16_t(datatype)), put(s, 72, std::int16_t(bits));
      for (std::size_t i = 0; i < pixdim.size(); ++i) slim(76 + 4 * i, pixdim[i]);
      slim(108, offset), slim(112, slope), slim(116, inter);
      s[123] = char(units);
      std::memcpy(s.data() + 148, description.data(), description.size());
      put(s, 252, std::int16_t(qform_code)), put(s, 254, std::int16_t(sform_code));
      for (std::size_t i = 0; i < 3; ++i) slim(256 + 4 * i, quatern[i]), slim(268 + 4 * i, qoffset[i]);
      for (std::size_t i = 0; i < 12; ++i) slim(280 + 4 * i, srow[i]);
    } else {
      put(s, 12, std::int16_t(datatype)), put(s, 14, std::int16_t(bits));
      for (std::size_t i = 0; i < dim.size(); ++i) put(s, 16 + 8 * i, dim[i]);
      for (std::size_t i = 0; i < pixdim.size(); ++i) wide(104 + 8 * i, pixdim[i]);
      put(s, 168, std::int64_t(offset)), wide(176, slope), wide(184, inter);
      std::memcpy(s.data() + 240, description.data(), description.size());
      put(s, 344, qform_code), put(s, 348, sform_code);
      for (std::size_t i = 0; i < 3; ++i) wide(352 + 8 * i, quatern[i]), wide(376 + 8 * i, qoffset[i]);
      for (std::size_t i = 0; i < 12; ++i) wide(400 + 8 * i, srow[i]);
      put(s, 500, units);
    }
    s[size] = char(!extensions.empty());
    return s + extensions;
  }
  std::string data() const {
    std::vector<double> v = values;
    if (v.empty()) {
      std::int64_t n = 1;
      for (std::size_t i = 1; i < dim.size(); ++i) n *= dim[i];
      for (std::int64_t i = 0; i < n; ++i) v.push_back(double(i));
    }
    auto const each = std::size_t(type_bytes());
    std::string s(v.size() * each, '\0');
    for (std::size_t i = 0; i < v.size(); ++i) switch (datatype) {
        case 2:
          put(s, i * each, std::uint8_t(v[i]));
          break;
        case 256:
          put(s, i * each, std::int8_t(v[i]));
          break;
        case 4:
          put(s, i * each, std::int16_t(v[i]));
          break;
        case 512:
          put(s, i * each, std::uint16_t(v[i]));
          break;
        case 8:
          put(s, i * each, std::int32_t(v[i]));
          break;
        case 768:
          put(s, i * each, std::uint32_t(v[i]));
          break;
        case 1024:
          put(s, i * each, std::int64_t(v[i]));
          break;
        case 1280:
          put(s, i * each, std::uint64_t(v[i]));
          break;
        case 64:
          put(s, i * each, v[i]);
          break;
        default:
          put(s, i * each, float(v[i]));
          break;
      }
    return s;
  }
  std::string bytes() const { return header() + data(); }
};

/// One gzip member.
inline std::string gzip(std::string const& plain) {
  z_stream z{};
  insula::check(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK, "gzip: no memory");
  std::string out(plain.size() + plain.size() / 100 + 1000, '\0');
  z.next_in = reinterpret_cast<unsigned char*>(const_cast<char*>(plain.data())),
  z.avail_in = unsigned(plain.size());
  z.next_out = reinterpret_cast<unsigned char*>(out.data()), z.avail_out = unsigned(out.size());
  insula::check(deflate(&z, Z_FINISH) == Z_STREAM_END, "gzip: the buffer is too small");
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

}  // namespace support
