// SPDX-License-Identifier: Apache-2.0
// Volumes in NumPy's .npy format, as published training trees store them.
#pragma once

#include <bit>
#include <charconv>
#include <cstring>
#include <limits>

#include "insula/data/byte_source.hpp"
#include "insula/data/volume.hpp"

namespace insula {

namespace detail {

/// What an .npy header may say: {'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }
struct npy_header {
  char order = '<', kind = 'f';
  int bytes = 4;
  bool fortran = false;
  std::vector<index_t> shape;
};

/// Reads the header's Python literal: three known keys in any order, nothing else.
class npy_header_parser {
 public:
  npy_header_parser(std::string_view s, std::string const& path) : s_(s), path_(path) {}

  npy_header parse() {
    npy_header h;
    int seen = 0;
    expect('{');
    while (!accept('}')) {
      std::string_view const key = word();
      expect(':');
      if (key == "descr")
        seen |= 1, type(h);
      else if (key == "fortran_order")
        seen |= 2, h.fortran = boolean();
      else if (key == "shape")
        seen |= 4, h.shape = tuple();
      else
        refuse();
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    spaces();
    if (seen != 7 || !s_.empty()) refuse();
    return h;
  }

 private:
  [[noreturn]] void refuse() const {
    fail("read_npy ", quote(path_, 4096), ": the header is damaged near ", quote(s_, 40),
         "; {'descr', 'fortran_order', 'shape'} are needed");
  }
  void spaces() {
    while (!s_.empty() && (s_[0] == ' ' || s_[0] == '\n')) s_.remove_prefix(1);
  }
  bool accept(char c) {
    spaces();
    if (s_.empty() || s_[0] != c) return false;
    return s_.remove_prefix(1), true;
  }
  void expect(char c) {
    if (!accept(c)) refuse();
  }
  std::string_view word() {
    expect('\'');
    auto const end = s_.find('\'');
    if (end == std::string_view::npos) refuse();
    auto const w = s_.substr(0, end);
    s_.remove_prefix(end + 1);
    return w;
  }
  bool boolean() {
    spaces();
    for (bool const v : {true, false})
      if (std::string_view const name = v ? "True" : "False"; s_.starts_with(name))
        return s_.remove_prefix(name.size()), v;
    refuse();
  }
  void type(npy_header& h) {
    spaces();
    check(!s_.starts_with('['), "read_npy ", quote(path_, 4096),
          ": the array is structured (a list of fields); save a plain array of numbers");
    std::string_view const w = word();
    constexpr std::string_view orders = "<>|=", kinds = "fiu";
    bool const known = w.size() == 3 && orders.find(w[0]) != orders.npos && kinds.find(w[1]) != kinds.npos &&
                       (w[2] == '1' || w[2] == '2' || w[2] == '4' || w[2] == '8') &&
                       !(w[1] == 'f' && w[2] < '4');
    check(known, "read_npy ", quote(path_, 4096), ": the type is ", quote(w, 40),
          ", readable are integers of 1 to 8 bytes, float32 and float64: convert with astype('float32')");
    h.order = w[0], h.kind = w[1], h.bytes = w[2] - '0';
  }
  std::vector<index_t> tuple() {
    std::vector<index_t> v;
    expect('(');
    while (!accept(')')) {
      index_t n = 0;
      spaces();
      auto const r = std::from_chars(s_.data(), s_.data() + s_.size(), n);
      if (r.ec != std::errc{} || v.size() == 32) refuse();
      s_.remove_prefix(std::size_t(r.ptr - s_.data()));
      v.push_back(n);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return v;
  }

  std::string_view s_;
  std::string const& path_;
};

template <class Stored>
void read_npy_values(byte_source& in, bool swapped, std::vector<float>& out) {
  std::vector<Stored> part(std::min<std::size_t>(out.size(), 1 << 16));
  for (std::size_t done = 0; done < out.size();) {
    std::size_t const n = std::min(part.size(), out.size() - done);
    index_t const bytes = index_t(n * sizeof(Stored));
    check(in.read(part.data(), bytes) == bytes, "read_npy ", quote(in.path(), 4096),
          ": the file ends inside the voxels");
    for (std::size_t i = 0; i < n; ++i) {
      if (swapped) {
        auto* b = reinterpret_cast<char*>(&part[i]);
        std::reverse(b, b + sizeof(Stored));
      }
      auto const x = double(part[i]);
      constexpr double most = std::numeric_limits<float>::max(),
                       infinite = std::numeric_limits<double>::infinity();
      out[done + i] = float(x > most ? infinite : x < -most ? -infinite : x);
    }
    done += n;
  }
}

}  // namespace detail

namespace detail {

/// A checked header and the shape as text. `in` then stands at the first voxel.
struct npy_start {
  npy_header header;
  extent size;
  std::string said;
};
inline npy_start read_npy_start(byte_source& in) {
  std::string const& path = in.path();
  unsigned char head[12] = {};
  bool const numpy = in.read(head, 8) == 8 && std::memcmp(head, "\x93NUMPY", 6) == 0;
  check(numpy, "read_npy ", quote(path, 4096),
        ": the file does not begin with \\x93NUMPY: this is no .npy file");
  check(head[6] >= 1 && head[6] <= 3, "read_npy ", quote(path, 4096), ": the format version is ",
        int(head[6]), ", versions 1 to 3 are known");
  index_t const width = head[6] == 1 ? 2 : 4;
  check(in.read(head + 8, width) == width, "read_npy ", quote(path, 4096),
        ": the file ends inside the header");
  index_t size = 0;
  for (index_t i = width; i-- > 0;) size = size * 256 + head[8 + i];
  check(size <= 65536 && size <= in.most_bytes(), "read_npy ", quote(path, 4096), ": the header has ", size,
        " bytes, that cannot be: the file is damaged");
  std::string words(std::size_t(size), '\0');
  check(in.read(words.data(), size) == size, "read_npy ", quote(path, 4096),
        ": the file ends inside the header");
  auto const h = npy_header_parser(words, path).parse();

  auto shape = h.shape;
  std::string said;
  for (index_t const n : shape) said += text(said.empty() ? "" : ", ", n);
  if (shape.size() == 4 && shape[0] == 1) shape.erase(shape.begin());
  check(shape.size() == 3, "read_npy ", quote(path, 4096), ": the shape is (", said,
        "), a volume is (D, H, W) or (1, D, H, W)");
  check(!h.fortran, "read_npy ", quote(path, 4096),
        ": the array is in Fortran order; save numpy.ascontiguousarray(x) instead");
  index_t total = 1;
  for (index_t const n : shape) {
    check(n >= 1 && n <= (index_t(1) << 40) / total, "read_npy ", quote(path, 4096), ": the shape is (", said,
          "), every axis must be positive and the whole possible");
    total *= n;
  }
  index_t const need = in.position() + total * h.bytes;
  bool const fits = in.compressed() ? need <= in.most_bytes() : need == in.disk_bytes();
  check(fits, "read_npy ", quote(path, 4096), ": the shape (", said, ") of ", h.bytes, "-byte numbers needs ",
        need, " bytes, the file has ", in.disk_bytes(), ": it is cut off or damaged");
  return {h, {shape[0], shape[1], shape[2]}, said};
}

}  // namespace detail

/// The extents of the volume in an .npy file, without its voxels. Throws error as read_npy does.
inline extent npy_extent(std::string const& path) {
  byte_source in(path);
  return detail::read_npy_start(in).size;
}

/// Reads a C-order array of shape (D, H, W) or (1, D, H, W) as float; axes 0, 1, 2 are d, h, w. The format stores no
/// geometry: the affine is the identity (1 mm). Integers of 1 to 8 bytes, float32, float64, both byte orders, also gzip.
/// NaN and infinities are kept. The shape is checked against the file's size before memory is taken.
/// Throws error with file, field, value and remedy. Format: NEP 1, versions 1 to 3.
inline volume read_npy(std::string const& path) {
  byte_source in(path);
  auto const [h, size, said] = detail::read_npy_start(in);
  volume v = make_volume(size);
  constexpr char native = std::endian::native == std::endian::little ? '<' : '>';
  bool const swapped = h.bytes > 1 && (h.order == '<' || h.order == '>') && h.order != native;
  auto const values = [&]<class T>(T) { detail::read_npy_values<T>(in, swapped, v.voxels); };
  if (h.kind == 'f')
    h.bytes == 4 ? values(float{}) : values(double{});
  else if (h.kind == 'u')
    h.bytes == 1   ? values(std::uint8_t{})
    : h.bytes == 2 ? values(std::uint16_t{})
    : h.bytes == 4 ? values(std::uint32_t{})
                   : values(std::uint64_t{});
  else
    h.bytes == 1   ? values(std::int8_t{})
    : h.bytes == 2 ? values(std::int16_t{})
    : h.bytes == 4 ? values(std::int32_t{})
                   : values(std::int64_t{});
  check(in.finish(1) == 0, "read_npy ", quote(path, 4096), ": there are more bytes than the shape (", said,
        ") needs");
  return v;
}

}  // namespace insula
