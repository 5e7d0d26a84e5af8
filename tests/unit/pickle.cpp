// SPDX-License-Identifier: Apache-2.0
// Pickles as data: every instruction of protocols 2 to 5, and pickles that must be refused.
#include "insula/io/pickle.hpp"

#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/torch_bytes.hpp"

using namespace insula;
using namespace std::string_literals;
using Catch::Matchers::Contains;
using support::message_of;
using support::pickle_writer;
using support::raw;

namespace {

/// A pickle in memory of its exact size, so that a sanitizer sees reads past the end.
struct loaded {
  std::vector<std::byte> bytes;
  pickle_tree tree;
  pickle_tree::index root;
  std::size_t left;

  explicit loaded(std::string const& s, pickle_limits limits = pickle_limits{})
      : bytes(reinterpret_cast<std::byte const*>(s.data()),
              reinterpret_cast<std::byte const*>(s.data()) + s.size()) {
    byte_reader in(bytes, "p");
    root = read_pickle(tree, in, limits);
    left = in.left();
  }
  pickle_tree::node const& value() const { return tree[root]; }
  pickle_tree::node const& item(std::size_t i) const { return tree[value().items[i]]; }
};
std::string refusal(std::string const& s, pickle_limits limits = pickle_limits{}) {
  return message_of([&] { loaded(s, limits); });
}

}  // namespace

TEST_CASE("integers, numbers, texts and bytes of every instruction") {
  auto const integer = [](std::string const& code) {
    return loaded("\x80\x02" + code + ".").value().integer;
  };
  CHECK(integer("K\xff"s) == 255);
  CHECK(integer("M\x01\xff"s) == 0xff01);
  CHECK(integer("J\xfe\xff\xff\xff"s) == -2);
  CHECK(integer("\x8a\x00"s) == 0);
  CHECK(integer("\x8a\x01\xff"s) == -1);
  CHECK(integer("\x8a\x02\xff\x00"s) == 255);
  CHECK(integer("\x8a\x08" + raw(std::int64_t(-1) << 62)) == std::int64_t(-1) << 62);
  CHECK(integer("\x8b\x03\x00\x00\x00\x01\x02\x03"s) == 0x030201);
  loaded const huge("\x80\x02\x8a\x09" + std::string(9, '\x11') + ".");
  CHECK(huge.value().kind == pickle_kind::huge_integer);
  CHECK(huge.value().text.size() == 9);
  CHECK(loaded("\x80\x02G\x3f\xf8\x00\x00\x00\x00\x00\x00."s).value().real == 1.5);
  for (auto const& code :
       {"X\x02\x00\x00\x00"s, "\x8c\x02"s, "\x8d"s + raw(std::uint64_t(2)), "U\x02"s, "T\x02\x00\x00\x00"s}) {
    loaded const t("\x80\x04" + code + "ab.");
    CHECK(t.value().kind == pickle_kind::text);
    CHECK(t.value().text == "ab");
  }
  for (auto const& code :
       {"B\x02\x00\x00\x00"s, "C\x02"s, "\x8e"s + raw(std::uint64_t(2)), "\x96"s + raw(std::uint64_t(2))}) {
    loaded const t("\x80\x05" + code + "a\x00."s);
    CHECK(t.value().kind == pickle_kind::bytes);
    CHECK(t.value().text == "a\0"s);
  }
  CHECK(loaded("\x80\x02N.").value().kind == pickle_kind::none);
  CHECK(loaded("\x80\x02\x88.").value().integer == 1);
  CHECK(loaded("\x80\x02\x89.").value().kind == pickle_kind::boolean);
}

TEST_CASE("collections hold their items in order") {
  loaded const list(
      "\x80\x02](K\x01K\x02"
      "eK\x03"
      "a.");
  REQUIRE(list.value().items.size() == 3);
  CHECK(list.item(2).integer == 3);
  CHECK(loaded("\x80\x02(K\x01K\x02l.").value().kind == pickle_kind::list);
  for (auto const& code : {")"s, "K\x01\x85"s, "K\x01K\x02\x86"s, "K\x01K\x02K\x03\x87"s}) {
    loaded const t("\x80\x02" + code + ".");
    CHECK(t.value().kind == pickle_kind::tuple);
    for (std::size_t i = 0; i < t.value().items.size(); ++i) CHECK(t.item(i).integer == std::int64_t(i + 1));
  }
  loaded const dict(
      pickle_writer{}.put("}").text("a").integer(1).put("s(").text("b").integer(2).put("u").stop());
  CHECK(dict.tree[dict.tree.find(dict.root, "b")].integer == 2);
  CHECK(dict.tree.find(dict.root, "c") == pickle_tree::nothing);
  loaded const marked(pickle_writer{}.put("(").text("a").integer(1).put("d").stop());
  CHECK(marked.value().items.size() == 2);
  loaded const set("\x80\x04\x8f(K\x01K\x02\x90.");
  CHECK(set.value().kind == pickle_kind::set);
  CHECK(set.value().items.size() == 2);
  CHECK(loaded("\x80\x04(K\x01\x91.").value().kind == pickle_kind::set);
  CHECK(loaded("\x80\x02K\x01K\x02"
               "0.")
            .value()
            .integer == 1);
  CHECK(loaded("\x80\x02K\x01(K\x02K\x03"
               "1.")
            .value()
            .integer == 1);
  CHECK(loaded("\x80\x02K\x01(0.").value().integer == 1);
  CHECK(loaded("\x80\x02K\x07"
               "2\x86.")
            .item(1)
            .integer == 7);
}

