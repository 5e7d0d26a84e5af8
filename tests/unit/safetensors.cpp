// SPDX-License-Identifier: Apache-2.0
// safetensors: round trips, conversions, and files that must be refused.
#include "insula/io/safetensors.hpp"

#include <sys/resource.h>

#include <csignal>
#include <limits>

#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

/// Bytes of a file with this header and this many bytes of data.
std::string file_of(std::string const& header, std::size_t data = 0) {
  std::uint64_t const n = header.size();
  std::string s(8, '\0');
  std::memcpy(s.data(), &n, 8);
  return s + header + std::string(data, '\x01');
}
safetensors_header parse(std::string const& s) {
  // An own allocation of the exact size, so that a sanitizer sees reads past the end.
  std::vector<std::byte> const bytes(reinterpret_cast<std::byte const*>(s.data()),
                                     reinterpret_cast<std::byte const*>(s.data()) + s.size());
  return parse_safetensors(bytes, "f");
}
std::string refusal(std::string const& header, std::size_t data = 0) {
  return message_of([&] { parse(file_of(header, data)); });
}
std::string entry(std::string const& type, std::string const& shape, std::string const& offsets) {
  return R"({"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}
template <class T>
std::vector<std::byte> bytes_of(std::vector<T> const& v) {
  auto const* p = reinterpret_cast<std::byte const*>(v.data());
  return {p, p + v.size() * sizeof(T)};
}

}  // namespace

TEST_CASE("the writer gives the bytes of the reference implementation") {
  support::folder const dir;
  float const a[] = {0, 1, 2, 3, 4, 5};
  safetensors_writer w;
  w.metadata.clear();
  w.add("attn0", {1, 1, 2, 3}, a);
  CHECK(w.write(dir / "a") == 8 + 72 + 24);
  auto const s = read_file(dir / "a");
  CHECK(s.substr(0, 80) == std::string("\x48\0\0\0\0\0\0\0", 8) +
                               R"({"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       )");
  CHECK(s.substr(80) == std::string(reinterpret_cast<char const*>(a), 24));

  safetensors_writer empty;
  empty.write(dir / "empty");
  CHECK(read_file(dir / "empty") ==
        std::string("\x20\0\0\0\0\0\0\0", 8) + R"({"__metadata__":{"format":"pt"}})");
  CHECK(safetensors_file(dir / "empty").metadata().at("format") == "pt");
}

TEST_CASE("tensors of every type come back, in canonical order, whatever the order of adding") {
  support::folder const dir;
  auto const weights = testing::random_vector<float>(3 * 5 * 7, 1);
  auto const moments = testing::random_vector<double>(11, 2);
  std::int64_t const step = -5;
  std::uint8_t const mask[] = {1, 0, 1};
  std::int16_t const voxels[] = {-32768, 32767};
  bool const flag = true;
  std::string first;
  for (bool const forwards : {true, false}) {
    safetensors_writer w;
    w.metadata["note"] = "zero \0 quote \" and \u00e9";
    std::vector<std::function<void()>> const calls{[&] {
                                                     w.add("weight", {3, 5, 7}, weights.data());
                                                   },
                                                   [&] { w.add("moment", {11}, moments.data()); },
                                                   [&] { w.add("step", {}, &step); },
                                                   [&] { w.add("mask", {3}, mask); },
                                                   [&] {
                                                     w.add("voxels", {2, 1}, voxels);
                                                   },
                                                   [&] {
                                                     w.add("none", {4, 0, 2}, weights.data());
                                                   },
                                                   [&] { w.add("flag", {1}, &flag); }};
    for (std::size_t i = 0; i < calls.size(); ++i) calls[forwards ? i : calls.size() - 1 - i]();
    w.write(dir / "a");
    if (forwards) first = read_file(dir / "a");
  }
  CHECK(read_file(dir / "a") == first);
  safetensors_file const f(dir / "a");
  std::vector<std::string> order;
  for (auto const& t : f.tensors()) order.push_back(t.name);
  CHECK(order == std::vector<std::string>{"step", "moment", "none", "weight", "voxels", "mask", "flag"});
  CHECK(f.read<float>("weight") == weights);
  CHECK(f.read<double>("moment") == moments);
  CHECK(f.read<float>("step") == std::vector<float>{-5});
  CHECK(f.read<double>("mask") == std::vector<double>{1, 0, 1});
  CHECK(f.read<float>("voxels") == std::vector<float>{-32768, 32767});
  CHECK(f.read<float>("flag") == std::vector<float>{1});
  CHECK(f.read<float>("none").empty());
  CHECK(f.at("weight").shape == std::vector<index_t>{3, 5, 7});
  CHECK(f.at("step").shape.empty());
  CHECK(f.find("nothing") == nullptr);
  CHECK_THAT(message_of([&] { (void)f.at("wieght"); }),
             Contains("'wieght'") && Contains("nearest is 'weight'"));
  CHECK((reinterpret_cast<std::uintptr_t>(f.data(f.at("moment")).data()) % 8) == 0);
}

