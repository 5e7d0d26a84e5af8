// SPDX-License-Identifier: Apache-2.0
// NumPy volumes: every readable type and every fault.
#include "insula/data/npy.hpp"

#include "support/catch.hpp"
#include "support/folder.hpp"
#include "support/nifti_bytes.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

std::string npy(std::string const& descr, std::string const& shape, std::string const& data, int version = 1,
                std::string const& fortran = "False") {
  std::string head = "{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }";
  while ((head.size() + (version == 1 ? 11 : 13)) % 64) head += ' ';
  head += '\n';
  std::string s = "\x93NUMPY";
  s += char(version), s += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) s += char(head.size() >> 8 * i & 255);
  return s + head + data;
}
/// 24 numbers 0, 1, 2, ... of a type, optionally in the other byte order.
template <class T>
std::string numbers(bool swapped = false, int count = 24) {
  std::string s;
  for (int i = 0; i < count; ++i) {
    T const v = T(i);
    std::string b(sizeof v, '\0');
    std::memcpy(b.data(), &v, sizeof v);
    if (swapped) std::reverse(b.begin(), b.end());
    s += b;
  }
  return s;
}
std::string saved(support::folder const& dir, std::string const& bytes) {
  std::string const path = dir / "x.npy";
  FILE* f = std::fopen(path.c_str(), "wb");
  REQUIRE(f);
  REQUIRE(std::fwrite(bytes.data(), 1, bytes.size(), f) == bytes.size());
  std::fclose(f);
  return path;
}

}  // namespace

TEST_CASE("npy: every type, byte order and format version reads in C order") {
  support::folder const dir;
  auto const good = [&](std::string const& bytes) {
    volume const v = read_npy(saved(dir, bytes));
    REQUIRE(v.size == extent{2, 3, 4});
    CHECK(v.to_world == identity_affine);
    CHECK(v.at(1, 2, 3) == 23);
    CHECK(v.at(1, 0, 1) == 13);
  };
  for (auto const shape : {"(2, 3, 4)", "(1, 2, 3, 4)", "(2,3,4)"})
    for (int const version : {1, 2, 3}) {
      good(npy("<f4", shape, numbers<float>(), version));
      good(npy(">f4", shape, numbers<float>(true), version));
    }
  std::string const shape = "(2, 3, 4)";
  good(npy("<f8", shape, numbers<double>()));
  good(npy(">f8", shape, numbers<double>(true)));
  good(npy("|u1", shape, numbers<std::uint8_t>()));
  good(npy("|i1", shape, numbers<std::int8_t>()));
  good(npy("<i2", shape, numbers<std::int16_t>()));
  good(npy(">i2", shape, numbers<std::int16_t>(true)));
  good(npy("<u2", shape, numbers<std::uint16_t>()));
  good(npy("<i4", shape, numbers<std::int32_t>()));
  good(npy("<u4", shape, numbers<std::uint32_t>()));
  good(npy("<i8", shape, numbers<std::int64_t>()));
  good(npy(">u8", shape, numbers<std::uint64_t>(true)));
  good(support::gzip(npy("<f4", shape, numbers<float>())));
}

TEST_CASE("npy: what cannot be a volume is refused with the reason") {
  support::folder const dir;
  auto const of = [&](std::string const& bytes) {
    auto const path = saved(dir, bytes);
    return message_of([&] { read_npy(path); });
  };
  auto const data = numbers<float>();
  CHECK_THAT(of(npy("<f4", "(6, 4)", data)), Contains("shape is (6, 4)"));
  CHECK_THAT(of(npy("<f4", "(2, 1, 3, 4)", data)), Contains("(2, 1, 3, 4)"));
  CHECK_THAT(of(npy("<f4", "(0, 3, 4)", "")), Contains("positive"));
  CHECK_THAT(of(npy("<f4", "(-2, 3, 4)", data)), Contains("positive"));
  CHECK_THAT(of(npy("<f4", "(4000000, 4000000, 4000000)", data)), Contains("possible"));
  CHECK_THAT(of(npy("<f4", "(99999999999999999999, 1, 1)", data)), Contains("damaged"));
  CHECK_THAT(of(npy("<f4", "(2, 3, 5)", data)), Contains("cut off"));
  CHECK_THAT(of(npy("<f4", "(2, 3, 3)", data)), Contains("cut off or damaged"));
  CHECK_THAT(of(npy("<f4", "(2, 3, 4)", data, 1, "True")), Contains("Fortran"));
  CHECK_THAT(of(npy("<c8", "(2, 3, 4)", data)), Contains("'<c8'") && Contains("astype"));
  CHECK_THAT(of(npy("<f2", "(2, 3, 4)", data)), Contains("astype"));
  CHECK_THAT(of(npy("|O", "(2, 3, 4)", data)), Contains("'|O'"));
  CHECK_THAT(of(npy("<f4", "(2, 3, 4)", data, 4)), Contains("version is 4"));
  CHECK_THAT(of(npy("<f4", "(2, 3, 4), 'x': 1", data)), Contains("header is damaged"));
  CHECK_THAT(of(npy("<f4", "(2, 3, 4)", data).substr(0, 9)), Contains("inside the header"));
  CHECK_THAT(of(npy("<f4", "(2, 3, 4)", data).substr(0, 30)), Contains("header"));
  CHECK_THAT(of(""), Contains("no .npy file"));
  CHECK_THAT(of("\x93NUMPX plus some bytes"), Contains("no .npy file"));
  CHECK_THAT(of(support::gzip(npy("<f4", "(2, 3, 4)", data)).substr(0, 60)), Contains("cut off"));
  CHECK_THAT(message_of([&] { read_npy(dir / "none.npy"); }), Contains("No such file"));
}
