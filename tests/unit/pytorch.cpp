// SPDX-License-Identifier: Apache-2.0
// torch.save files: recorded ones of PyTorch with every value checked, and files that must be refused.
#include "insula/io/pytorch.hpp"

#include "insula/io/safetensors.hpp"
#include "insula/io/weights_file.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/torch_bytes.hpp"

using namespace insula;
using namespace std::string_literals;
using Catch::Matchers::Contains;
using support::message_of;
using support::pickle_writer;
using support::raw;
using support::small_state_dict;
using support::small_storages;
using support::torch_legacy;
using support::torch_zip;

namespace {

std::string recorded(std::string const& name) {
  return INSULA_TEST_DATA "/../../../tests/data/pytorch/" + name;
}

/// A file in memory of its exact size, so that a sanitizer sees reads past the end.
struct in_memory {
  std::vector<std::byte> bytes;
  pytorch_file file;
  explicit in_memory(std::string const& s, pytorch_options const& options = pytorch_options{})
      : bytes(reinterpret_cast<std::byte const*>(s.data()),
              reinterpret_cast<std::byte const*>(s.data()) + s.size()),
        file(bytes, "f", options) {}
};
std::string refusal(std::string const& s, pytorch_options const& options = pytorch_options{}) {
  return message_of([&] { in_memory{s, options}; });
}

/// start, start + 0.25, ...: what the recorded files hold.
std::vector<double> ramp(int n, double start = 0) {
  std::vector<double> v;
  for (int i = 0; i < n; ++i) v.push_back(start + 0.25 * i);
  return v;
}
std::vector<std::string> names(pytorch_file const& f) {
  std::vector<std::string> v;
  for (auto const& t : f.tensors()) v.push_back(t.name);
  return v;
}
template <class T>
std::vector<T> stored(pytorch_file const& f, std::string const& name) {
  auto const& t = f.at(name);
  std::vector<std::byte> scratch;
  auto const bytes = f.elements(t, 0, t.count(), scratch);
  std::vector<T> v(std::size_t(t.count()));
  REQUIRE(bytes.size() == v.size() * sizeof(T));
  if (!v.empty()) std::memcpy(v.data(), bytes.data(), bytes.size());
  return v;
}
/// One tensor "t" whose storage "0" has six floats 0 ... 5.
std::string one(pickle_writer const& p) {
  pickle_writer all;
  return torch_zip(all.put("}").text("t").put(std::string_view(p.s).substr(2)).put("s").stop(),
                   small_storages());
}
std::string one(std::int64_t offset, std::vector<std::int64_t> const& shape,
                std::vector<std::int64_t> const& stride, std::int64_t numel = 6) {
  return one(pickle_writer{}.tensor("FloatStorage", "0", numel, offset, shape, stride));
}

void check_kinds(pytorch_file const& f) {
  CHECK(f.section().empty());
  CHECK(f.tensors().size() == 18);
  CHECK(f.tensors()[0].name == "f32");
  CHECK(f.at("f32").shape == std::vector<index_t>{2, 3});
  CHECK(f.read<double>("f32") == ramp(6));
  CHECK(f.read<double>("f64") == ramp(3));
  CHECK(f.at("f64").type == dtype::f64);
  CHECK(f.read<double>("f16") == ramp(5));
  CHECK(f.at("f16").type == dtype::f16);
  CHECK(f.read<double>("bf16") == ramp(5));
  CHECK(f.at("bf16").type == dtype::bf16);
  CHECK(f.read<double>("boolean") == std::vector<double>{1, 0, 1});
  CHECK(f.read<double>("u8") == std::vector<double>{0, 255});
  CHECK(f.read<double>("i8") == std::vector<double>{-128, 127});
  CHECK(f.read<double>("i16") == std::vector<double>{-32768, 32767});
  CHECK(f.read<double>("i32") == std::vector<double>{-2147483648., 2147483647.});
  CHECK(stored<std::int64_t>(f, "i64") ==
        std::vector<std::int64_t>{std::numeric_limits<std::int64_t>::min(),
                                  std::numeric_limits<std::int64_t>::max()});
  CHECK(f.at("scalar").shape.empty());
  CHECK(f.read<double>("scalar") == std::vector<double>{1.5});
  CHECK(f.at("empty").shape == std::vector<index_t>{3, 0, 2});
  CHECK(f.read<double>("empty").empty());
  std::vector<double> transposed, every_second;
  for (int c = 0; c < 6; ++c)
    for (int r = 0; r < 4; ++r) transposed.push_back(0.25 * (6 * r + c));
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 6; c += 2) every_second.push_back(0.25 * (6 * r + c));
  CHECK(f.read<double>("transposed") == transposed);
  CHECK(f.read<double>("every_second") == every_second);
  CHECK_FALSE(f.contiguous(f.at("transposed")));
  CHECK(f.read<double>("expanded") == std::vector<double>{1, 1, 1, 2, 2, 2});
  CHECK(f.read<double>("whole") == ramp(8, 100));
  CHECK(f.read<double>("tail") == ramp(3, 101.25));
  CHECK(f.contiguous(f.at("tail")));
  CHECK(f.read<double>("parameter") == ramp(4, -1));
}
std::vector<std::string> const net{"stem.weight",
                                   "stem.bias",
                                   "norm.weight",
                                   "norm.bias",
                                   "norm.running_mean",
                                   "norm.running_var",
                                   "norm.num_batches_tracked",
                                   "head.weight",
                                   "head.bias"};