TEST_CASE("a file stays readable after the object is moved") {
  support::folder const dir;
  auto const v = testing::random_vector<float>(1000, 3);
  safetensors_writer w;
  w.add("v", {1000}, v.data());
  w.write(dir / "a");
  auto f = std::make_unique<safetensors_file>(dir / "a");
  safetensors_file const g(std::move(*f));
  f.reset();
  CHECK(g.read<float>("v") == v);
}

TEST_CASE("large tensors are streamed in chunks and can be rounded on the way") {
  support::folder const dir;
  index_t const n = index_t(safetensors_writer::chunk_size) + 12345;  // three chunks of bf16, more of i32
  auto const values = testing::random_vector<float>(n, 4);
  safetensors_writer w;
  w.add_as(dtype::bf16, "half", {n}, values.data());
  w.add("index", dtype::i32, {n}, [](std::size_t first, std::span<std::byte> out) {
    CHECK(out.size() <= safetensors_writer::chunk_size);
    for (std::size_t i = 0; i < out.size(); i += 4) {
      auto const v = std::int32_t((first + i) / 4);
      std::memcpy(out.data() + i, &v, 4);
    }
  });
  w.write(dir / "a");
  safetensors_file const f(dir / "a");
  auto const half = f.read<float>("half");
  double worst = 0;
  for (std::size_t i = 0; i < half.size(); ++i)
    worst = std::max(worst, std::fabs(double(half[i]) - double(values[i])) / std::fabs(double(values[i])));
  CHECK(worst <= 0x1p-8);  // unit roundoff of 8 significant bits
  CHECK(worst > 0x1p-9);
  auto const index = f.read<double>("index");
  bool same = true;
  for (std::size_t i = 0; i < index.size(); ++i) same = same && index[i] == double(i);
  CHECK(same);
}

TEST_CASE("every half and bfloat16 goes to float and back, and rounding is to nearest even") {
  int wrong = 0;
  for (std::uint32_t h = 0; h < 65536; ++h) {
    auto const bits = std::uint16_t(h);
    float const f = from_f16(bits), b = from_bf16(bits);
    wrong += std::isnan(f) ? !std::isnan(from_f16(to_f16(f))) : to_f16(f) != bits;
    wrong += std::isnan(b) ? !std::isnan(from_bf16(to_bf16(b))) : to_bf16(b) != bits;
    if (std::isfinite(f)) {
      // Between this and the next larger half: the midpoint goes to the even one, its neighbours to the
      // nearer one.
      auto const next = std::uint16_t(bits + 1);
      float const g = from_f16(next);
      if (!std::isfinite(g) || (bits & 0x7fff) == 0x7fff) continue;
      float const middle = (f + g) / 2;
      wrong += to_f16(middle) != (bits & 1 ? next : bits);
      wrong += to_f16(std::nextafter(middle, f)) != bits;
      wrong += to_f16(std::nextafter(middle, g)) != next;
    }
  }
  CHECK(wrong == 0);
  CHECK(from_f16(0x3c00) == 1.0f);
  CHECK(from_f16(0x0001) == 0x1p-24f);
  CHECK(from_f16(0x7bff) == 65504.0f);
  CHECK(to_f16(65519.996f) == 0x7bff);
  CHECK(to_f16(65520.0f) == 0x7c00);
  CHECK(to_bf16(std::bit_cast<float>(0x3f808000u)) == 0x3f80);
  CHECK(to_bf16(std::bit_cast<float>(0x3f818000u)) == 0x3f82);
  // Just above a midpoint as a double, on it as a float: must not round twice.
  std::uint16_t half = 0;
  double const tricky = 1 + 0x1p-11 + 0x1p-40;
  CHECK(store_as(dtype::f16, &tricky, 1, reinterpret_cast<std::byte*>(&half)) == 1);
  CHECK(half == 0x3c01);
}

