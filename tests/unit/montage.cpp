// SPDX-License-Identifier: Apache-2.0
// Montages: which voxel goes where, windows, masks, values that are not finite, letters.
#include "insula/train/montage.hpp"

#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

constexpr extent size{5, 6, 7};
constexpr index_t gap = 2;
montage_options const bare{.scale = 1, .letters = false};

std::size_t at(index_t d, index_t h, index_t w) { return std::size_t((d * size.h + h) * size.w + w); }
/// Every voxel has a value of its own, 0 to 209, which is also its grey.
std::vector<float> numbered() {
  std::vector<float> v(std::size_t(size.size()));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = float(i);
  return v;
}
montage_column column(std::vector<float> const& v) { return {v.data(), {0, 255}}; }

}  // namespace

TEST_CASE("three central planes stand above one another, left and back on the left, top and front up") {
  auto const v = numbered();
  montage_column const one[] = {column(v)};
  picture p = montage(size, one, bare);
  // widths 5 (axial), 5 (coronal), 6 (sagittal); heights 6, 7, 7
  REQUIRE(p.width == 6);
  REQUIRE(p.height == 6 + gap + 7 + gap + 7);
  for (index_t y = 0; y < 6; ++y)
    for (index_t x = 0; x < 5; ++x) REQUIRE(p.at(x, y) == at(x, 5 - y, 3));
  for (index_t y = 0; y < 7; ++y)
    for (index_t x = 0; x < 5; ++x) REQUIRE(p.at(x, 6 + gap + y) == at(x, 3, 6 - y));
  for (index_t y = 0; y < 7; ++y)
    for (index_t x = 0; x < 6; ++x) REQUIRE(p.at(x, 6 + 7 + 2 * gap + y) == at(2, x, 6 - y));
}

TEST_CASE("columns stand side by side, and a scale repeats pixels") {
  auto const v = numbered();
  std::vector<float> w(v.size(), 200.f);
  montage_column const two[] = {column(v), column(w)};
  picture p = montage(size, two, bare), q = montage(size, two, {.scale = 3, .letters = false});
  REQUIRE(p.width == 2 * 6 + gap);
  REQUIRE(q.width == 2 * 18 + gap);
  REQUIRE(q.height == 60 + 2 * gap);
  CHECK(p.at(6 + gap, 0) == 200);
  for (index_t y = 0; y < 18; ++y)
    for (index_t x = 0; x < 15; ++x) REQUIRE(q.at(1 + x, y) == p.at(x / 3, y / 3));  // centred in 18
}

TEST_CASE("a window cuts, rounds, and shows a constant volume as black") {
  grey_window const w{-1, 3};
  CHECK(int(w(-5)) == 0);
  CHECK(int(w(-1)) == 0);
  CHECK(int(w(1)) == 128);
  CHECK(int(w(3)) == 255);
  CHECK(int(w(9)) == 255);
  CHECK(int(grey_window{2, 2}(2)) == 0);
}

TEST_CASE("windows are quantiles of the finite values") {
  std::vector<float> v;
  for (int i = 100; i >= 0; --i) v.push_back(float(i));
  v.push_back(std::numeric_limits<float>::quiet_NaN());
  v.push_back(std::numeric_limits<float>::infinity());
  auto const w = window_of(v, 0.05, 0.9);
  CHECK(w.low == 5);
  CHECK(w.high == 90);
  CHECK(window_of(v, 0, 1).high == 100);
  float const none[] = {std::numeric_limits<float>::quiet_NaN()};
  CHECK(window_of(none).high == 0);
  CHECK_THAT(message_of([&] { window_of(v, 0.5, 0.4); }), Contains("0.5 and 0.4"));
}

TEST_CASE("hidden voxels are flat grey, values that are not finite a checkerboard") {
  std::vector<float> v(std::size_t(size.size()), 255.f);
  std::vector<std::uint8_t> hidden(v.size());
  hidden[at(0, 5, 3)] = 1;
  v[at(1, 5, 3)] = std::numeric_limits<float>::quiet_NaN();
  montage_column const one[] = {{v.data(), {0, 255}, hidden.data()}};
  picture p = montage(size, one, {.scale = 2, .letters = false});
  CHECK(int(p.at(1, 0)) == 96);  // axial plane, 10 of 12 pixels wide, begins at 1
  CHECK(int(p.at(3, 0)) + int(p.at(4, 0)) == 255);
  CHECK(int(p.at(3, 0)) != int(p.at(4, 0)));
  CHECK(int(p.at(3, 0)) == int(p.at(4, 1)));
  CHECK(int(p.at(5, 0)) == 255);
}

TEST_CASE("a reconstruction montage shares the input's window and shows the absolute error") {
  auto const input = numbered();
  auto output = input;
  for (auto& v : output) v -= 21;
  output[at(2, 3, 3)] = 1e6f;
  std::vector<std::uint8_t> mask(input.size());
  mask[at(0, 0, 3)] = 1;
  picture p = reconstruction_montage(size, input.data(), mask.data(), output.data(), bare);
  REQUIRE(p.width == 4 * 6 + 3 * gap);
  auto const w = window_of(input);
  index_t const x = 1, y = 5, step = 6 + gap;  // voxel (1, 0, 3) of the axial plane
  CHECK(p.at(x, y) == w(input[at(1, 0, 3)]));
  CHECK(p.at(x + step, y) == w(input[at(1, 0, 3)]));
  CHECK(int(p.at(0 + step, y)) == 96);
  CHECK(p.at(x + 2 * step, y) == w(double(input[at(1, 0, 3)]) - 21));
  CHECK(int(p.at(x + 3 * step, y)) == std::lround(255 * 21 / (w.high - w.low)));
  CHECK(int(p.at(2 + 2 * step, 2)) == 255);  // voxel (2, 3, 3)
  CHECK(reconstruction_montage(size, input.data(), nullptr, output.data(), bare).width == 3 * 6 + 2 * gap);
}

TEST_CASE("letters mark the sides where there is room") {
  extent const head{40, 44, 36};
  auto const v = insula::testing::random_vector<float>(head.size(), 3);
  montage_column const one[] = {{v.data(), {10, 11}}};  // all black
  picture p = montage(head, one);
  auto const ink = [&](index_t x0, index_t y0) {
    std::string s;
    for (index_t y = 0; y < 7; ++y)
      for (index_t x = 0; x < 5; ++x) s += p.at(x0 + x, y0 + y) ? '#' : '.';
    return s;
  };
  CHECK(ink(2 + 2, 2) == "#....#....#....#....#....#....#####");       // L; planes are centred in 44
  CHECK(ink(2 + 40 - 7, 2) == "####.#...##...#####.#.#..#..#.#...#");  // R
  CHECK(ink(2, 44 + gap + 36 + gap + 2) == "####.#...##...#####.#....#....#....");       // P
  CHECK(ink(44 - 7, 44 + gap + 36 + gap + 2) == ".###.#...##...#######...##...##...#");  // A
  CHECK(encode_png(p.view()).size() > 50);
}

TEST_CASE("empty montages are refused") {
  auto const v = numbered();
  montage_column const one[] = {column(v)}, none[] = {{}};
  CHECK_THAT(message_of([&] { montage(extent{0, 1, 1}, one); }), Contains("0x1x1"));
  CHECK_THAT(message_of([&] { montage(size, {}); }), Contains("0 columns"));
  CHECK_THAT(message_of([&] { montage(size, none); }), Contains("column 0 has no voxels"));
}
