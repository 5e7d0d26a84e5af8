// SPDX-License-Identifier: Apache-2.0
// How torch.save describes tensors and storages in a pickle, and the checks that every element lies inside of its storage.
#pragma once

#include <algorithm>
#include <array>
#include <optional>

#include "insula/io/pickle_value.hpp"
#include "insula/io/tensor_info.hpp"

namespace insula {

/// A storage as a persistent identifier names it: ('storage', type, key, location, numel[, view]). Its location, such as
/// 'cuda:0', does not matter here.
struct torch_storage {
  std::string_view key;
  std::optional<dtype> type;  // nothing: a type whose elements are not read here, such as QInt8Storage
  std::size_t width = 0;      // bytes of an element
  index_t numel = 0;
  std::string_view class_name;  // "FloatStorage"
  index_t view_begin = 0,
          view_numel = -1;  // a part of the storage, in elements (before PyTorch 0.4); -1: all of it
  bool untyped = false;     // numel counts bytes
};

/// A tensor in the state that torch.save gave it: elements at offset + sum of index * stride in a storage.
struct torch_tensor {
  torch_storage storage;
  dtype type = dtype::f32;
  index_t offset = 0;
  std::vector<index_t> shape, stride;
};

namespace detail {

struct torch_type {
  std::string_view storage, name;  // "FloatStorage", "float32"
  std::size_t width;               // bytes
  std::optional<dtype> type;
};
/// PyTorch, torch/storage.py (_dtype_to_storage_type_map) and torch/_utils.py; the last rows have no storage class of their
/// own and are stored as UntypedStorage.
inline constexpr std::array<torch_type, 26> torch_types{
    {{"FloatStorage", "float32", 4, dtype::f32},
     {"DoubleStorage", "float64", 8, dtype::f64},
     {"HalfStorage", "float16", 2, dtype::f16},
     {"BFloat16Storage", "bfloat16", 2, dtype::bf16},
     {"BoolStorage", "bool", 1, dtype::boolean},
     {"ByteStorage", "uint8", 1, dtype::u8},
     {"CharStorage", "int8", 1, dtype::i8},
     {"ShortStorage", "int16", 2, dtype::i16},
     {"IntStorage", "int32", 4, dtype::i32},
     {"LongStorage", "int64", 8, dtype::i64},
     {"ComplexFloatStorage", "complex64", 8, dtype::c64},
     {"ComplexDoubleStorage", "complex128", 16, std::nullopt},
     {"QInt8Storage", "qint8", 1, std::nullopt},
     {"QUInt8Storage", "quint8", 1, std::nullopt},
     {"QInt32Storage", "qint32", 4, std::nullopt},
     {"QUInt4x2Storage", "quint4x2", 1, std::nullopt},
     {"QUInt2x4Storage", "quint2x4", 1, std::nullopt},
     {"UntypedStorage", "", 1, std::nullopt},
     {"", "uint16", 2, dtype::u16},
     {"", "uint32", 4, dtype::u32},
     {"", "uint64", 8, dtype::u64},
     {"", "float8_e4m3fn", 1, dtype::f8_e4m3},
     {"", "float8_e5m2", 1, dtype::f8_e5m2},
     {"", "float8_e4m3fnuz", 1, dtype::f8_e4m3fnuz},
     {"", "float8_e5m2fnuz", 1, dtype::f8_e5m2fnuz},
     {"", "float8_e8m0fnu", 1, dtype::f8_e8m0}}};

}  // namespace detail

/// Interprets parts of a pickle tree as tensors. `file` is the name in messages.
class torch_decoder {
 public:
  using index = pickle_tree::index;
  using node = pickle_tree::node;

  torch_decoder(pickle_tree const& tree, std::string_view file) : tree_(tree), file_(file) {}