TEST_CASE("values that the wanted type cannot hold are refused, or rounded when asked for") {
  support::folder const dir;
  double const d[] = {0.5, 0.1, 1e300, std::numeric_limits<double>::infinity(), std::nan("")};
  std::int64_t const i[] = {1, (std::int64_t{1} << 53) + 1};
  std::uint64_t const u = ~std::uint64_t{0};
  float const big = 1e6f;
  safetensors_writer w;
  w.add("exact", {1}, d), w.add("tenth", {2}, d), w.add("huge", {3}, d), w.add("special", {2}, d + 3);
  w.add("int", {2}, i), w.add("unsigned", {}, &u);
  w.write(dir / "a");
  safetensors_file const f(dir / "a");
  CHECK(f.read<float>("exact") == std::vector<float>{0.5f});
  CHECK_THAT(message_of([&] { (void)f.read<float>("tenth"); }),
             Contains("'tenth'") && Contains("element 1 of type F64") && Contains("F32"));
  CHECK(f.read<float>("tenth", rounding::nearest) == std::vector<float>{0.5f, 0.1f});
  CHECK(f.read<double>("tenth")[1] == 0.1);
  CHECK_THAT(message_of([&] { (void)f.read<float>("huge", rounding::nearest); }),
             Contains("element 2") && Contains("infinite"));
  auto const special = f.read<float>("special");
  CHECK(std::isinf(special[0]));
  CHECK(std::isnan(special[1]));
  CHECK_THAT(message_of([&] { (void)f.read<double>("int"); }), Contains("element 1 of type I64"));
  CHECK(f.read<double>("int", rounding::nearest)[1] == 0x1p53);
  CHECK_THAT(message_of([&] { (void)f.read<double>("unsigned"); }), Contains("element 0 of type U64"));
  CHECK(f.read<float>("unsigned", rounding::nearest)[0] == 0x1p64f);
  std::vector<float> three(3);
  CHECK_THAT(message_of([&] { f.read<float>(f.at("tenth"), three); }),
             Contains("[2] = 2 elements") && Contains("3 are wanted"));
  safetensors_writer halves;
  halves.add_as(dtype::f16, "h", {1}, &big);
  CHECK_THAT(message_of([&] { halves.write(dir / "h"); }),
             Contains("'h'") && Contains("1e+06") && Contains("F16"));
  CHECK(dir.list() == std::vector<std::string>{"a"});
}

TEST_CASE("types that cannot be computed with are listed but not loaded") {
  auto const s =
      file_of("{\"a\":" + entry("F8_E4M3", "[3]", "[0,3]") + ",\"b\":" + entry("F4", "[3,2]", "[3,6]") +
                  ",\"c\":" + entry("C64", "[1]", "[6,14]") + "}",
              14);
  safetensors_file const f(std::as_bytes(std::span(s)), "mem");
  CHECK(f.tensors().size() == 3);
  CHECK(f.at("b").type == dtype::f4);
  for (auto const* name : {"a", "b", "c"})
    CHECK_THAT(message_of([&] { (void)f.read<float>(name); }), Contains("cannot be loaded"));
  CHECK_THAT(refusal("{\"b\":" + entry("F4", "[3]", "[0,2]") + "}", 2), Contains("whole bytes"));
}

TEST_CASE("data at odd addresses is read all the same") {
  float const v[] = {1.5f, -2.25f};
  std::string header = "{\"a\":" + entry("F32", "[2]", "[0,8]") + "}";
  while (header.size() % 8 != 3) header += ' ';
  auto s = file_of(header);
  s.append(reinterpret_cast<char const*>(v), 8);
  safetensors_file const f(std::as_bytes(std::span(s)), "mem");
  CHECK(f.read<float>("a") == std::vector<float>{1.5f, -2.25f});
  CHECK(f.read<double>("a") == std::vector<double>{1.5, -2.25});
}

