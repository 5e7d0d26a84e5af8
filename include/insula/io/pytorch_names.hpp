// SPDX-License-Identifier: Apache-2.0
// Which values of a torch file are tensors, what they are called, and which of its dicts is the state dict.
#pragma once

#include "insula/io/pytorch_tensor.hpp"

namespace insula {

/// A tensor under the name that the path to it gives: keys and positions, joined by dots.
struct torch_named {
  std::string name;
  torch_tensor tensor;
};
/// A tensor that is not read, and why.
struct torch_unread {
  std::string name, why;
};

/// Walks the tree of a torch file, with bounds on depth, visits and the length of names, since a small pickle can describe an
/// enormous or an endless tree. `file` is the name in messages.
class torch_walker {
 public:
  using index = pickle_tree::index;

  static constexpr int deepest = 100;
  static constexpr std::size_t most_visits = std::size_t{1} << 21, longest_name = 1024,  // bytes
      most_bytes = std::size_t{1} << 26;

  torch_walker(pickle_tree const& tree, std::string file)
      : tree_(tree), decode_(tree, file), file_(std::move(file)) {}

  std::vector<torch_named> tensors;
  std::vector<torch_unread> unread;

  /// Adds all tensors below a value. A module's parameters and buffers are named as its state_dict() would. Throws error.
  void collect(index root) { walk(root, "", 0); }

  /// Number of tensors below a value. All counts together make a bounded number of visits, then they stop.
  std::size_t count(index root) const {
    std::size_t n = 0;
    count(root, n, 0);
    return n;
  }
  bool is_tensor(index i) const {
    auto const* const c = tree_.class_of(i);
    return c && ((c->text == "torch._utils" && c->name.starts_with("_rebuild_")) ||
                 (c->text == "torch._tensor" && c->name == "_rebuild_from_type_v2"));
  }
  /// True for a whole torch.nn.Module: an object whose attributes have _parameters and _modules.
  bool is_module(index i) const {
    auto const s = state_of(i);
    return attribute(s, "_modules") != pickle_tree::nothing &&
           attribute(s, "_parameters") != pickle_tree::nothing;
  }
  bool has_direct_tensors(index i) const {
    auto const p = tree_.pairs(i);
    for (std::size_t k = 1; k < p.size(); k += 2)
      if (is_tensor(p[k])) return true;
    return false;
  }
  /// A key as a part of a name; nothing if it is neither text nor integer.
  std::optional<std::string> key_text(index key) const {
    auto const& n = tree_[key];
    if (n.kind == pickle_kind::integer) return text(n.integer);
    if (n.kind != pickle_kind::text) return {};
    if (n.text.size() > longest_name)
      refuse("a key has ", n.text.size(), " bytes, at most ", longest_name, " are expected in a name");
    return std::string(n.text);
  }

 private:
  template <class... A>
  [[noreturn]] void refuse(A const&... why) const {
    fail(file_, ": ", why..., "; is the file damaged?");
  }
  index state_of(index i) const {
    if (tree_[i].kind != pickle_kind::object) return pickle_tree::nothing;
    auto const s = tree_[i].items[pickle_tree::state];
    return tree_[s].kind == pickle_kind::dict ? s : pickle_tree::nothing;
  }

  /// A module keeps its own attributes before those of its class; the search ends after so many.
  index attribute(index state, std::string_view name) const {
    constexpr std::size_t most = 64;
    auto const p = tree_.pairs(state);
    for (std::size_t k = 0; k + 1 < p.size() && k < 2 * most; k += 2)
      if (tree_[p[k]].kind == pickle_kind::text && tree_[p[k]].text == name) return p[k + 1];
    return pickle_tree::nothing;
  }

  bool may_hold_tensors(index i) const {
    auto const k = tree_[i].kind;
    return k == pickle_kind::object || k == pickle_kind::dict || k == pickle_kind::list ||
           k == pickle_kind::tuple;
  }
  /// Of a visit: passing over numbers, as in long lists of losses, costs little.
  std::size_t cost(index i) const { return 1 + tree_[i].items.size() / 16; }

