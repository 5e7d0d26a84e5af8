// SPDX-License-Identifier: Apache-2.0
// Where a torch.save file keeps its pickle and its storages: in a zip file, one after the other, or either of them in a tar.
#pragma once

#include <deque>
#include <map>

#include "insula/io/pickle.hpp"
#include "insula/io/pytorch_tensor.hpp"
#include "insula/io/weights_kind.hpp"

namespace insula {

struct pytorch_options {
  /// Where the tensors are in the file, such as "state_dict" or "optimizer_states.0"; "" is the whole file. If not given, the
  /// one state dict of the file is found.
  std::optional<std::string> key{};
  std::string member{};  ///< which file, if several torch files are wrapped in a tar
  std::size_t inflate_limit = std::size_t{4} << 30;  ///< bytes, of all compressed parts together
};

/// The pickle of a torch.save file as a tree, and the bytes of its storages: in place, or inflated if a zip tool compressed
/// them. `bytes` must live as long. Throws error.
class torch_container {
 public:
  torch_container(std::span<std::byte const> bytes, std::string file, pytorch_options const& options)
      : file_(std::move(file)), bytes_(bytes), inflate_left_(options.inflate_limit) {
    auto kind = kind_of_weights(bytes_);
    if (kind == weights_kind::tar) kind = unwrap(options.member);
    if (kind == weights_kind::torch_zip)
      open_zip();
    else if (kind == weights_kind::torch_legacy)
      open_legacy();
    else
      fail(file_, ": not a file of torch.save: ",
           kind == weights_kind::safetensors ? "it is a safetensors file" : advice_on_weights(bytes_));
  }
  torch_container(torch_container const&) = delete;
  torch_container& operator=(torch_container const&) = delete;

  pickle_tree const& tree() const { return tree_; }
  pickle_tree::index root() const { return root_; }
  std::string const& file() const { return file_; }
  /// Frees the tree, whose values are not needed once the tensors are known.
  void forget_tree() { tree_ = {}, root_ = pickle_tree::nothing; }

  /// The elements of a storage or of its view. Throws error if the file has fewer bytes than the storage needs.
  std::span<std::byte const> elements(torch_storage const& s) {
    auto const whole = zip_root_ ? zip_storage(s) : legacy_storage(s);
    auto const need = byte_size(s);
    if (whole.size() < need)
      fail(file_, ": storage ", quote(s.key), " has ", whole.size(), " bytes, ", s.numel, " elements of ",
           s.class_name, " need ", need, "; the file is truncated or damaged: copy or download it again");
    if (s.view_numel < 0) return whole.first(need);
    return whole.subspan(std::size_t(s.view_begin) * s.width, std::size_t(s.view_numel) * s.width);
  }

 private:
  std::size_t byte_size(torch_storage const& s) const {
    std::size_t n = 0;
    if (__builtin_mul_overflow(std::size_t(s.numel), s.width, &n))
      fail(file_, ": storage ", quote(s.key), " would have ", s.numel,
           " elements, more than any file can hold");
    return n;
  }

  /// Looks into a tar for the one torch file.
  weights_kind unwrap(std::string const& wanted) {
    std::vector<tar_member> fit;
    std::string seen;
    for (auto& m : read_tar(bytes_, file_)) {
      auto const kind = kind_of_weights(bytes_.subspan(m.begin, m.size));
      bool const torch = kind == weights_kind::torch_zip || kind == weights_kind::torch_legacy;
      if (seen.size() < 1000) seen += (seen.empty() ? "" : ", ") + quote(m.name, 60);
      if (torch && (wanted.empty() || m.name == wanted)) fit.push_back(std::move(m));
    }
    if (fit.empty())
      fail(file_, ": the tar file holds no file of torch.save",
           wanted.empty() ? "" : " of the name " + quote(wanted), "; it holds ",
           seen.empty() ? "nothing" : seen);
    if (fit.size() > 1)
      fail(file_, ": the tar file holds ", fit.size(), " files of torch.save, such as ", quote(fit[0].name),
           " and ", quote(fit[1].name), "; say which (option member) or unpack it");
    file_ += ", " + quote(fit[0].name);
    bytes_ = bytes_.subspan(fit[0].begin, fit[0].size);
    return kind_of_weights(bytes_);
  }