TEST_CASE("hostile headers are refused with the reason") {
  auto const a = [](std::string const& e) { return "{\"a\":" + e + "}"; };
  CHECK(refusal(a(entry("F32", "[1]", "[0,4]")), 4).empty());
  CHECK(refusal("{}").empty());
  CHECK(refusal("{}      ").empty());

  CHECK_THAT(message_of([] { parse(""); }), Contains("f: it has 0 bytes"));
  CHECK_THAT(message_of([] { parse("1234567"); }), Contains("7 bytes"));
  CHECK_THAT(message_of([] { parse(std::string(8, '\xff')); }),
             Contains("18446744073709551615") && Contains("100000000"));
  CHECK_THAT(message_of([] { parse(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10)); }), Contains("100000001"));
  CHECK_THAT(message_of([] { parse(std::string("\x03\0\0\0\0\0\0\0{}", 10)); }),
             Contains("3 bytes") && Contains("only 2"));
  CHECK_THAT(refusal(""), Contains("does not start with '{'"));
  CHECK_THAT(refusal(" {}"), Contains("does not start with '{'"));
  CHECK_THAT(refusal("[]"), Contains("does not start with '{'"));
  CHECK_THAT(refusal("{"), Contains("not valid JSON"));
  CHECK_THAT(refusal("{}x"), Contains("not valid JSON"));
  CHECK_THAT(refusal("{}{}"), Contains("not valid JSON"));
  CHECK_THAT(refusal(std::string("{}\0", 3)), Contains("zero byte"));
  CHECK_THAT(refusal("{\"a\xff\":1}"), Contains("not valid JSON"));
  CHECK_THAT(refusal("{\"\xed\xa0\x80\":1}"), Contains("not valid JSON"));  // an encoded surrogate
  CHECK_THAT(refusal(std::string(1, '{') + "/**/}"), Contains("not valid JSON"));
  CHECK_THAT(refusal(std::string("{\"a\":") + std::string(100'000, '[')), Contains("'a' is an array"));
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
  CHECK_THAT(refusal(deep), Contains("dtype, shape or data_offsets"));
  CHECK_THAT(refusal("{\"a\":1}"), Contains("'a' is the number 1"));
  CHECK_THAT(refusal("{\"a\":null}"), Contains("'a' is null"));

  auto const good = entry("F32", "[1]", "[0,4]");
  CHECK_THAT(refusal("{\"a\":" + good + ",\"a\":" + good + "}", 4), Contains("tensor 'a' twice"));
  CHECK_THAT(refusal("{\"a\":" + good + ",\"\\u0061\":" + good + "}", 4), Contains("tensor 'a' twice"));
  CHECK_THAT(refusal(a(R"({"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]})"), 4),
             Contains("dtype occurs twice"));
  CHECK_THAT(refusal(a(R"({"shape":[1],"data_offsets":[0,4]})"), 4), Contains("dtype is missing"));
  CHECK_THAT(refusal(a(R"({"dtype":"F32","data_offsets":[0,4]})"), 4), Contains("shape is missing"));
  CHECK_THAT(refusal(a(R"({"dtype":"F32","shape":[1]})"), 4), Contains("data_offsets is missing"));
  CHECK_THAT(refusal(a(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1})"), 4),
             Contains("'x' is not dtype"));
  CHECK_THAT(refusal(a(R"({"dtype":32,"shape":[1],"data_offsets":[0,4]})"), 4),
             Contains("dtype is the number 32"));
  CHECK_THAT(refusal(a(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})"), 4),
             Contains("shape is the number 1"));
  CHECK_THAT(refusal(a(entry("F33", "[1]", "[0,4]")), 4), Contains("'F33' is not known"));
  CHECK_THAT(refusal(a(entry("f32", "[1]", "[0,4]")), 4), Contains("'f32' is not known"));

  CHECK_THAT(refusal(a(entry("F32", "[-1]", "[0,4]")), 4), Contains("negative number -1"));
  CHECK_THAT(refusal(a(entry("F32", "[1.0]", "[0,4]")), 4), Contains("the number 1.0"));
  CHECK_THAT(refusal(a(entry("F32", "[\"1\"]", "[0,4]")), 4), Contains("the string '1'"));
  CHECK_THAT(refusal(a(entry("F32", "[[1]]", "[0,4]")), 4), Contains("its shape holds an array"));
  CHECK_THAT(refusal(a(entry("F32", "[9223372036854775808]", "[0,4]")), 4), Contains("9223372036854775808"));
  CHECK_THAT(refusal(a(entry("F32", "[18446744073709551617]", "[0,4]")), 4),
             Contains("18446744073709551617"));
  CHECK_THAT(refusal(a(entry("F32", "[4294967296,4294967296,4294967296]", "[0,0]"))),
             Contains("too many elements"));
  CHECK_THAT(refusal(a(entry("F32", "[0,4294967296,4294967296]", "[0,0]"))), Contains("too many elements"));
  CHECK_THAT(refusal(a(entry("F32", "[4611686018427387904]", "[0,0]"))), Contains("elements of type F32"));
  CHECK_THAT(refusal(a(entry("F32", "[2305843009213693953]", "[0,4]")), 4),
             Contains("whole bytes") || Contains("needs"));

  CHECK_THAT(refusal(a(entry("F32", "[1]", "[0]")), 4), Contains("1 numbers"));
  CHECK_THAT(refusal(a(entry("F32", "[1]", "[0,4,4]")), 4), Contains("more than two"));
  CHECK_THAT(refusal(a(entry("F32", "[1]", "[4,0]")), 4), Contains("before they begin"));
  CHECK_THAT(refusal(a(entry("F32", "[1]", "[0,-4]")), 4), Contains("negative number -4"));
  CHECK_THAT(refusal(a(entry("F32", "[1]", "[0,4e0]")), 4), Contains("the number 4e0"));
  CHECK_THAT(refusal(a(entry("F32", "[1]", "[0,8]")), 8), Contains("needs 4 bytes") && Contains("give 8"));
  CHECK_THAT(refusal(a(entry("F32", "[2]", "[0,8]")), 7),
             Contains("end at 8") && Contains("only 7") && Contains("truncated"));
  CHECK_THAT(refusal(a(entry("F32", "[2]", "[0,8]")), 9), Contains("end at byte 8") && Contains("9"));
  CHECK_THAT(refusal(a(entry("F32", "[1]", "[4,8]")), 8), Contains("belong to no tensor"));
  CHECK_THAT(refusal(a(entry("U8", "[18446744073709551615]", "[0,18446744073709551615]"))),
             Contains("too large"));
  CHECK_THAT(refusal("{}", 1), Contains("1"));
  auto const two = [&](std::string const& x, std::string const& y) {
    return "{\"a\":" + x + ",\"b\":" + y + "}";
  };
  CHECK(refusal(two(entry("U8", "[4]", "[2,6]"), entry("U8", "[2]", "[0,2]")), 6).empty());
  CHECK_THAT(refusal(two(entry("U8", "[4]", "[0,4]"), entry("U8", "[4]", "[2,6]")), 6),
             Contains("'b' begins at byte 2 inside of tensor 'a'"));
  CHECK_THAT(refusal(two(entry("U8", "[4]", "[0,4]"), entry("U8", "[4]", "[0,4]")), 4), Contains("overlap"));
  CHECK_THAT(refusal(two(entry("U8", "[4]", "[0,4]"), entry("U8", "[2]", "[5,7]")), 7),
             Contains("bytes 4 to 5"));
  CHECK_THAT(refusal(two(entry("U8", "[4]", "[0,4]"), entry("U8", "[0]", "[2,2]")), 4),
             Contains("inside of tensor"));
  CHECK(refusal(two(entry("U8", "[4]", "[0,4]"), entry("U8", "[0]", "[4,4]")), 4).empty());
  CHECK(refusal(two(entry("U8", "[4]", "[0,4]"), entry("U8", "[0]", "[0,0]")), 4).empty());

  CHECK_THAT(refusal(R"({"__metadata__":{"a":1}})"), Contains("__metadata__ has the number 1 under 'a'"));
  CHECK_THAT(refusal(R"({"__metadata__":{"a":{}}})"), Contains("__metadata__ has an object"));
  CHECK_THAT(refusal(R"({"__metadata__":{"a":["b"]}})"), Contains("__metadata__ has an array"));
  CHECK_THAT(refusal(R"({"__metadata__":{"a":null}})"), Contains("__metadata__ has null"));
  CHECK_THAT(refusal(R"({"__metadata__":"a"})"), Contains("'__metadata__' is the string 'a'"));
  CHECK_THAT(refusal(R"({"__metadata__":{"a":"x","a":"y"}})"), Contains("'a' twice"));
  CHECK_THAT(refusal(R"({"__metadata__":{},"__metadata__":{}})"), Contains("'__metadata__' twice"));
}

TEST_CASE("a file cut or changed at any byte is refused or stays in bounds") {
  support::folder const dir;
  float const v[] = {1, 2, 3};
  std::int64_t const n = 9;
  safetensors_writer w;
  w.add("v", {3}, v);
  w.add("n", {}, &n);
  w.write(dir / "a");
  auto const whole = read_file(dir / "a");
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    INFO("cut at " << cut);
    CHECK_FALSE(message_of([&] { parse(whole.substr(0, cut)); }).empty());
  }
  CHECK_FALSE(message_of([&] { parse(whole + '\0'); }).empty());
  random_stream draw({5, 1});
  int accepted = 0;
  for (int i = 0; i < 3000; ++i) {
    auto bytes = whole;
    for (auto k = draw.below(3); k >= 0; --k)
      bytes[std::size_t(draw.below(index_t(bytes.size())))] = char(draw.below(256));
    try {
      safetensors_file const f(std::as_bytes(std::span(bytes)), "changed");
      for (auto const& t : f.tensors())
        if (loads(t.type)) (void)f.read<double>(t.name, rounding::nearest);
      ++accepted;
    } catch (error const&) {
    }
  }
  CHECK(accepted > 0);  // changes in the data or in names are fine
  CHECK(accepted < 3000);
}

TEST_CASE("a full disk keeps the old file, and the writer can be used again") {
  support::folder const dir;
  auto const old_values = testing::random_vector<float>(100, 6);
  auto const new_values = testing::random_vector<float>(100'000, 7);
  safetensors_writer first;
  first.add("v", {100}, old_values.data());
  first.write(dir / "a");
  safetensors_writer second;
  second.add("v", {100'000}, new_values.data());
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  rlimit const small{50'000, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  auto const message = message_of([&] { second.write(dir / "a"); });
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(message, Contains("File too large"));
  CHECK(dir.list() == std::vector<std::string>{"a"});
  CHECK(safetensors_file(dir / "a").read<float>("v") == old_values);
  second.write(dir / "a");
  CHECK(safetensors_file(dir / "a").read<float>("v") == new_values);
}

TEST_CASE("the writer refuses what no reader would accept") {
  support::folder const dir;
  float const v = 1;
  safetensors_writer w;
  w.add("a", {}, &v);
  CHECK_THAT(message_of([&] { w.add("a", {}, &v); }), Contains("'a'") && Contains("once"));
  CHECK_THAT(message_of([&] { w.add("__metadata__", {}, &v); }), Contains("reserved"));
  CHECK_THAT(message_of([&] { w.add("b\xff", {}, &v); }), Contains("UTF-8"));
  CHECK_THAT(message_of([&] { w.add("c", {-1}, &v); }), Contains("[-1]"));
  CHECK_THAT(message_of([&] { w.add("d", {index_t{1} << 62, 4}, &v); }), Contains("too large"));
  CHECK_THAT(message_of([&] { w.add_as(dtype::i8, "e", {1}, &v); }), Contains("rounded to I8"));
  CHECK(w.size() == 1);
  w.add("f", dtype::f32, {1}, safetensors_writer::fill{});
  CHECK_THAT(message_of([&] { w.write(dir / "x"); }), Contains("'f'") && Contains("neither"));
  CHECK(dir.list().empty());
}
