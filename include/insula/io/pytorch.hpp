// SPDX-License-Identifier: Apache-2.0
// Reading the tensors of torch.save files (.pt, .pth, .ckpt, .tar), mapped into memory; nothing in them is ever executed.
#pragma once

#include <memory>

#include "insula/io/mapped_file.hpp"
#include "insula/io/named_tensors.hpp"
#include "insula/io/pytorch_container.hpp"
#include "insula/io/pytorch_names.hpp"

namespace insula {

/// A file of torch.save, also in the format before PyTorch 1.6 and wrapped in a tar; checked when it is opened. Tensor bytes are
/// read from disk only when used.
///   pytorch_file f("epoch=12.ckpt");             // finds the state dict: f.section() == "state_dict"
///   std::vector<float> w = f.read<float>("model.encoder.weight");
/// The pickle is read as data: globals become names, objects become what they were to be made of, and only the functions that
/// rebuild dense tensors are understood. Elements are row-major whatever the strides in the file. Throws error, naming the file
/// and what is wrong with it.
class pytorch_file : public named_tensors<pytorch_file> {
 public:
  explicit pytorch_file(std::string path, pytorch_options const& options = pytorch_options{})
      : map_(std::move(path)), name_(map_.path()) {
    open(map_.bytes(), options);
  }
  /// Bytes of a whole file that the caller keeps alive; `name` is used in messages.
  pytorch_file(std::span<std::byte const> bytes, std::string name,
               pytorch_options const& options = pytorch_options{})
      : name_(std::move(name)) {
    open(bytes, options);
  }

  /// In the order of the file. Names are relative to section().
  std::span<tensor_info const> tensors() const { return infos_; }
  std::string const& path() const { return name_; }
  /// The key under which the tensors stand; "" if it is the whole file.
  std::string const& section() const { return section_; }
  /// Tensors that are not read: sparse, quantised, of other libraries.
  std::vector<torch_unread> const& unread() const { return unread_; }
  /// What stands under the outermost keys, for people: "'state_dict'  148 tensors", "'epoch'  12".
  std::vector<std::pair<std::string, std::string>> const& contents() const { return contents_; }

  /// Elements [first, first + count) of a tensor, row-major, as they are in the file; in place if they are contiguous there,
  /// else gathered in `scratch`.
  std::span<std::byte const> elements(tensor_info const& t, index_t first, index_t count,
                                      std::vector<std::byte>& scratch) const {
    auto const& l = layouts_[index_of(t)];
    auto const width = std::size_t(bits_of(t.type)) / 8;
    if (l.contiguous)
      return l.bytes.subspan(std::size_t(l.offset + first) * width, std::size_t(count) * width);
    scratch.resize(std::size_t(count) * width);
    gather(t, l, first, count, scratch.data(), width);
    return scratch;
  }
  bool contiguous(tensor_info const& t) const { return layouts_[index_of(t)].contiguous; }

 private:
  struct layout {
    std::span<std::byte const> bytes;  // of the storage
    index_t offset;
    std::vector<index_t> stride;
    bool contiguous;
  };

  void open(std::span<std::byte const> bytes, pytorch_options const& options) {
    container_ = std::make_unique<torch_container>(bytes, name_, options);
    auto const& tree = container_->tree();
    torch_walker walker(tree, container_->file());
    auto const section =
        options.key ? find_section(tree, container_->root(), *options.key, walker, container_->file())
                    : find_state_dict(tree, container_->root(), walker, container_->file());
    section_ = section.key;
    walker.collect(section.root);
    for (auto& [name, t] : walker.tensors) {
      auto const count = *checked_count(t.shape);
      auto const width = std::size_t(bits_of(t.type)) / 8;
      layouts_.push_back({count > 0 ? container_->elements(t.storage) : std::span<std::byte const>{},
                          count > 0 ? t.offset : 0, t.stride, is_contiguous(t, count)});
      infos_.push_back({std::move(name), t.type, std::move(t.shape), 0, std::size_t(count) * width});
    }
    unread_ = std::move(walker.unread);
    describe(walker);
    index_names(container_->file());
    container_->forget_tree();
  }
  void describe(torch_walker const& walker) {
    auto const& tree = container_->tree();
    auto const pairs = tree.pairs(container_->root());
    constexpr std::size_t most = 1000;
    for (std::size_t k = 0; k + 1 < pairs.size() && contents_.size() < most; k += 2) {
      auto const n = walker.count(pairs[k + 1]);
      contents_.emplace_back(tree.description(pairs[k]), walker.is_tensor(pairs[k + 1]) ? "a tensor"
                                                         : n > 0 ? text(n, n == 1 ? " tensor" : " tensors")
                                                                 : tree.description(pairs[k + 1]));
    }
  }
  static bool is_contiguous(torch_tensor const& t, index_t count) {
    index_t dense = 1;
    if (count == 0) return true;
    for (std::size_t a = t.shape.size(); a-- > 0; dense *= t.shape[a])
      if (t.shape[a] != 1 && t.stride[a] != dense) return false;
    return true;
  }
  static void gather(tensor_info const& t, layout const& l, index_t first, index_t count, std::byte* to,
                     std::size_t width) {
    auto const rank = t.shape.size();
    std::vector<index_t> at(rank);
    index_t rest = first, from = l.offset;
    for (std::size_t a = rank; a-- > 0;) {
      at[a] = rest % t.shape[a], rest /= t.shape[a];
      from += at[a] * l.stride[a];
    }
    for (index_t i = 0; i < count; ++i) {
      std::memcpy(to + std::size_t(i) * width, l.bytes.data() + std::size_t(from) * width, width);
      for (std::size_t a = rank; a-- > 0;) {
        from += l.stride[a];
        if (++at[a] < t.shape[a]) break;
        from -= t.shape[a] * l.stride[a], at[a] = 0;
      }
    }
  }

  mapped_file map_;
  std::string name_, section_;
  std::unique_ptr<torch_container> container_;  // owns what had to be inflated
  std::vector<tensor_info> infos_;
  std::vector<layout> layouts_;
  std::vector<torch_unread> unread_;
  std::vector<std::pair<std::string, std::string>> contents_;
};

}  // namespace insula