  std::span<std::byte const> zip_bytes(zip_entry const& e) {
    check_zip_entry(e, file_);
    if (e.method == 0) return bytes_.subspan(e.begin, e.stored);
    if (auto const it = inflated_.find(e.header); it != inflated_.end()) return it->second;
    auto& made = inflated_[e.header] = inflate_zip_entry(e, bytes_, inflate_left_, file_);
    inflate_left_ -= made.size();
    return made;
  }
  void open_zip() {
    zip_ = read_zip_directory(bytes_, file_);
    zip_entry const* found = nullptr;
    for (auto const& e : zip_.entries()) {
      auto const slash = e.name.find('/');
      if (slash == e.name.npos || e.name.substr(slash) != "/data.pkl") continue;
      if (found) fail(file_, ": it has two pickles, ", quote(found->name), " and ", quote(e.name));
      found = &e;
    }
    if (!found)
      fail(file_, ": a zip file, but not of torch.save: none of its ", zip_.entries().size(),
           " entries is <name>/data.pkl", zip_.entries().empty() ? "" : "; the first is ",
           zip_.entries().empty() ? "" : quote(zip_.entries()[0].name),
           "; if it wraps a checkpoint, unzip it first");
    zip_root_ = std::string(found->name.substr(0, found->name.size() - std::string_view("data.pkl").size()));
    if (auto const* const order = zip_.find(*zip_root_ + "byteorder")) {
      auto const said = detail::as_text(zip_bytes(*order));
      if (said != "little")
        fail(file_, ": its byte order is ", quote(said, 20),
             "; load and save it on a little-endian machine first");
    }
    byte_reader in(zip_bytes(*found), text(file_, ", ", found->name.substr(0, 200)));
    root_ = read_pickle(tree_, in);
  }
  std::span<std::byte const> zip_storage(torch_storage const& s) {
    auto const name = *zip_root_ + "data/" + std::string(s.key);
    auto const* const e = zip_.find(name);
    if (!e)
      fail(file_, ": storage ", quote(s.key), " is missing: there is no entry ", quote(name),
           "; the file is damaged: copy or download it again");
    return zip_bytes(*e);
  }

  /// Five pickles: magic number, protocol, facts about the machine, the object, the keys of the storages; then for every
  /// key its number of elements (8 bytes) and its bytes (PyTorch, torch/serialization.py, _legacy_save).
  void open_legacy() {
    byte_reader in(bytes_, file_);
    (void)read_pickle(tree_, in);
    constexpr std::int64_t protocol = 1001;
    auto const version = read_pickle(tree_, in);
    if (tree_[version].kind != pickle_kind::integer || tree_[version].integer != protocol)
      fail(file_, ": the protocol of torch.save is ", tree_.description(version), ", known is ", protocol);
    auto const machine = read_pickle(tree_, in);
    if (auto const little = tree_.find(machine, "little_endian");
        tree_[little].kind != pickle_kind::boolean || !tree_[little].integer)
      fail(file_,
           ": it was saved on a big-endian machine; load and save it on a little-endian machine first");
    root_ = read_pickle(tree_, in);
    auto const known = persistent_storages();
    auto const keys = read_pickle(tree_, in);
    if (tree_[keys].kind != pickle_kind::list)
      fail(file_, ": the list of storages is ", name_of(tree_[keys].kind), "; the file is damaged");
    for (auto const k : tree_[keys].items) {
      auto const it = tree_[k].kind == pickle_kind::text ? known.find(tree_[k].text) : known.end();
      if (it == known.end())
        fail(file_, ": the file lists the storage ", tree_.description(k),
             ", which no tensor uses, so that its "
             "type is unknown; the file is damaged");
      auto const& s = it->second;
      if (auto const numel = in.number<std::int64_t>("a storage's number of elements"); numel != s.numel)
        fail(file_, ": storage ", quote(s.key), " has ", numel, " elements, its tensors say ", s.numel,
             "; the file is damaged");
      if (!legacy_.emplace(s.key, in.take(byte_size(s), text("storage ", quote(s.key)))).second)
        fail(file_, ": storage ", quote(s.key), " occurs twice; the file is damaged");
    }
  }
  std::map<std::string_view, torch_storage> persistent_storages() const {
    std::map<std::string_view, torch_storage> all;
    torch_decoder const decode(tree_, file_);
    for (pickle_tree::index i = 0; i < tree_.size(); ++i) {
      auto const s = decode.storage(i);
      if (!s) continue;
      auto const [it, fresh] = all.emplace(s->key, *s);
      auto const& first = it->second;
      if (!fresh && (first.width != s->width || first.numel != s->numel))
        fail(file_, ": storage ", quote(s->key), " is ", first.numel, " elements of ", first.class_name,
             " and ", s->numel, " of ", s->class_name, "; the file is damaged");
    }
    return all;
  }
  std::span<std::byte const> legacy_storage(torch_storage const& s) const {
    auto const it = legacy_.find(s.key);
    if (it == legacy_.end())
      fail(file_, ": storage ", quote(s.key), " is missing; the file is truncated or damaged");
    return it->second;
  }

  std::string file_;
  std::span<std::byte const> bytes_;
  std::size_t inflate_left_;
  pickle_tree tree_;
  pickle_tree::index root_ = pickle_tree::nothing;
  std::optional<std::string> zip_root_;
  zip_directory zip_;
  std::map<std::size_t, std::vector<std::byte>> inflated_;  // by place of the header
  std::map<std::string_view, std::span<std::byte const>> legacy_;
};

}  // namespace insula