  /// The storage behind a persistent reference; nothing if it is none, such as the source of a module. Throws error if it is
  /// malformed.
  std::optional<torch_storage> storage(index i) const {
    auto const& reference = tree_[i];
    if (reference.kind != pickle_kind::persistent) return {};
    auto const& id = tree_[reference.items[0]];
    if (id.kind != pickle_kind::tuple || id.items.empty()) refuse("a persistent identifier is no tuple");
    auto const& kind = tree_[id.items[0]];
    if (kind.kind == pickle_kind::text && kind.text == "module") return {};
    if (kind.kind != pickle_kind::text || kind.text != "storage" || id.items.size() < 5 ||
        id.items.size() > 6)
      refuse("a persistent identifier is not ('storage', type, key, location, numel)");
    torch_storage s;
    auto const& type = tree_[id.items[1]];
    if (type.kind != pickle_kind::global) refuse("a storage's type is ", name_of(type.kind), ", not a name");
    auto const known =
        std::find_if(detail::torch_types.begin(), detail::torch_types.end(),
                     [&](auto const& t) { return !t.storage.empty() && t.storage == type.name; });
    if (known == detail::torch_types.end() || !(type.text == "torch" || type.text.starts_with("torch.")))
      refuse("the storage type ", quote(pickle_tree::full_name(type)),
             " is not known; is the file newer than this reader?");
    s.type = known->type, s.width = known->width, s.class_name = type.name;
    s.untyped = type.name == "UntypedStorage";
    s.key = text_in(id.items[2], "a storage's key");
    s.numel = size_in(id.items[4], "a storage's number of elements");
    if (id.items.size() == 6) read_view(s, id.items[5]);
    return s;
  }

  /// The tensor that a value is; nothing if it is none. `why` is set if it is one that cannot be read, such as a sparse one.
  /// Throws error if it is malformed or reaches outside of its storage.
  std::optional<torch_tensor> tensor(index i, std::string& why, int depth = 0) const {
    auto const* const f = tree_.class_of(i);
    if (!f) return {};
    auto const& arguments = tree_[tree_[i].items[pickle_tree::arguments]];
    if (f->text == "torch._tensor" && f->name == "_rebuild_from_type_v2")
      return rebuild_subclass(arguments, why, depth);
    if (f->text != "torch._utils" || !f->name.starts_with("_rebuild_")) return {};
    if (f->name.starts_with("_rebuild_parameter")) {
      need(arguments, 2, f->name);
      check_depth(depth);
      return tensor(arguments.items[0], why, depth + 1);
    }
    if (is_dense(f->name)) return rebuild(arguments, f->name, why);
    why = text("a tensor made by ", pickle_tree::full_name(*f), ", which is not read here");
    return {};
  }

 private:
  template <class... A>
  [[noreturn]] void refuse(A const&... why) const {
    fail(file_, ": the pickle describes no valid tensor: ", why...);
  }
  void need(node const& arguments, std::size_t least, std::string_view function) const {
    if (arguments.kind != pickle_kind::tuple || arguments.items.size() < least)
      refuse(function, " has ", arguments.items.size(), " arguments, at least ", least, " are needed");
  }
  static bool is_dense(std::string_view f) {
    return f == "_rebuild_tensor" || f == "_rebuild_tensor_v2" || f == "_rebuild_tensor_v3";
  }
  static constexpr int deepest = 8;  // parameters of subclasses of tensors
  void check_depth(int depth) const {
    if (depth >= deepest) refuse("it wraps itself more than ", deepest, " times");
  }
  std::string_view text_in(index i, std::string_view what) const {
    if (tree_[i].kind != pickle_kind::text) refuse(what, " is ", name_of(tree_[i].kind), ", not a text");
    return tree_[i].text;
  }
  index_t size_in(index i, std::string_view what) const {
    auto const& n = tree_[i];
    if (n.kind != pickle_kind::integer || n.integer < 0)
      refuse(what, " is ", tree_.description(i), ", it must be an integer of at least 0");
    return n.integer;
  }
  std::vector<index_t> sizes_in(index i, std::string_view what) const {
    auto const* n = &tree_[i];
    if (auto const* const c = tree_.class_of(i); c && c->text == "torch" && c->name == "Size") {
      auto const& arguments = tree_[n->items[pickle_tree::arguments]];
      need(arguments, 1, "torch.Size");
      n = &tree_[arguments.items[0]];
    }
    if (n->kind != pickle_kind::tuple && n->kind != pickle_kind::list)
      refuse(what, " is ", name_of(n->kind), ", not a tuple");
    constexpr std::size_t most = 64;  // axes, PyTorch's own limit
    if (n->items.size() > most)
      refuse(what, " has ", n->items.size(), " axes, at most ", most, " are possible");
    std::vector<index_t> sizes;
    for (auto const k : n->items) sizes.push_back(size_in(k, what));
    return sizes;
  }
  /// (view key, offset, view size)
  void read_view(torch_storage& s, index i) const {
    auto const& view = tree_[i];
    if (view.kind == pickle_kind::none) return;
    need(view, 3, "a storage view");
    s.view_begin = size_in(view.items[1], "a view's offset");
    s.view_numel = size_in(view.items[2], "a view's size");
    if (s.view_begin > s.numel || s.view_numel > s.numel - s.view_begin)
      refuse("a view of ", s.view_numel, " elements from ", s.view_begin, " passes the end of storage ",
             quote(s.key), ", which has ", s.numel);
  }

