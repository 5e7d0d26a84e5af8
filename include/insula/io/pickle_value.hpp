// SPDX-License-Identifier: Apache-2.0
// What a pickle describes, as plain data: numbers, texts, lists, dicts, and objects that are named but never made.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/config.hpp"
#include "insula/io/quote.hpp"

namespace insula {

/// `object` is what calling or constructing a global would give; nothing is called. `persistent` is a reference by an
/// identifier to something outside of the pickle.
enum class pickle_kind : std::uint8_t {
  none,
  boolean,
  integer,
  huge_integer,
  real,
  text,
  bytes,
  list,
  tuple,
  set,
  dict,
  global,
  object,
  persistent
};

inline constexpr std::string_view name_of(pickle_kind k) {
  constexpr std::string_view names[] = {"None",       "a bool",
                                        "an integer", "a large integer",
                                        "a number",   "a text",
                                        "bytes",      "a list",
                                        "a tuple",    "a set",
                                        "a dict",     "a global name",
                                        "an object",  "a persistent reference"};
  return names[std::size_t(k)];
}

/// The values of a pickle. One value may be a part of several others, or of itself: never walk a tree without a bound on the
/// depth and on the number of visits. Texts point into the pickle's bytes.
class pickle_tree {
 public:
  using index = std::uint32_t;
  static constexpr index nothing = 0;  // the value None

  /// The parts of `items` of an object. `entries` is a dict of what was stored as object[key], `elements` a list of what was
  /// appended; both are None if there is nothing.
  enum part : std::size_t { callable, arguments, state, entries, elements };

  struct node {
    pickle_kind kind = pickle_kind::none;
    std::int64_t integer = 0;  // of boolean and integer
    double real = 0;           // of real
    std::string_view text{};   // of text and bytes; the raw bytes of a huge integer; the module of a global
    std::string_view name{};   // of a global
    std::vector<index>
        items{};  // list, tuple, set: elements; dict: key, value, key, value; object: see part;
                  // persistent: its identifier
  };

  pickle_tree() { add({}); }
  index add(node n) {
    nodes_.push_back(std::move(n));
    return index(nodes_.size() - 1);
  }
  node const& operator[](index i) const { return nodes_[i]; }
  node& operator[](index i) { return nodes_[i]; }
  std::size_t size() const { return nodes_.size(); }

  bool is_global(index i, std::string_view module, std::string_view name) const {
    auto const& n = nodes_[i];
    return n.kind == pickle_kind::global && n.text == module && n.name == name;
  }
  /// The callable of an object, null if this is no object or its callable no global name.
  node const* class_of(index i) const {
    if (nodes_[i].kind != pickle_kind::object) return nullptr;
    auto const& c = nodes_[nodes_[i].items[callable]];
    return c.kind == pickle_kind::global ? &c : nullptr;
  }
  /// Keys and values of a dict, or of an object that had entries stored, such as collections.defaultdict.
  std::span<index const> pairs(index i) const {
    auto const& n = nodes_[i];
    if (n.kind == pickle_kind::dict) return n.items;
    return n.kind == pickle_kind::object ? std::span<index const>(nodes_[n.items[entries]].items)
                                         : std::span<index const>{};
  }
  /// The value under a text key; `nothing` if there is none.
  index find(index i, std::string_view key) const {
    auto const p = pairs(i);
    for (std::size_t k = 0; k + 1 < p.size(); k += 2)
      if (nodes_[p[k]].kind == pickle_kind::text && nodes_[p[k]].text == key) return p[k + 1];
    return nothing;
  }
  /// For people: "'1.9.4'", "an integer, 12", "a list of 3", "an object of torch.nn.modules.linear.Linear".
  std::string description(index i) const {
    auto const& n = nodes_[i];
    switch (n.kind) {
      case pickle_kind::boolean:
        return n.integer ? "True" : "False";
      case pickle_kind::integer:
        return text_of(n.integer);
      case pickle_kind::real:
        return text_of(n.real);
      case pickle_kind::text:
        return quote(n.text, 60);
      case pickle_kind::list:
      case pickle_kind::tuple:
      case pickle_kind::set:
        return insula::text(name_of(n.kind), " of ", n.items.size());
      case pickle_kind::dict:
        return insula::text("a dict of ", n.items.size() / 2);
      case pickle_kind::global:
        return full_name(n);
      case pickle_kind::object:
        return class_of(i) ? "an object of " + full_name(*class_of(i)) : "an object";
      default:
        return std::string(name_of(n.kind));
    }
  }
  /// "torch._utils._rebuild_tensor_v2", printable and of bounded length.
  static std::string full_name(node const& global) {
    auto s = quote(std::string(global.text.substr(0, 200)) + '.' + std::string(global.name.substr(0, 200)));
    return s.substr(1, s.size() - 2);
  }

 private:
  template <class T>
  static std::string text_of(T v) {
    return insula::text(v);
  }

  std::deque<node> nodes_;
};

}  // namespace insula
