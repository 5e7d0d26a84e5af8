// SPDX-License-Identifier: Apache-2.0
// Reading a pickle of Python as data: no name is looked up, nothing is called, nothing is imported.
#pragma once

#include <bit>
#include <unordered_map>

#include "insula/io/byte_reader.hpp"
#include "insula/io/pickle_value.hpp"

namespace insula {

struct pickle_limits {
  std::size_t values = std::size_t{1} << 23;  ///< about 0.1 kB of memory each
};

namespace detail {

/// The stack machine of pickle protocols 2 to 5 (CPython, Lib/pickletools.py). Memory is proportional to the bytes read: every
/// instruction makes at most a few values.
class pickle_machine {
 public:
  using index = pickle_tree::index;
  using node = pickle_tree::node;

  pickle_machine(pickle_tree& tree, byte_reader& in, pickle_limits limits)
      : tree_(tree), in_(in), limits_(limits) {}

  index run() {
    for (;;) {
      at_ = in_.at();
      auto const code = in_.number<unsigned char>("an instruction");
      if (code == '.') break;
      step(code);
      if (tree_.size() > limits_.values)
        fail(in_.where(), ": the pickle has more than ", limits_.values,
             " values; is it a list of numbers that should be a tensor?");
    }
    auto const root = pop();
    if (!stack_.empty() || !marks_.empty())
      refuse("it stops with ", stack_.size(), " values left over and ", marks_.size(), " marks open");
    return root;
  }

 private:
  template <class... A>
  [[noreturn]] void refuse(A const&... why) const {
    fail(in_.where(), ": the pickle cannot be read at byte ", at_, ": ", why...,
         "; the file is damaged or not of torch.save");
  }