std::vector<std::string> prefixed(std::string const& prefix) {
  auto v = net;
  for (auto& n : v) n = prefix + n;
  return v;
}
void check_net(pytorch_file const& f, std::string const& prefix) {
  CHECK(f.read<double>(prefix + "stem.weight") == ramp(12));
  CHECK(f.at(prefix + "stem.weight").shape == std::vector<index_t>{2, 1, 1, 2, 3});
  CHECK(f.read<double>(prefix + "stem.bias") == ramp(2, 1));
  CHECK(f.read<double>(prefix + "norm.running_mean") == std::vector<double>{-1.5, 2.5});
  CHECK(f.at(prefix + "norm.num_batches_tracked").type == dtype::i64);
  CHECK(f.read<double>(prefix + "norm.num_batches_tracked") == std::vector<double>{7});
}

}  // namespace

TEST_CASE("PyTorch's files have every value, whatever element type, strides, protocol and format") {
  for (auto const* name : {"kinds.pt", "kinds_protocol4.pt", "kinds_legacy.pt"}) {
    INFO(name);
    check_kinds(pytorch_file(recorded(name)));
  }
  pytorch_file const f(recorded("unsigned.pt"));
  for (auto const& [name, type] :
       {std::pair{"uint16", dtype::u16}, {"uint32", dtype::u32}, {"uint64", dtype::u64}}) {
    CHECK(f.at(name).type == type);
    CHECK(f.read<double>(name) == std::vector<double>{1, 2, 3});
  }
}