  /// torch._tensor._rebuild_from_type_v2(function, type, arguments, state): subclasses, tensors with attributes.
  std::optional<torch_tensor> rebuild_subclass(node const& arguments, std::string& why, int depth) const {
    need(arguments, 3, "_rebuild_from_type_v2");
    auto const& f = tree_[arguments.items[0]];
    auto const& inner = tree_[arguments.items[2]];
    if (f.kind != pickle_kind::global) refuse("_rebuild_from_type_v2 is not given a function");
    check_depth(depth);
    if (f.text == "torch._utils" && f.name.starts_with("_rebuild_parameter")) {
      need(inner, 2, f.name);
      return tensor(inner.items[0], why, depth + 1);
    }
    if (f.text == "torch._utils" && is_dense(f.name)) return rebuild(inner, f.name, why);
    why = text("a tensor made by ", pickle_tree::full_name(f), ", which is not read here");
    return {};
  }

  /// _rebuild_tensor(storage, offset, size, stride), _v2(..., requires_grad, hooks[, metadata]) and
  /// _v3(..., requires_grad, hooks, dtype[, metadata]), whose storage counts bytes.
  std::optional<torch_tensor> rebuild(node const& arguments, std::string_view function,
                                      std::string& why) const {
    bool const typed = function != "_rebuild_tensor_v3";
    need(arguments, typed ? 4 : 7, function);
    torch_tensor t;
    auto const s = storage(arguments.items[0]);
    if (!s) return (why = "a tensor whose storage is not in the file"), std::nullopt;
    t.storage = *s;
    auto type = s->type;
    std::string name(s->class_name);
    if (!typed) {
      auto const& d = tree_[arguments.items[6]];
      if (d.kind != pickle_kind::global || d.text != "torch")
        refuse("a dtype is ", name_of(d.kind), ", not a name");
      auto const known = std::find_if(detail::torch_types.begin(), detail::torch_types.end(),
                                      [&](auto const& k) { return !k.name.empty() && k.name == d.name; });
      type = known == detail::torch_types.end() ? std::nullopt : known->type;
      name = pickle_tree::full_name(d);
    }
    if (!type)
      return (why = text("a tensor of type ", quote(name, 60), ", which is not read here")), std::nullopt;
    t.type = *type;
    t.offset = size_in(arguments.items[1], "a tensor's storage offset");
    t.shape = sizes_in(arguments.items[2], "a tensor's size");
    t.stride = sizes_in(arguments.items[3], "a tensor's stride");
    check_bounds(t);
    return t;
  }

  /// offset + sum of (size - 1) * stride < number of elements, without overflow; and not more elements than the storage has,
  /// unless few: expanded tensors repeat theirs.
  void check_bounds(torch_tensor const& t) const {
    if (t.shape.size() != t.stride.size())
      refuse("a tensor has ", t.shape.size(), " sizes and ", t.stride.size(), " strides");
    auto const count = checked_count(t.shape);
    if (!count || !checked_bytes(t.type, *count))
      refuse("the shape ", shape_text(t.shape), " has too many elements for any memory");
    auto const& s = t.storage;
    auto const width = index_t(bits_of(t.type) / 8);
    index_t const has = (s.view_numel < 0 ? s.numel : s.view_numel) / (s.untyped ? width : 1);
    index_t last = t.offset;
    bool inside = *count == 0 || last < has;
    for (std::size_t a = 0; a < t.shape.size() && *count > 0 && inside; ++a) {
      index_t step = 0;
      inside = !__builtin_mul_overflow(t.shape[a] - 1, t.stride[a], &step) &&
               !__builtin_add_overflow(last, step, &last) && last < has;
    }
    if (!inside)
      refuse("shape ", shape_text(t.shape), ", strides ", shape_text(t.stride), " and offset ", t.offset,
             " reach outside of storage ", quote(s.key), ", which has ", has, " elements of ",
             name_of(t.type));
    constexpr index_t most = index_t(1) << 26;
    if (*count > has && *count > most)
      refuse("shape ", shape_text(t.shape), " repeats the ", has, " elements of storage ", quote(s.key),
             " to ", *count, ", at most ", most, " are allowed; save it with .contiguous()");
  }

  pickle_tree const& tree_;
  std::string file_;
};

}  // namespace insula