  void push(index i) { stack_.push_back(i); }
  void push(node n) { push(tree_.add(std::move(n))); }
  index pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) refuse("nothing is left on the stack");
    auto const i = stack_.back();
    stack_.pop_back();
    return i;
  }
  index top() const {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) refuse("the stack is empty");
    return stack_.back();
  }
  std::vector<index> pop_to_mark() {
    if (marks_.empty()) refuse("there is no mark");
    auto const from = stack_.begin() + std::ptrdiff_t(marks_.back());
    std::vector<index> items(from, stack_.end());
    stack_.erase(from, stack_.end());
    marks_.pop_back();
    return items;
  }
  std::vector<index> pop_some(std::size_t n) {
    std::vector<index> items(n);
    while (n-- > 0) items[n] = pop();
    return items;
  }
  void push_items(pickle_kind kind, std::vector<index> items) {
    push({.kind = kind, .items = std::move(items)});
  }
  void push_text(pickle_kind kind, std::uint64_t size) {
    push({.kind = kind, .text = in_.take_text(size, "a text or bytes")});
  }
  void push_integer(std::int64_t v) { push({.kind = pickle_kind::integer, .integer = v}); }

  /// Two's complement of any length, little-endian.
  void push_long(std::uint64_t size) {
    auto const raw = in_.take_text(size, "an integer");
    if (raw.size() > 8) return push({.kind = pickle_kind::huge_integer, .text = raw});
    bool const negative = !raw.empty() && (static_cast<unsigned char>(raw.back()) & 0x80u);
    std::uint64_t v = negative ? ~std::uint64_t{0} : 0;
    for (std::size_t i = raw.size(); i-- > 0;) v = v << 8 | static_cast<unsigned char>(raw[i]);
    push_integer(std::int64_t(v));
  }
  void push_big_endian_double() {
    auto bits = in_.number<std::uint64_t>("a number");
    if constexpr (std::endian::native == std::endian::little) bits = __builtin_bswap64(bits);
    push({.kind = pickle_kind::real, .real = std::bit_cast<double>(bits)});
  }

  void store(std::uint64_t slot) { memo_[slot] = top(); }
  void recall(std::uint64_t slot) {
    auto const it = memo_.find(slot);
    if (it == memo_.end()) refuse("nothing was stored under ", slot);
    push(it->second);
  }

  /// The list or dict to which items are added: the value itself, or the part of an object that takes them.
  node& container(index i, pickle_kind kind, pickle_tree::part part) {
    if (tree_[i].kind == kind) return tree_[i];
    if (tree_[i].kind != pickle_kind::object)
      refuse("items of ", name_of(kind), " are added to ", name_of(tree_[i].kind));
    if (tree_[i].items[part] == pickle_tree::nothing) {
      auto const fresh = tree_.add({.kind = kind});
      tree_[i].items[part] = fresh;
    }
    return tree_[tree_[i].items[part]];
  }
  void append(std::vector<index> const& items) {
    auto const to = top();
    auto& list = tree_[to].kind == pickle_kind::set ? tree_[to]
                                                    : container(to, pickle_kind::list, pickle_tree::elements);
    list.items.insert(list.items.end(), items.begin(), items.end());
  }
  void set_items(std::vector<index> const& items) {
    if (items.size() % 2 != 0) refuse("a key has no value");
    auto& dict = container(top(), pickle_kind::dict, pickle_tree::entries);
    dict.items.insert(dict.items.end(), items.begin(), items.end());
  }
  void push_dict(std::vector<index> items) {
    if (items.size() % 2 != 0) refuse("a key has no value");
    push_items(pickle_kind::dict, std::move(items));
  }

  void push_global(std::string_view module, std::string_view name) {
    push({.kind = pickle_kind::global, .text = module, .name = name});
  }
  void stack_global() {
    auto const name = pop(), module = pop();
    if (tree_[name].kind != pickle_kind::text || tree_[module].kind != pickle_kind::text)
      refuse("a global is not named by two texts");
    push_global(tree_[module].text, tree_[name].text);
  }

  /// An ordered dict is a dict. Anything else stays what it says: a name and its arguments.
  void call() {
    auto const arguments = pop(), callable = pop();
    if (tree_.is_global(callable, "collections", "OrderedDict") &&
        tree_[arguments].kind == pickle_kind::tuple && tree_[arguments].items.size() <= 1)
      return push_dict(pairs_in(tree_[arguments].items));
    push_items(pickle_kind::object,
               {callable, arguments, pickle_tree::nothing, pickle_tree::nothing, pickle_tree::nothing});
  }
  /// OrderedDict([[key, value], ...]) of Python 2.
  std::vector<index> pairs_in(std::vector<index> const& arguments) {
    std::vector<index> pairs;
    if (arguments.empty()) return pairs;
    if (tree_[arguments[0]].kind != pickle_kind::list) refuse("an OrderedDict is not made from a list");
    for (auto const p : tree_[arguments[0]].items) {
      auto const& pair = tree_[p];
      if ((pair.kind != pickle_kind::list && pair.kind != pickle_kind::tuple) || pair.items.size() != 2)
        refuse("an OrderedDict is not made from pairs");
      pairs.insert(pairs.end(), pair.items.begin(), pair.items.end());
    }
    return pairs;
  }
  /// The attributes of an object. Those of an ordered dict, such as a state_dict's _metadata, are left out.
  void build() {
    auto const attributes = pop(), to = top();
    if (tree_[to].kind == pickle_kind::object) tree_[to].items[pickle_tree::state] = attributes;
  }

  void step(unsigned char code) {
    switch (code) {
      case 0x80:  // PROTO
        if (auto const version = in_.number<unsigned char>("the protocol"); version < 2 || version > 5)
          refuse("the protocol is ", int(version), ", known are 2 to 5");
        return;
      case 0x95:  // FRAME
        if (auto const size = in_.number<std::uint64_t>("a frame"); size > in_.left())
          refuse("a frame of ", size, " bytes begins, but only ", in_.left(), " follow");
        return;
      case '(':  // MARK
        return marks_.push_back(stack_.size());
      case '0':  // POP
        if (!marks_.empty() && marks_.back() == stack_.size()) return marks_.pop_back();
        return (void)pop();
      case '1':  // POP_MARK
        return (void)pop_to_mark();
      case '2':  // DUP
        return push(top());
      case 'N':
        return push(pickle_tree::nothing);
      case 0x88:
        return push({.kind = pickle_kind::boolean, .integer = 1});
      case 0x89:
        return push({.kind = pickle_kind::boolean, .integer = 0});
      case 'q':
        return store(in_.number<std::uint8_t>("a memo index"));
      case 'r':
        return store(in_.number<std::uint32_t>("a memo index"));
      case 0x94:
        return store(memo_.size());
      case 'h':
        return recall(in_.number<std::uint8_t>("a memo index"));
      case 'j':
        return recall(in_.number<std::uint32_t>("a memo index"));
      default:
        return step_number(code) || step_text(code) || step_collection(code) || step_object(code)
                   ? void()
                   : unknown(code);
    }
  }
  [[noreturn]] void unknown(unsigned char code) const {
    if (std::string_view("IJKLFSVgpPiocd").find(char(code)) != std::string_view::npos)
      refuse("the instruction '", char(code),
             "' of protocol 0 or 1; save with torch.save's default protocol");
    refuse("the instruction ", int(code), " is not known");
  }

  bool step_number(unsigned char code) {
    switch (code) {
      case 'J':
        return push_integer(in_.number<std::int32_t>("an integer")), true;
      case 'K':
        return push_integer(in_.number<std::uint8_t>("an integer")), true;
      case 'M':
        return push_integer(in_.number<std::uint16_t>("an integer")), true;
      case 0x8a:
        return push_long(in_.number<std::uint8_t>("an integer's length")), true;
      case 0x8b:
        return push_long(in_.number<std::uint32_t>("an integer's length")), true;
      case 'G':
        return push_big_endian_double(), true;
      default:
        return false;
    }
  }
  bool step_text(unsigned char code) {
    auto const size8 = [&] { return in_.number<std::uint8_t>("a length"); };
    auto const size32 = [&] { return in_.number<std::uint32_t>("a length"); };
    auto const size64 = [&] { return in_.number<std::uint64_t>("a length"); };
    switch (code) {
      case 0x8c:  // SHORT_BINUNICODE
      case 'U':   // SHORT_BINSTRING: a str of Python 2
        return push_text(pickle_kind::text, size8()), true;
      case 'X':
      case 'T':  // BINSTRING
        return push_text(pickle_kind::text, size32()), true;
      case 0x8d:
        return push_text(pickle_kind::text, size64()), true;
      case 'C':
        return push_text(pickle_kind::bytes, size8()), true;
      case 'B':
        return push_text(pickle_kind::bytes, size32()), true;
      case 0x8e:  // BINBYTES8
      case 0x96:  // BYTEARRAY8
        return push_text(pickle_kind::bytes, size64()), true;
      default:
        return false;
    }
  }
  bool step_collection(unsigned char code) {
    switch (code) {
      case ']':
        return push_items(pickle_kind::list, {}), true;
      case 'l':
        return push_items(pickle_kind::list, pop_to_mark()), true;
      case 'a':
        return append({pop()}), true;
      case 'e':
      case 0x90:  // ADDITEMS
        return append(pop_to_mark()), true;
      case ')':
        return push_items(pickle_kind::tuple, {}), true;
      case 't':
        return push_items(pickle_kind::tuple, pop_to_mark()), true;
      case 0x85:
      case 0x86:
      case 0x87:
        return push_items(pickle_kind::tuple, pop_some(code - 0x84u)), true;
      case 0x8f:  // EMPTY_SET
        return push_items(pickle_kind::set, {}), true;
      case 0x91:  // FROZENSET
        return push_items(pickle_kind::set, pop_to_mark()), true;
      case '}':
        return push_dict({}), true;
      case 'd':
        return push_dict(pop_to_mark()), true;
      case 's':
        return set_items(pop_some(2)), true;
      case 'u':
        return set_items(pop_to_mark()), true;
      default:
        return false;
    }
  }
  bool step_object(unsigned char code) {
    switch (code) {
      case 'c': {
        auto const module = in_.line("a global's module");
        return push_global(module, in_.line("a global's name")), true;
      }
      case 0x93:
        return stack_global(), true;
      case 'R':   // REDUCE
      case 0x81:  // NEWOBJ
        return call(), true;
      case 0x92:  // NEWOBJ_EX: class, arguments, named arguments
        return (void)pop(), call(), true;
      case 'b':
        return build(), true;
      case 'Q': {
        auto const identifier = pop();
        return push_items(pickle_kind::persistent, {identifier}), true;
      }
      default:
        return false;
    }
  }

  pickle_tree& tree_;
  byte_reader& in_;
  pickle_limits limits_;
  std::size_t at_ = 0;
  std::vector<index> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, index> memo_;
};

}  // namespace detail

/// Reads one pickle of protocol 2 to 5 from the reader's position, which is then behind it, adds its values to `tree` and
/// gives the outermost one. The bytes must live as long as the tree. Throws error naming the byte at which the pickle is
/// damaged, or if it has too many values.
inline pickle_tree::index read_pickle(pickle_tree& tree, byte_reader& in,
                                      pickle_limits limits = pickle_limits{}) {
  return detail::pickle_machine(tree, in, limits).run();
}

}  // namespace insula
