// SPDX-License-Identifier: Apache-2.0
// Reading tensors from a safetensors file that is mapped into memory.
#pragma once

#include "insula/io/mapped_file.hpp"
#include "insula/io/named_tensors.hpp"
#include "insula/io/safetensors_header.hpp"

namespace insula {

/// A safetensors file, mapped and checked when it is opened; tensor bytes are read from disk only when used.
///   safetensors_file f("model.safetensors");
///   std::vector<float> w = f.read<float>("encoder.weight");
/// Throws error as parse_safetensors() and mapped_file do.
class safetensors_file : public named_tensors<safetensors_file> {
 public:
  explicit safetensors_file(std::string path)
      : map_(std::move(path)), bytes_(map_.bytes()), name_(map_.path()) {
    open();
  }
  /// Bytes of a whole file that the caller keeps alive; `name` is used in messages.
  safetensors_file(std::span<std::byte const> bytes, std::string name)
      : bytes_(bytes), name_(std::move(name)) {
    open();
  }

  /// In the order of their bytes in the file.
  std::span<tensor_info const> tensors() const { return header_.tensors; }
  std::map<std::string, std::string> const& metadata() const { return header_.metadata; }
  std::string const& path() const { return name_; }

  /// The bytes as they are in the file: little-endian, row-major, not always aligned.
  std::span<std::byte const> data(tensor_info const& t) const {
    return bytes_.subspan(header_.data_begin + t.begin, t.end - t.begin);
  }
  /// Elements [first, first + count) of a tensor whose elements have whole bytes.
  std::span<std::byte const> elements(tensor_info const& t, index_t first, index_t count,
                                      std::vector<std::byte>&) const {
    auto const width = std::size_t(bits_of(t.type)) / 8;
    return data(t).subspan(std::size_t(first) * width, std::size_t(count) * width);
  }
  static constexpr bool contiguous(tensor_info const&) { return true; }

 private:
  void open() {
    header_ = parse_safetensors(bytes_, name_);
    index_names(name_);
  }

  mapped_file map_;
  std::span<std::byte const> bytes_;
  std::string name_;
  safetensors_header header_;
};

}  // namespace insula