TEST_CASE("a Lightning checkpoint gives its state_dict, and the rest on request") {
  pytorch_file const f(recorded("lightning.ckpt"));
  CHECK(f.section() == "state_dict");
  CHECK(names(f) == prefixed("model."));
  check_net(f, "model.");
  auto const& c = f.contents();
  CHECK(c.size() == 9);
  CHECK(c[0] == std::pair("'epoch'"s, "12"s));
  CHECK(c[2] == std::pair("'pytorch-lightning_version'"s, "'2.4.0'"s));
  CHECK(c[3] == std::pair("'state_dict'"s, "9 tensors"s));

  pytorch_file const adam(recorded("lightning.ckpt"), {.key = "optimizer_states.0.state"});
  CHECK(adam.section() == "optimizer_states.0.state");
  CHECK(adam.tensors().size() == 18);
  CHECK(adam.at("0.exp_avg").shape == f.at("model.stem.weight").shape);
  CHECK(adam.read<double>("5.step") == std::vector<double>{1});
  CHECK(std::fabs(adam.read<double>("0.exp_avg")[0] - 0.05) < 1e-8);
  // hyper-parameters that hold the whole network
  CHECK(pytorch_file(recorded("lightning.ckpt"), {.key = "hyper_parameters.net"}).read<double>("stem.bias") ==
        ramp(2, 1));
  CHECK(pytorch_file(recorded("lightning.ckpt"), {.key = ""}).find("state_dict.model.stem.bias") != nullptr);
  CHECK(pytorch_file(recorded("lightning.ckpt"), {.key = "state_dict.model.stem.bias"})
            .read<double>("tensor") == ramp(2, 1));
  CHECK_THAT(message_of([] { pytorch_file(recorded("lightning.ckpt"), {.key = "model"}); }),
             Contains("nothing stands under the key 'model'") && Contains("'state_dict'"));
}

TEST_CASE("a checkpoint of distributed training loads plain and wrapped in a real tar") {
  for (auto const* name : {"ddp.tar", "wrapped.tar"}) {
    pytorch_file const f(recorded(name));
    CHECK(f.section() == "model_state_dict");
    CHECK(names(f) == prefixed("module."));
    check_net(f, "module.");
  }
  CHECK_THAT(message_of([] { pytorch_file(recorded("wrapped.tar"), {.member = "other"}); }),
             Contains("'other'") && Contains("'release/checkpoint_100.tar'"));
  auto const inner = torch_zip(small_state_dict(), small_storages());
  auto const both =
      support::tar_bytes({{"a.pt", inner}, {"b.pt", torch_legacy(small_state_dict(true), small_storages())}});
  CHECK_THAT(refusal(both), Contains("2 files of torch.save") && Contains("'a.pt' and 'b.pt'"));
  CHECK(in_memory(both, {.member = "b.pt"}).file.read<double>("module.b") == std::vector<double>{0, 1, 2});
  CHECK_THAT(refusal(support::tar_bytes({{"x", "nothing"}})),
             Contains("no file of torch.save") && Contains("'x'"));
}

TEST_CASE("whole modules and scripted ones have the names of their state_dict") {
  pytorch_file const f(recorded("module.pt"));
  CHECK(names(f) == net);  // not the buffer that is not persistent
  check_net(f, "");
  pytorch_file const script(recorded("script.pt"));
  check_net(script, "");
  CHECK(script.tensors().size() == 7);
}

TEST_CASE("of several sets of tensors none is picked silently") {
  auto const both = recorded("teacher_student.pth");
  CHECK_THAT(message_of([&] { pytorch_file f(both); }),
             Contains("'teacher' (9 tensors), 'student' (9 tensors)") && Contains("say which (key)"));
  for (auto const* key : {"teacher", "student"}) CHECK(names(pytorch_file(both, {.key = key})) == net);
  pytorch_file const all(both, {.key = ""});
  CHECK(all.tensors().size() == 18);
  CHECK(all.read<double>("student.stem.bias") == all.read<double>("teacher.stem.bias"));
}

TEST_CASE("tensors that are not read are named, the others load") {
  pytorch_file const f(recorded("sparse.pt"));
  CHECK(names(f) == std::vector<std::string>{"complex", "dense"});
  REQUIRE(f.unread().size() == 1);
  CHECK(f.unread()[0].name == "sparse");
  CHECK_THAT(f.unread()[0].why, Contains("torch._utils._rebuild_sparse_tensor"));
  CHECK_THAT(message_of([&] { f.read<float>("complex"); }), Contains("'complex' has type C64"));
  CHECK_THAT(message_of([&] { f.read<float>("dence"); }), Contains("nearest is 'dense'"));
}

