// SPDX-License-Identifier: Apache-2.0
// What files of tensors have in common: finding a tensor by name, and reading its elements as numbers.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstring>
#include <numeric>

#include "insula/io/quote.hpp"
#include "insula/io/tensor_info.hpp"

namespace insula {

/// A file whose tensors have names and can be read as float or double: safetensors_file, pytorch_file, weights_file.
template <class F>
concept tensor_file = requires(F const& f, tensor_info const& t, std::span<float> out,
                               std::vector<std::byte>& scratch) {
  { f.tensors() } -> std::convertible_to<std::span<tensor_info const>>;
  { f.path() } -> std::convertible_to<std::string const&>;
  { f.at("name") } -> std::convertible_to<tensor_info const&>;
  { f.elements(t, 0, 1, scratch) } -> std::convertible_to<std::span<std::byte const>>;
  f.template read<float>(t, out, rounding::exact);
};

/// Base of a file class that has tensors(), path(), contiguous(t) and elements(t, first, count, scratch), and calls
/// index_names() once its tensors are known.
template <class File>
class named_tensors {
 public:
  /// Null if there is no such tensor.
  tensor_info const* find(std::string_view name) const {
    auto const all = file().tensors();
    auto const it = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                     [&](std::size_t i, std::string_view n) { return all[i].name < n; });
    if (it == by_name_.end() || all[*it].name != name) return nullptr;
    return &all[*it];
  }
  /// Throws error with the nearest name if there is no such tensor.
  tensor_info const& at(std::string_view name) const {
    if (auto const* t = find(name)) return *t;
    std::vector<std::string_view> names;
    for (auto const& t : file().tensors())
      if (t.name.size() <= 256) names.push_back(t.name);
    fail(file().path(), ": no tensor is named ", quote(name), "; the file has ", file().tensors().size(),
         " tensors", names.empty() ? "" : ", the nearest is ",
         names.empty() ? "" : quote(nearest_word(name.substr(0, 256), names)));
  }

  /// Converts a tensor into out. `exact` refuses values that T cannot hold (F64 0.1 as float), `nearest`
  /// rounds them. Throws error if the sizes differ, if the dtype does not load, or naming the first value
  /// that does not fit.
  template <scalar T>
  void read(tensor_info const& t, std::span<T> out, rounding how = rounding::exact) const {
    auto const who = [&] { return text(file().path(), ": tensor ", quote(t.name)); };
    if (!loads(t.type))
      fail(who(), " has type ", name_of(t.type),
           ", which cannot be loaded; convert it to F32, F16 or BF16 first");
    auto const count = t.count();
    if (std::size_t(count) != out.size())
      fail(who(), " has shape ", shape_text(t.shape), " = ", count, " elements, but ", out.size(),
           " are wanted");
    std::vector<std::byte> scratch;
    index_t const step = file().contiguous(t) ? count : gather_step;
    for (index_t first = 0; first < count; first += step) {
      auto const n = std::min(step, count - first);
      auto const bytes = file().elements(t, first, n, scratch);
      index_t const done = convert(t.type, bytes.data(), n, out.data() + first, how);
      if (done == n) continue;
      fail(who(), ": element ", first + done, " of type ", name_of(t.type), " cannot be stored as ",
           name_of(dtype_of<T>()),
           how == rounding::exact ? " without changing it; allow rounding or read as F64"
                                  : ", it would become infinite; read it as F64");
    }
  }
  template <scalar T>
  std::vector<T> read(std::string_view name, rounding how = rounding::exact) const {
    auto const& t = at(name);
    std::vector<T> out(std::size_t(loads(t.type) ? t.count() : 0));
    read<T>(t, out, how);
    return out;
  }

 protected:
  /// Sorts the names. Throws error if two tensors have the same.
  void index_names(std::string_view file_name) {
    auto const all = file().tensors();
    by_name_.resize(all.size());
    std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
    std::sort(by_name_.begin(), by_name_.end(),
              [&](std::size_t a, std::size_t b) { return all[a].name < all[b].name; });
    for (std::size_t i = 1; i < by_name_.size(); ++i)
      if (all[by_name_[i]].name == all[by_name_[i - 1]].name)
        fail(file_name, ": two tensors are named ", quote(all[by_name_[i]].name), "; the file is ambiguous");
  }
  /// The place of a tensor in tensors(). Throws error if it is not of this file.
  std::size_t index_of(tensor_info const& t) const {
    auto const* const own = find(t.name);
    check(own && own->type == t.type && own->shape == t.shape, file().path(), ": tensor ", quote(t.name),
          " is not one of this file's");
    return std::size_t(own - file().tensors().data());
  }

 private:
  static constexpr index_t gather_step = 1 << 14;  // elements

  File const& file() const { return static_cast<File const&>(*this); }

  std::vector<std::size_t> by_name_;
};

}  // namespace insula
