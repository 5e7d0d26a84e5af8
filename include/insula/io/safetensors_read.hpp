// SPDX-License-Identifier: Apache-2.0
// Reading tensors from a safetensors file that is mapped into memory.
#pragma once

#include <numeric>

#include "insula/io/mapped_file.hpp"
#include "insula/io/safetensors_header.hpp"

namespace insula {

/// A safetensors file, mapped and checked when it is opened; tensor bytes are read from disk only when used.
///   safetensors_file f("model.safetensors");
///   std::vector<float> w = f.read<float>("encoder.weight");
/// Throws error as parse_safetensors() and mapped_file do.
class safetensors_file {
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
  /// Null if there is no such tensor.
  tensor_info const* find(std::string_view name) const {
    auto const it =
        std::lower_bound(by_name_.begin(), by_name_.end(), name,
                         [&](std::size_t i, std::string_view n) { return header_.tensors[i].name < n; });
    if (it == by_name_.end() || header_.tensors[*it].name != name) return nullptr;
    return &header_.tensors[*it];
  }
  /// Throws error with the nearest name if there is no such tensor.
  tensor_info const& at(std::string_view name) const {
    if (auto const* t = find(name)) return *t;
    std::vector<std::string_view> names;
    for (auto const& t : header_.tensors)
      if (t.name.size() <= 256) names.push_back(t.name);
    fail(name_, ": no tensor is named ", quote(name), "; the file has ", header_.tensors.size(), " tensors",
         names.empty() ? "" : ", the nearest is ",
         names.empty() ? "" : quote(nearest_word(name.substr(0, 256), names)));
  }

  /// The bytes as they are in the file: little-endian, row-major, not always aligned.
  std::span<std::byte const> data(tensor_info const& t) const {
    return bytes_.subspan(header_.data_begin + t.begin, t.end - t.begin);
  }
  /// Converts a tensor into out. `exact` refuses values that T cannot hold (F64 0.1 as float), `nearest`
  /// rounds them. Throws error if the sizes differ, if the dtype does not load, or naming the first value
  /// that does not fit.
  template <scalar T>
  void read(tensor_info const& t, std::span<T> out, rounding how = rounding::exact) const {
    if (!loads(t.type))
      fail(name_, ": tensor ", quote(t.name), " has type ", name_of(t.type),
           ", which cannot be loaded; convert it to F32, F16 or BF16 first");
    auto const count = t.count();
    if (std::size_t(count) != out.size())
      fail(name_, ": tensor ", quote(t.name), " has shape ", shape_text(t.shape), " = ", count,
           " elements, but ", out.size(), " are wanted");
    auto const bytes = data(t);
    index_t const done = convert(t.type, bytes.data(), count, out.data(), how);
    if (done == count) return;
    fail(name_, ": tensor ", quote(t.name), ": element ", done, " of type ", name_of(t.type),
         " cannot be stored as ", name_of(dtype_of<T>()),
         how == rounding::exact ? " without changing it; allow rounding or read as F64"
                                : ", it would become infinite; read it as F64");
  }
  template <scalar T>
  std::vector<T> read(std::string_view name, rounding how = rounding::exact) const {
    auto const& t = at(name);
    std::vector<T> out(std::size_t(loads(t.type) ? t.count() : 0));
    read<T>(t, out, how);
    return out;
  }

 private:
  void open() {
    header_ = parse_safetensors(bytes_, name_);
    by_name_.resize(header_.tensors.size());
    std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
    std::sort(by_name_.begin(), by_name_.end(), [&](std::size_t a, std::size_t b) {
      return header_.tensors[a].name < header_.tensors[b].name;
    });
  }

  mapped_file map_;
  std::span<std::byte const> bytes_;
  std::string name_;
  safetensors_header header_;
  std::vector<std::size_t> by_name_;
};

}  // namespace insula