  /// Calls visit(key, child) for every named part of a value that may hold tensors.
  template <class Visit>
  void children(index i, Visit visit) const {
    auto const pairs = [&](index of) {
      auto const p = tree_.pairs(of);
      for (std::size_t k = 0; k + 1 < p.size(); k += 2)
        if (may_hold_tensors(p[k + 1])) visit(p[k], p[k + 1]);
    };
    auto const& n = tree_[i];
    if (n.kind == pickle_kind::dict) return pairs(i);
    if (n.kind != pickle_kind::object) return;
    if (!is_module(i)) {
      pairs(i);
      return pairs(state_of(i));
    }
    auto const state = state_of(i);
    pairs(attribute(state, "_parameters"));
    auto const buffers = tree_.pairs(attribute(state, "_buffers"));
    for (std::size_t k = 0; k + 1 < buffers.size(); k += 2)
      if (is_persistent(state, buffers[k])) visit(buffers[k], buffers[k + 1]);
    pairs(attribute(state, "_modules"));
  }
  /// Lists, tuples, and what was appended to an object.
  std::span<index const> elements(index i) const {
    auto const& n = tree_[i];
    if (n.kind == pickle_kind::list || n.kind == pickle_kind::tuple) return n.items;
    if (n.kind == pickle_kind::object) return tree_[n.items[pickle_tree::elements]].items;
    return {};
  }
  /// A module's set of buffers that its state_dict leaves out: a set, or `set` called with a list (protocol 2).
  bool is_persistent(index state, index buffer) const {
    auto const* set = &tree_[attribute(state, "_non_persistent_buffers_set")];
    if (set->kind == pickle_kind::object) {
      auto const& arguments = tree_[set->items[pickle_tree::arguments]];
      if (arguments.items.empty()) return true;
      set = &tree_[arguments.items[0]];
    }
    if (set->kind != pickle_kind::set && set->kind != pickle_kind::list) return true;
    constexpr std::size_t most = 1024;  // names
    auto const names = std::span(set->items).first(std::min(set->items.size(), most));
    return std::none_of(names.begin(), names.end(), [&](index k) {
      return tree_[k].kind == pickle_kind::text && tree_[k].text == tree_[buffer].text;
    });
  }

  void walk(index i, std::string const& name, int depth) {
    if (depth > deepest) refuse("its values are nested more than ", deepest, " deep at ", quote(name, 60));
    visits_ += cost(i);
    if (visits_ > most_visits) refuse("it has more than ", most_visits, " values to look at");
    std::string why;
    if (auto t = decode_.tensor(i, why)) return add(name, std::move(*t));
    if (!why.empty()) return count_bytes(name.size()), unread.push_back({name, std::move(why)});
    children(i, [&](index key, index child) {
      if (auto const part = key_text(key))
        walk(child, joined(name, *part), depth + 1);
      else if (count(child) > 0)
        count_bytes(name.size()),
            unread.push_back({name, text("tensors under ", name_of(tree_[key].kind), " as a key")});
    });
    std::size_t at = 0;
    for (auto const child : elements(i)) {
      if (may_hold_tensors(child)) walk(child, joined(name, text(at)), depth + 1);
      ++at;
    }
  }
  std::string joined(std::string const& name, std::string const& part) const {
    auto s = name.empty() ? part : name + '.' + part;
    if (s.size() > longest_name) refuse("a name would have ", s.size(), " bytes: ", quote(s, 60));
    return s;
  }
  void count_bytes(std::size_t n) {
    bytes_ += n + 256;
    if (bytes_ > most_bytes)
      refuse("the names and shapes of its tensors take more than ", most_bytes, " bytes");
  }
  void add(std::string const& name, torch_tensor t) {
    count_bytes(name.size() + 4 * t.shape.size() * sizeof(index_t));
    tensors.push_back({name.empty() ? "tensor" : name, std::move(t)});
  }
  void count(index i, std::size_t& n, int depth) const {
    if (depth > deepest || counted_ > most_visits) return;
    counted_ += cost(i);
    if (is_tensor(i)) return void(++n);
    children(i, [&](index, index child) { count(child, n, depth + 1); });
    for (auto const child : elements(i)) {
      if (counted_ > most_visits) return;
      if (may_hold_tensors(child)) count(child, n, depth + 1);
    }
  }

  pickle_tree const& tree_;
  torch_decoder decode_;
  std::string file_;
  std::size_t visits_ = 0, bytes_ = 0;
  mutable std::size_t counted_ = 0;
};

/// A part of a torch file: the path of its keys, "" for the whole file.
struct torch_section {
  pickle_tree::index root = pickle_tree::nothing;
  std::string key;
};

namespace detail {

/// Under these keys programs keep the weights of a model.
inline constexpr std::string_view state_dict_keys[] = {
    "state_dict",      "model_state_dict", "model_state", "model",   "module",  "net",      "network",
    "network_weights", "weights",          "params",      "teacher", "student", "backbone", "encoder"};

/// Values that have tensors; the first few with their keys.
struct tensor_sets {
  std::size_t size = 0;
  std::vector<std::pair<std::string, std::size_t>> first{};
  pickle_tree::index last = pickle_tree::nothing;

