// SPDX-License-Identifier: Apache-2.0
// A file of weights of either kind, safetensors or torch.save, told apart by its content.
#pragma once

#include <variant>

#include "insula/io/pytorch.hpp"
#include "insula/io/safetensors.hpp"

namespace insula {

/// Named tensors of a safetensors file or of a file of torch.save (.pt, .pth, .ckpt, .tar), whatever its name ends in.
///   weights_file f("checkpoint.tar");
///   load_tensors(f, m.places(), m.w());      // insula/train/weights_io.hpp: the same report for both kinds
/// `options` matter to torch files only, but a key that a safetensors file cannot have is an error. Throws error as the two
/// readers do, and with advice if the file is neither.
class weights_file : public named_tensors<weights_file> {
 public:
  explicit weights_file(std::string path, pytorch_options const& options = pytorch_options{})
      : file_(open(std::move(path), options)) {
    index_names(this->path());
  }

  std::span<tensor_info const> tensors() const {
    return std::visit([](auto const& f) -> std::span<tensor_info const> { return f.tensors(); }, file_);
  }
  std::string const& path() const {
    return std::visit([](auto const& f) -> std::string const& { return f.path(); }, file_);
  }
  bool contiguous(tensor_info const& t) const {
    return std::visit([&](auto const& f) { return f.contiguous(t); }, file_);
  }
  std::span<std::byte const> elements(tensor_info const& t, index_t first, index_t count,
                                      std::vector<std::byte>& scratch) const {
    return std::visit([&](auto const& f) { return f.elements(t, first, count, scratch); }, file_);
  }
  /// Null if it is the other kind.
  safetensors_file const* safetensors() const { return std::get_if<safetensors_file>(&file_); }
  pytorch_file const* pytorch() const { return std::get_if<pytorch_file>(&file_); }

 private:
  using either = std::variant<safetensors_file, pytorch_file>;

  static either open(std::string path, pytorch_options const& options) {
    auto kind = weights_kind::other;
    {
      mapped_file const map(path);
      kind = kind_of_weights(map.bytes());
      if (kind == weights_kind::other)
        fail(path, ": neither a safetensors file nor one of torch.save: ", advice_on_weights(map.bytes()));
    }
    if (kind != weights_kind::safetensors)
      return either(std::in_place_type<pytorch_file>, std::move(path), options);
    check(!options.key || options.key->empty(), path, ": a safetensors file has no parts, so that the key ",
          quote(options.key.value_or("")), " names nothing; leave it away");
    return either(std::in_place_type<safetensors_file>, std::move(path));
  }

  either file_;
};

/// Adds a tensor of a file to a writer under another name, bit by bit, row-major. The file must live until the writer has
/// written. Throws error as safetensors_writer::add does.
inline void add_copy(safetensors_writer& w, weights_file const& from, tensor_info const& t,
                     std::string name) {
  if (auto const* const s = from.safetensors())
    return w.add(std::move(name), t.type, t.shape, s->data(t).data());
  auto const width = std::size_t(bits_of(t.type)) / 8;
  w.add(std::move(name), t.type, t.shape,
        [&from, &t, width, scratch = std::vector<std::byte>()](std::size_t first,
                                                               std::span<std::byte> out) mutable {
          auto const part = from.elements(t, index_t(first / width), index_t(out.size() / width), scratch);
          std::memcpy(out.data(), part.data(), part.size());
        });
}

}  // namespace insula