TEST_CASE("the memo gives the same value again, by every instruction") {
  for (auto const& code : {"q\x05"
                           "h\x05"s,
                           "r\x00\x01\x00\x00j\x00\x01\x00\x00"s, "\x94h\x00"s}) {
    loaded const t("\x80\x04]" + code + "\x86.");
    CHECK(t.value().items[0] == t.value().items[1]);
  }
  loaded const itself(
      "\x80\x02]q\x00h\x00"
      "a."s);
  CHECK(itself.value().items[0] == itself.root);
}

TEST_CASE("nothing is called: globals are names, objects are what they would be made of") {
  loaded const evil(pickle_writer{}.global("os", "system").put("(").text("rm -rf /").put("tR").stop());
  CHECK(evil.value().kind == pickle_kind::object);
  CHECK(evil.tree.class_of(evil.root)->name == "system");
  CHECK(evil.tree.description(evil.root) == "an object of os.system");
  loaded const built(pickle_writer{}.global("a.b", "C").put(")\x81}").text("x").integer(1).put("sb").stop());
  auto const state = built.value().items[pickle_tree::state];
  CHECK(built.tree[built.tree.find(state, "x")].integer == 1);
  loaded const stacked(pickle_writer{}.text("torch").text("Size").put("\x93").stop());
  CHECK(stacked.tree.is_global(stacked.root, "torch", "Size"));
  loaded const named(
      "\x80\x04\x8c\x01m\x8c\x01"
      "C\x93)}\x92.");
  CHECK(named.tree.class_of(named.root)->name == "C");
  loaded const reference(pickle_writer{}.put("(").text("storage").put("tQ").stop());
  CHECK(reference.value().kind == pickle_kind::persistent);
}

TEST_CASE("ordered dicts are dicts, other objects keep what is stored in them") {
  auto const ordered = [] { return pickle_writer{}.global("collections", "OrderedDict"); };
  loaded const dict(ordered().put(")R").text("a").integer(1).put("s}").text("_metadata").put("Nsb").stop());
  CHECK(dict.value().kind == pickle_kind::dict);
  CHECK(dict.value().items.size() == 2);
  loaded const old(ordered().put("(](").text("a").integer(1).put("\x86").put("etR").stop());
  CHECK(old.tree[old.tree.find(old.root, "a")].integer == 1);
  loaded const other(pickle_writer{}
                         .global("collections", "defaultdict")
                         .global("__builtin__", "dict")
                         .put("\x85R")
                         .text("a")
                         .integer(1)
                         .put("s")
                         .integer(9)
                         .put("a")
                         .stop());
  CHECK(other.tree[other.tree.find(other.root, "a")].integer == 1);
  CHECK(other.tree[other.value().items[pickle_tree::elements]].items.size() == 1);
}

TEST_CASE("several pickles follow one another") {
  auto const s = "\x80\x02K\x01.\x80\x02K\x02."s;
  CHECK(loaded(s).left == 5);
}

TEST_CASE("damaged pickles are refused with the place") {
  CHECK_THAT(refusal(""), Contains("an instruction at byte 0"));
  CHECK_THAT(refusal("\x80\x02"), Contains("at byte 2") && Contains("truncated"));
  CHECK_THAT(refusal("\x80\x01N."), Contains("protocol is 1"));
  CHECK_THAT(refusal("\x80\x06N."), Contains("protocol is 6"));
  CHECK_THAT(refusal("\x80\x02I12\n."), Contains("protocol 0 or 1") && Contains("'I'"));
  CHECK_THAT(refusal("\x80\x02\xff."), Contains("instruction 255 is not known"));
  CHECK_THAT(refusal("\x80\x02."), Contains("nothing is left"));
  CHECK_THAT(refusal("\x80\x02NN."), Contains("1 values left over"));
  CHECK_THAT(refusal("\x80\x02(N."), Contains("1 marks open") || Contains("nothing is left"));
  CHECK_THAT(refusal("\x80\x02t."), Contains("no mark"));
  CHECK_THAT(refusal("\x80\x02N(\x85."), Contains("nothing is left"));  // not across a mark
  CHECK_THAT(refusal("\x80\x02h\x00."s), Contains("nothing was stored under 0"));
  CHECK_THAT(refusal("\x80\x02q\x00."s), Contains("stack is empty"));
  CHECK_THAT(refusal("\x80\x02}(Nu."), Contains("a key has no value"));
  CHECK_THAT(refusal("\x80\x02K\x01Na."), Contains("items of a list are added to an integer"));
  CHECK_THAT(refusal("\x80\x02]NNs."), Contains("items of a dict are added to a list"));
  CHECK_THAT(refusal("\x80\x02"
                     "cos\nsystem"),
             Contains("a global's name") && Contains("does not end"));
  CHECK_THAT(refusal("\x80\x04NN\x93."), Contains("not named by two texts"));
}

TEST_CASE("huge lengths are refused before anything is allocated") {
  CHECK_THAT(refusal("\x80\x02X\xff\xff\xff\xff"
                     "a."),
             Contains("4294967295 bytes"));
  CHECK_THAT(refusal("\x80\x04\x8d" + std::string(8, '\xff') + "a."), Contains("18446744073709551615 bytes"));
  CHECK_THAT(refusal("\x80\x02\x8b\xff\xff\xff\x7f"
                     "a."),
             Contains("2147483647 bytes"));
  CHECK_THAT(refusal("\x80\x04\x95" + raw(std::uint64_t(100)) + "N."), Contains("a frame of 100 bytes"));
}

TEST_CASE("the number of values is bounded; deep nesting needs no stack") {
  CHECK_THAT(refusal("\x80\x02(" + std::string(1000, ']') + "t.", {.values = 500}),
             Contains("more than 500 values"));
  std::string deep = "\x80\x02";
  deep += std::string(1'000'000, ']') + std::string(999'999, 'a') + ".";
  CHECK(loaded(deep).value().items.size() == 1);
}