TEST_CASE("nested and usual places of state dicts are found") {
  auto const wrapped = [](std::vector<std::string> const& keys) {
    pickle_writer p;
    for (auto const& k : keys) p.put("}").text(k);
    p.put("}").text("w").tensor("FloatStorage", "0", 6, 0, {6}, {1}).put("s");
    for (std::size_t i = 0; i < keys.size(); ++i) p.put("s");
    return torch_zip(p.stop(), small_storages());
  };
  for (std::string const key :
       {"state_dict", "model_state_dict", "model", "teacher", "network_weights", "anything"})
    CHECK(in_memory(wrapped({key})).file.section() == key);
  CHECK(in_memory(wrapped({"model", "state_dict"})).file.section() == "model.state_dict");
  CHECK(in_memory(wrapped({"a.b", "c"}), {.key = "a.b.c"}).file.read<double>("w").size() == 6);
  CHECK_THAT(refusal(torch_zip(pickle_writer{}.put("}").text("epoch").integer(3).put("s").stop(), {})),
             Contains("no tensor is in it") && Contains("a dict of 1"));
  pickle_writer list;
  list.put("]").tensor("FloatStorage", "0", 6, 0, {6}, {1}).put("a");
  CHECK(in_memory(torch_zip(list.stop(), small_storages())).file.find("0") != nullptr);
}

TEST_CASE("zip64, deflated and legacy files of a small writer read alike") {
  for (auto const& s : {torch_zip(small_state_dict(), small_storages()),
                        torch_zip(small_state_dict(), small_storages(), true),
                        torch_zip(small_state_dict(), small_storages(), false, true),
                        torch_legacy(small_state_dict(true), small_storages())}) {
    in_memory const m(s);
    CHECK(m.file.read<double>("module.a") == std::vector<double>{0, 1, 2, 3, 4, 5});
    CHECK(m.file.read<double>("module.b") == std::vector<double>{0, 1, 2});
  }
  CHECK_THAT(refusal(torch_zip(small_state_dict(), small_storages(), false, true), {.inflate_limit = 100}),
             Contains("at most"));
}

TEST_CASE("a file stays readable after the object is moved") {
  auto f = std::make_unique<pytorch_file>(recorded("kinds.pt"));
  pytorch_file const g(std::move(*f));
  f.reset();
  check_kinds(g);
}