  void add(std::string const& key, std::size_t tensors, pickle_tree::index i) {
    ++size, last = i;
    if (first.size() < 12) first.emplace_back(key, tensors);
  }
  std::string listed() const {
    std::string s;
    for (auto const& [key, n] : first)
      s += text(s.empty() ? "" : ", ", quote(key, 60), " (", n, n == 1 ? " tensor)" : " tensors)");
    return size > first.size() ? s + ", ..." : s;
  }
};

}  // namespace detail

/// The state dict of a torch file: the outermost value if it is a module or has tensors; else what stands under the one usual
/// key that has tensors ("state_dict", "model_state_dict", "model", "teacher", ...); else the only value that has some. Throws
/// error, listing the choices, if several fit, and if there is no tensor.
inline torch_section find_state_dict(pickle_tree const& tree, pickle_tree::index root,
                                     torch_walker const& walker, std::string_view file) {
  torch_section at{root, ""};
  for (int depth = 0; depth < 8; ++depth) {
    if (walker.is_tensor(at.root) || walker.is_module(at.root) || walker.has_direct_tensors(at.root))
      return at;
    detail::tensor_sets usual, any;
    auto const pairs = tree.pairs(at.root);
    for (std::size_t k = 0; k + 1 < pairs.size(); k += 2) {
      auto const key = walker.key_text(pairs[k]);
      auto const n = key ? walker.count(pairs[k + 1]) : 0;
      if (n == 0) continue;
      any.add(*key, n, pairs[k + 1]);
      if (std::find(std::begin(detail::state_dict_keys), std::end(detail::state_dict_keys), *key) !=
          std::end(detail::state_dict_keys))
        usual.add(*key, n, pairs[k + 1]);
    }
    auto const& choice = usual.size > 0 ? usual : any;
    auto const where = at.key.empty() ? "" : " under " + quote(at.key);
    if (choice.size == 0) {
      if (walker.count(at.root) > 0) return at;  // lists of tensors
      fail(file, ": no tensor is in it", where, "; it holds ", tree.description(at.root));
    }
    if (choice.size > 1)
      fail(file, ": it holds several sets of tensors", where, ": ", choice.listed(),
           "; say which (key), or \"\" for all");
    at.root = choice.last;
    at.key += (at.key.empty() ? "" : ".") + choice.first[0].first;
  }
  return at;
}

namespace detail {

/// The value at the end of a path of keys, which may have dots themselves; None if there is none. `deepest` is the deepest value
/// that was found on the way.
inline pickle_tree::index follow(pickle_tree const& tree, pickle_tree::index from, std::string_view path,
                                 torch_walker const& walker, pickle_tree::index& deepest) {
  deepest = from;
  auto const rest_after = [&](std::string_view key) -> std::optional<std::string_view> {
    if (path == key) return "";
    if (path.starts_with(key) && path[key.size()] == '.') return path.substr(key.size() + 1);
    return {};
  };
  auto const into = [&](std::string_view key, pickle_tree::index child) {
    auto const rest = rest_after(key);
    if (!rest) return pickle_tree::nothing;
    return rest->empty() ? child : follow(tree, child, *rest, walker, deepest);
  };
  auto const pairs = tree.pairs(from);
  for (std::size_t k = 0; k + 1 < pairs.size(); k += 2)
    if (auto const key = walker.key_text(pairs[k]); key && !key->empty())
      if (auto const found = into(*key, pairs[k + 1])) return found;
  auto const& n = tree[from];
  if (n.kind == pickle_kind::list || n.kind == pickle_kind::tuple)
    for (std::size_t i = 0; i < n.items.size(); ++i)
      if (auto const found = into(text(i), n.items[i])) return found;
  return pickle_tree::nothing;
}

}  // namespace detail

/// What stands under a path of keys, such as "state_dict" or "optimizer_states.0.state". Throws error with the keys that there
/// are.
inline torch_section find_section(pickle_tree const& tree, pickle_tree::index root, std::string const& key,
                                  torch_walker const& walker, std::string_view file) {
  if (key.empty()) return {root, ""};
  pickle_tree::index deepest = root;
  if (auto const found = detail::follow(tree, root, key, walker, deepest)) return {found, key};
  std::vector<std::string> names;
  auto const pairs = tree.pairs(root);
  for (std::size_t k = 0; k < pairs.size() && names.size() < 1000; k += 2)
    if (auto name = walker.key_text(pairs[k])) names.push_back(std::move(*name));
  std::string some;
  for (std::size_t i = 0; i < names.size() && i < 12; ++i) some += (i ? ", " : "") + quote(names[i], 60);
  fail(file, ": nothing stands under the key ", quote(key),
       names.empty() ? "" : "; the outermost keys are " + some, names.size() > 12 ? ", ..." : "");
}

}  // namespace insula