TEST_CASE("large strided tensors are gathered in steps") {
  index_t const rows = 300, columns = 211;
  std::vector<float> values(std::size_t(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = float(i);
  pickle_writer p;
  p.put("}").text("t").tensor("FloatStorage", "0", rows * columns, 0, {columns, rows}, {1, columns}).put("s");
  in_memory const m(torch_zip(p.stop(), {{"0", raw(values)}}));
  auto const read = m.file.read<float>("t");
  for (index_t c = 0; c < columns; ++c)
    for (index_t r = 0; r < rows; ++r)
      if (read[std::size_t(c * rows + r)] != values[std::size_t(r * columns + c)]) FAIL(c << ' ' << r);
  std::vector<std::byte> scratch;
  auto const part = m.file.elements(m.file.at("t"), rows + 7, 2, scratch);
  float two[2];
  std::memcpy(two, part.data(), 8);
  CHECK(two[0] == values[std::size_t(7 * columns + 1)]);
  CHECK(two[1] == values[std::size_t(8 * columns + 1)]);
}

TEST_CASE("tensors that reach outside of their storage are refused") {
  CHECK(refusal(one(0, {6}, {1})).empty());
  CHECK(refusal(one(5, {1}, {100})).empty());
  CHECK(refusal(one(100, {0}, {1})).empty());  // no element, no reach
  CHECK(refusal(one(0, {3, 2}, {0, 5})).empty());
  auto const big = std::int64_t(1) << 62;
  CHECK_THAT(refusal(one(1, {6}, {1})), Contains("outside of storage '0', which has 6 elements of F32"));
  CHECK_THAT(refusal(one(6, {}, {})), Contains("outside"));
  CHECK_THAT(refusal(one(0, {2, 2}, {5, 1})), Contains("shape [2, 2], strides [5, 1] and offset 0"));
  CHECK_THAT(refusal(one(0, {2}, {big})), Contains("outside"));
  CHECK_THAT(refusal(one(0, {4}, {big})), Contains("outside"));    // the product overflows
  CHECK_THAT(refusal(one(big, {3}, {big})), Contains("outside"));  // the sum overflows
  CHECK_THAT(refusal(one(-1, {1}, {1})), Contains("storage offset is -1"));
  CHECK_THAT(refusal(one(0, {-2}, {1})), Contains("size is -2"));
  CHECK_THAT(refusal(one(0, {2}, {-1})), Contains("stride is -1"));
  CHECK_THAT(refusal(one(0, {2}, {1, 1})), Contains("1 sizes and 2 strides"));
  CHECK_THAT(refusal(one(0, {big, 8}, {0, 0})), Contains("too many elements"));
  CHECK_THAT(refusal(one(0, {1 << 20, 1 << 20}, {0, 0})),
             Contains("repeats the 6 elements") && Contains(".contiguous()"));
  CHECK_THAT(refusal(one(0, {6}, {1}, 7)),
             Contains("storage '0' has 24 bytes, 7 elements of FloatStorage need 28"));
  CHECK_THAT(refusal(one(0, {6}, {1}, big)), Contains("more than any file can hold"));
  CHECK_THAT(refusal(one(0, {6}, {1}, -1)), Contains("number of elements is -1"));
  CHECK_THAT(refusal(one(0, std::vector<std::int64_t>(65, 1), std::vector<std::int64_t>(65, 1))),
             Contains("65 axes"));
}

TEST_CASE("malformed tensors are refused by name of the part") {
  auto const rebuild = [] { return pickle_writer{}.global("torch._utils", "_rebuild_tensor_v2"); };
  CHECK_THAT(refusal(one(rebuild().put(")R"))), Contains("_rebuild_tensor_v2 has 0 arguments"));
  CHECK_THAT(
      refusal(
          one(rebuild().put("(").storage("FloatStorage", "0", 6).text("x").sizes({6}).sizes({1}).put("tR"))),
      Contains("storage offset is 'x'"));
  CHECK_THAT(
      refusal(
          one(rebuild().put("(").storage("FloatStorage", "0", 6).integer(0).integer(6).sizes({1}).put("tR"))),
      Contains("size is an integer, not a tuple"));
  CHECK_THAT(refusal(one(pickle_writer{}.tensor("StrangeStorage", "0", 6, 0, {6}, {1}))),
             Contains("'torch.StrangeStorage' is not known"));
  CHECK_THAT(refusal(one(pickle_writer{}.tensor("FloatStorage", "missing", 6, 0, {6}, {1}))),
             Contains("no entry 'archive/data/missing'"));
  CHECK_THAT(refusal(one(rebuild().put("(").integer(1).put("Q").integer(0).sizes({6}).sizes({1}).put("tR"))),
             Contains("persistent identifier is no tuple"));
  CHECK_THAT(
      refusal(one(rebuild().put("((").text("blob").put("tQ").integer(0).sizes({6}).sizes({1}).put("tR"))),
      Contains("is not ('storage', type, key, location, numel)"));
  std::string deep = "\x80\x02" + pickle_writer{}.tensor("FloatStorage", "0", 6, 0, {6}, {1}).s.substr(2);
  for (int i = 0; i < 20; ++i)
    deep =
        pickle_writer{}.global("torch._utils", "_rebuild_parameter").put("(").s + deep.substr(2) + "\x89NtR";
  pickle_writer wrapped;
  wrapped.s = deep;
  CHECK_THAT(refusal(one(wrapped)), Contains("wraps itself more than 8 times"));
}

TEST_CASE("endless, enormous and very deep trees are refused in bounded time and memory") {
  // a dict that holds itself
  CHECK_THAT(refusal(torch_zip("\x80\x02}q\x00X\x01\x00\x00\x00"
                               "ah\x00sX\x01\x00\x00\x00t" +
                                   pickle_writer{}.tensor("FloatStorage", "0", 6, 0, {6}, {1}).s.substr(2) +
                                   "s0h\x00."s,
                               small_storages())),
             Contains("nested more than 100 deep") || Contains("cannot be read"));
  // forty lists, each twice the one before: 2^40 tensors
  std::string bomb = pickle_writer{}.tensor("FloatStorage", "0", 6, 0, {6}, {1}).s;
  for (int i = 0; i < 40; ++i) bomb += "q"s + char(i) + "0](h"s + char(i) + "h"s + char(i) + "e"s;
  CHECK_THAT(refusal(torch_zip(bomb + ".", small_storages())),
             Contains("values to look at") || Contains("names and shapes of its tensors take more than"));
  CHECK_THAT(refusal(torch_zip(bomb + ".", small_storages()), {.key = ""}),
             Contains("values to look at") || Contains("names and shapes of its tensors take more than"));
  // names that grow with every level
  pickle_writer deep;
  for (int i = 0; i < 90; ++i) deep.put("}").text(std::string(100, 'k'));
  deep.tensor("FloatStorage", "0", 6, 0, {6}, {1});
  for (int i = 0; i < 90; ++i) deep.put("s");
  CHECK_THAT(refusal(torch_zip(deep.stop(), small_storages()), {.key = ""}), Contains("a name would have 1"));
}

TEST_CASE("two tensors of one name are refused") {
  pickle_writer p;
  p.put("}(").text("a.b").tensor("FloatStorage", "0", 6, 0, {6}, {1}).text("a").put("}").text("b");
  p.tensor("FloatStorage", "0", 6, 0, {1}, {1}).put("su");
  CHECK_THAT(refusal(torch_zip(p.stop(), small_storages())), Contains("two tensors are named 'a.b'"));
}

TEST_CASE("legacy files are checked storage by storage") {
  auto const good = torch_legacy(small_state_dict(true), small_storages());
  for (std::size_t n = 13; n < good.size(); ++n)
    if (refusal(good.substr(0, n)).empty()) FAIL("cut to " << n << " bytes");
  CHECK_THAT(refusal(torch_legacy(small_state_dict(true), {})), Contains("storage '0' is missing"));
  CHECK_THAT(refusal(torch_legacy(small_state_dict(true), {{"0", raw(std::vector<float>{1, 2})}})),
             Contains("storage '0' has 2 elements, its tensors say 6"));
  CHECK_THAT(refusal(torch_legacy(small_state_dict(true), {{"1", ""}})),
             Contains("'1', which no tensor uses"));
  auto big_endian = good;
  big_endian[good.find("little_endian") + 13] = '\x89';
  CHECK_THAT(refusal(big_endian), Contains("big-endian"));
  auto other = good;
  other[other.find("M\xe9\x03") + 1] = '\xe8';
  CHECK_THAT(refusal(other), Contains("protocol of torch.save is 1000"));
}

TEST_CASE("views of storages, as PyTorch before 0.4 wrote, are parts of them") {
  auto const with_view = [](std::int64_t begin, std::int64_t numel) {
    pickle_writer p;
    p.put("}")
        .text("t")
        .global("torch._utils", "_rebuild_tensor")
        .put("((")
        .text("storage")
        .global("torch", "FloatStorage");
    p.text("0").text("cpu").integer(6).put("(").text("v").integer(begin).integer(numel).put("ttQ");
    return torch_legacy(p.integer(1).sizes({2}).sizes({1}).put("tRs").stop(), small_storages());
  };
  CHECK(in_memory(with_view(2, 3)).file.read<double>("t") == std::vector<double>{3, 4});
  CHECK_THAT(refusal(with_view(2, 2)), Contains("which has 2 elements"));
  CHECK_THAT(refusal(with_view(4, 3)), Contains("a view of 3 elements from 4 passes the end"));
}

TEST_CASE("files of another kind are refused with what they are and what to do") {
  auto const order = [](std::string const& what) {
    return support::zip_bytes({{"a/data.pkl", small_state_dict()},
                               {"a/byteorder", what},
                               {"a/data/0", small_storages()[0].second}});
  };
  CHECK(refusal(order("little")).empty());
  CHECK_THAT(refusal(order("big")), Contains("byte order is 'big'"));
  CHECK_THAT(refusal(support::zip_bytes({{"arr_0.npy", "x"}})),
             Contains("not of torch.save") && Contains("'arr_0.npy'"));
  CHECK_THAT(refusal(support::zip_bytes({{"a/data.pkl", "x"}, {"b/data.pkl", "x"}})),
             Contains("two pickles"));
  CHECK_THAT(refusal("\x1f\x8b\x08"), Contains("gunzip"));
  CHECK_THAT(refusal("version https://git-lfs.github.com/spec/v1\n"), Contains("git lfs pull"));
  CHECK_THAT(refusal("<!DOCTYPE html>"), Contains("web page"));
  CHECK_THAT(refusal("\x80\x02}."), Contains("a pickle that torch.save did not write"));
  CHECK_THAT(refusal("\x89HDF\r\n\x1a\n"), Contains("HDF5"));
  CHECK_THAT(refusal(""), Contains("it is empty"));
  CHECK_THAT(refusal("abc"), Contains("'abc'") && Contains("right file"));
  CHECK_THAT(refusal("\x10\0\0\0\0\0\0\0{}"s), Contains("it is a safetensors file"));
  auto const good = torch_zip(small_state_dict(), small_storages());
  for (std::size_t n = 0; n < good.size(); ++n)
    if (refusal(good.substr(0, n)).empty()) FAIL("cut to " << n << " bytes");
}

TEST_CASE("damaged bytes are refused or read within bounds") {
  for (auto const& good : {torch_zip(small_state_dict(), small_storages()),
                           torch_legacy(small_state_dict(true), small_storages())})
    for (std::size_t i = 0; i < good.size(); ++i)
      for (int const flip : {1, 0x80, 0xff}) {
        auto bad = good;
        bad[i] = char(bad[i] ^ flip);
        (void)message_of([&] {
          in_memory const m(bad);
          for (auto const& t : m.file.tensors())
            if (loads(t.type)) (void)m.file.read<double>(t.name, rounding::nearest);
        });
      }
}

TEST_CASE("a weights file is either kind, told by content") {
  support::folder const dir;
  float const v[] = {1, 2};
  safetensors_writer w;
  w.add("a", {2}, v);
  w.write(dir / "wrong_name.pt");
  weights_file const s(dir / "wrong_name.pt");
  CHECK(s.safetensors() != nullptr);
  CHECK(s.read<float>("a") == std::vector<float>{1, 2});
  CHECK_THAT(message_of([&] { weights_file(dir / "wrong_name.pt", {.key = "state_dict"}); }),
             Contains("'state_dict'") && Contains("no parts"));
  weights_file const t(recorded("ddp.tar"));
  REQUIRE(t.pytorch() != nullptr);
  CHECK(t.pytorch()->section() == "model_state_dict");
  CHECK(t.read<double>("module.stem.bias") == ramp(2, 1));
  CHECK(t.path() == recorded("ddp.tar"));
  write_file(dir / "page", std::string_view("<html>"));
  CHECK_THAT(message_of([&] { weights_file f(dir / "page"); }),
             Contains(dir / "page") && Contains("web page"));
  CHECK_THAT(message_of([&] { weights_file f(dir / "none"); }), Contains("No such file"));
}
