// SPDX-License-Identifier: Apache-2.0
// The CPU convolutions against the plain ones in double, and the plain gradients against the plain forward pass.
#include "insula/kernels/cpu/conv.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "insula/base/text.hpp"
#include "insula/device/buffer.hpp"
#include "insula/kernels/plain/conv.hpp"
#include "insula/testing/compare.hpp"
#include "support/catch.hpp"

using namespace insula;
using numbers = std::vector<double>;

namespace {

/// What docs/numerics.md says of each policy.
template <class T>
constexpr double tolerance(conv_policy policy = conv_policy::exact) {
  if (policy == conv_policy::winograd4) return sizeof(T) == 4 ? 4e-6 : 2e-14;
  return sizeof(T) == 4 ? 1e-6 : 1e-14;
}

/// Policies only the CPU kernels of the plain convolution know.
template <class Op, class B, class T, class Args>
void run_with(context<B>& cx, Args const& a, conv_policy policy) {
  if constexpr (std::is_same_v<B, cpu>)
    kernel<Op, B, T>::run(cx, a, policy);
  else
    kernel<Op, B, T>::run(cx, a);
}

template <class T, class U>
std::vector<T> cast(std::vector<U> const& v) {
  return std::vector<T>(v.begin(), v.end());
}
/// Random numbers that float holds exactly, so that both precisions see the same problem.
numbers draw(index_t n, std::uint64_t seed) { return cast<double>(testing::random_vector<float>(n, seed)); }

double dot(numbers const& a, numbers const& b) {
  double s = 0;
  for (std::size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}

/// Inputs, upstream gradient and what the gradients already hold.
struct data {
  numbers x, w, b, gy, gx, gw, gb;
  data(index_t nx, index_t nw, index_t nb, index_t ny, std::uint64_t seed)
      : x(draw(nx, seed)),
        w(draw(nw, seed + 1)),
        b(draw(nb, seed + 2)),
        gy(draw(ny, seed + 3)),
        gx(draw(nx, seed + 4)),
        gw(draw(nw, seed + 5)),
        gb(draw(nb, seed + 6)) {}
};
struct results {
  numbers y, gx, gw, gb;
  bool operator==(results const&) const = default;
};

data make(op::conv3d_geometry const& g, std::uint64_t seed) {
  return {g.batch * g.in.size() * g.in_channels, g.weights(), g.out_channels,
          g.batch * g.out().size() * g.out_channels, seed};
}

template <class T, class B>
results solve(context<B>& cx, op::conv3d_geometry const& g, data const& d, bool adds,
              conv_policy policy = default_conv_policy) {
  auto const x = cast<T>(d.x), w = cast<T>(d.w), b = cast<T>(d.b), gy = cast<T>(d.gy);
  auto y = testing::poisoned<T>(index_t(gy.size()));
  auto gx = adds ? cast<T>(d.gx) : testing::poisoned<T>(index_t(x.size())), gw = cast<T>(d.gw),
       gb = cast<T>(d.gb);
  run_with<op::conv3d, B, T>(
      cx, op::conv3d::args<T>{g, x.data(), w.data(), adds ? nullptr : b.data(), y.data()}, policy);
  run_with<op::conv3d_grad, B, T>(
      cx, op::conv3d_grad::args<T>{g, x.data(), w.data(), gy.data(), adds, gx.data(), gw.data(), gb.data()},
      policy);
  return {cast<double>(y), cast<double>(gx), cast<double>(gw), cast<double>(gb)};
}

struct upsampling {
  index_t batch;
  extent in;
  index_t in_channels, out_channels;
  extent kernel;
};
data make(upsampling const& u, std::uint64_t seed) {
  return {u.batch * u.in.size() * u.in_channels, u.kernel.size() * u.in_channels * u.out_channels,
          u.out_channels, u.batch * u.in.size() * u.kernel.size() * u.out_channels, seed};
}
template <class T, class B>
results solve(context<B>& cx, upsampling const& u, data const& d, bool adds, conv_policy = {}) {
  auto const x = cast<T>(d.x), w = cast<T>(d.w), b = cast<T>(d.b), gy = cast<T>(d.gy);
  auto y = testing::poisoned<T>(index_t(gy.size()));
  auto gx = adds ? cast<T>(d.gx) : testing::poisoned<T>(index_t(x.size())), gw = cast<T>(d.gw),
       gb = cast<T>(d.gb);
  kernel<op::conv3d_transpose, B, T>::run(cx, {u.batch, u.in, u.in_channels, u.out_channels, u.kernel,
                                               x.data(), w.data(), adds ? nullptr : b.data(), y.data()});
  kernel<op::conv3d_transpose_grad, B, T>::run(
      cx, {u.batch, u.in, u.in_channels, u.out_channels, u.kernel, x.data(), w.data(), gy.data(), adds,
           gx.data(), gw.data(), gb.data()});
  return {cast<double>(y), cast<double>(gx), cast<double>(gw), cast<double>(gb)};
}

template <class T>
void agree(results const& fast, results const& plain, conv_policy policy = conv_policy::exact) {
  CHECK(testing::relative_error(fast.y, plain.y) <= tolerance<T>(policy));
  CHECK(testing::relative_error(fast.gx, plain.gx) <= tolerance<T>(policy));
  CHECK(testing::relative_error(fast.gw, plain.gw) <= tolerance<T>(policy));
  CHECK(testing::relative_error(fast.gb, plain.gb) <= tolerance<T>());
}

/// Both precisions, both values of `adds`, and 1, 2, 3 threads bit for bit; to what `precision` promises.
template <class Problem>
void compare(Problem const& p, std::uint64_t seed, conv_policy policy = conv_policy::exact,
             conv_policy precision = conv_policy::exact) {
  context<insula::plain> reference;
  context<cpu> one(1), two(2), three(3);
  data const d = make(p, seed);
  for (bool adds : {false, true}) {
    INFO("adds " << adds);
    results const expected = solve<double>(reference, p, d, adds),
                  fast = solve<float>(one, p, d, adds, policy);
    agree<float>(fast, expected, precision);
    agree<double>(solve<double>(one, p, d, adds, policy), expected, precision);
    CHECK(solve<float>(two, p, d, adds, policy) == fast);
    CHECK(solve<float>(three, p, d, adds, policy) == fast);
  }
}

void compare_conv(op::conv3d_geometry const& g, std::uint64_t seed,
                  conv_policy policy = default_conv_policy) {
  INFO(text("in ", g.batch, "x", g.in, " channels ", g.in_channels, " -> ", g.out_channels, " kernel ",
            g.kernel, " stride ", g.stride, " pad ", g.pad, " groups ", g.groups));
  bool const chooses = detail::conv::suits_winograd(detail::conv::forward_lattice(g));
  compare(g, seed, policy, chooses ? policy : conv_policy::exact);
}

#ifdef INSULA_SLIDES_IN_ASSEMBLER
/// The depth-wise tile in assembler against the loop that compilers make, bit by bit: rows of taps in any order, outputs apart.
template <int K, int M>
void check_slide_tile(index_t count) {
  INFO(K << " taps, " << M << " outputs, " << count << " rows");
  constexpr index_t w = simd::width<float>, row = (M + K - 1) * w, apart = w + 5;
  std::vector<float> x(std::size_t(count * row)), taps(std::size_t(count * K * w)), y(std::size_t(M * apart));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(testing::filler(1, i));
  for (std::size_t i = 0; i < taps.size(); ++i) taps[i] = float(testing::filler(2, i));
  std::fill(y.begin(), y.end(), std::numeric_limits<float>::quiet_NaN());
  std::vector<simd::stretch> at;
  for (index_t i = 0; i < count; ++i) at.push_back({(count - 1 - i) * row, i * K * w});
  simd::pack<float> sum[M];
  for (auto& s : sum) s = simd::zero<float>();
  for (auto const& s : at) detail::conv::slide<float, K, M>(x.data() + s.a, taps.data() + s.b, sum);
  for (index_t asks : {0, 1, M / 2}) {
    std::vector<float> z = y, written(64);
    simd::slide_tile<K, M>({x.data(), taps.data(), at.data(), at.data() + count, z.data(), 4 * apart, asks,
                            x.data(), 4, written.data(), 4});
    for (int m = 0; m < M; ++m) {
      std::vector<float> expected(std::size_t{w});
      simd::store(expected.data(), sum[m]);
      CHECK(std::equal(expected.begin(), expected.end(), z.begin() + m * apart));
      CHECK(std::all_of(z.begin() + m * apart + w, z.begin() + (m + 1) * apart,
                        [](float v) { return std::isnan(v); }));
    }
  }
}
#endif

}  // namespace

#ifdef INSULA_SLIDES_IN_ASSEMBLER
TEST_CASE("depth-wise tiles in assembler give the bits of the portable loop") {
  for (index_t count : {1, 4, 9, 25}) {
    check_slide_tile<3, 12>(count), check_slide_tile<3, 8>(count);
    check_slide_tile<5, 12>(count), check_slide_tile<5, 8>(count);
    check_slide_tile<7, 12>(count), check_slide_tile<7, 8>(count);
  }
}
#endif

TEST_CASE("the plain gradients are the adjoints of the plain convolution") {
  context<insula::plain> cx;
  op::conv3d_geometry const g{2, {5, 6, 7}, 4, 6, {3, 2, 1}, {2, 1, 3}, {1, 0, 2}, 2};
  data d = make(g, 1);
  d.b.assign(d.b.size(), 0), d.gw.assign(d.gw.size(), 0), d.gb.assign(d.gb.size(), 0);
  results const r = solve<double>(cx, g, d, false);
  double const expected = dot(r.y, d.gy);
  CHECK(dot(r.gx, d.x) == Approx(expected).epsilon(1e-12));
  CHECK(dot(r.gw, d.w) == Approx(expected).epsilon(1e-12));
}

TEST_CASE("the plain gradients are the adjoints of the plain transposed convolution") {
  context<insula::plain> cx;
  upsampling const u{2, {2, 3, 4}, 5, 3, {2, 1, 3}};
  data d = make(u, 2);
  d.b.assign(d.b.size(), 0), d.gw.assign(d.gw.size(), 0), d.gb.assign(d.gb.size(), 0);
  results const r = solve<double>(cx, u, d, false);
  double const expected = dot(r.y, d.gy);
  CHECK(dot(r.gx, d.x) == Approx(expected).epsilon(1e-12));
  CHECK(dot(r.gw, d.w) == Approx(expected).epsilon(1e-12));
}

TEST_CASE("the plain bias gradient is the sum of the upstream gradient, added to what was there") {
  context<insula::plain> cx;
  op::conv3d_geometry const g{2, {3, 4, 5}, 2, 3};
  data const d = make(g, 3);
  results const r = solve<double>(cx, g, d, false);
  for (std::size_t o = 0; o < 3; ++o) {
    double sum = d.gb[o];
    for (std::size_t i = o; i < d.gy.size(); i += 3) sum += d.gy[i];
    CHECK(r.gb[o] == Approx(sum).epsilon(1e-12));
  }
}

TEST_CASE("a plain convolution with one tap is that tap times the shifted input") {
  context<insula::plain> cx;
  op::conv3d_geometry const g{1, {2, 2, 3}, 1, 1, cube(3), cube(1), cube(1)};
  data d = make(g, 4);
  d.w.assign(27, 0), d.w[(0 * 3 + 1) * 3 + 2] = 2, d.b[0] = 10;
  results const r = solve<double>(cx, g, d, false);  // y[d,h,w] = 10 + 2 x[d-1, h, w+1]
  CHECK(r.y[0] == 10);
  CHECK(r.y[6] == 10 + 2 * d.x[1]);
  CHECK(r.y[7] == 10 + 2 * d.x[2]);
  CHECK(r.y[8] == 10);
}

TEST_CASE("convolutions of the published networks agree with the plain ones") {
  compare_conv({1, {6, 7, 9}, 48, 48, cube(3), cube(1), cube(1)}, 10);
  compare_conv({1, {3, 4, 5}, 96, 96, cube(3), cube(1), cube(1)}, 11);
  compare_conv({3, {3, 3, 3}, 24, 40, cube(3), cube(1), cube(1)}, 12);
  compare_conv({1, {6, 8, 10}, 1, 48, cube(2), cube(2)}, 13);
  compare_conv({1, {9, 10, 11}, 1, 24, cube(7), cube(1), cube(3)}, 14);
  compare_conv({1, {9, 8, 11}, 16, 24, cube(3), cube(2), cube(1)}, 15);
  compare_conv({1, {7, 6, 5}, 16, 24, cube(1), cube(2)}, 16);
  compare_conv({2, {11, 12, 21}, 8, 40, cube(1), {2, 1, 2}}, 16);
  compare_conv({1, {40, 42, 41}, 70, 8, cube(1), {2, 1, 1}}, 16);  // inputs put together in several goes
  compare_conv({2, {4, 5, 6}, 20, 33, cube(1)}, 17);
  compare_conv({1, {5, 6, 7}, 12, 1, cube(1)}, 18);
  compare_conv({1, {4, 8, 12}, 2, 40, {2, 4, 6}, {2, 4, 6}}, 19);
  compare_conv({3, {5, 7, 9}, 3, 20, {2, 3, 2}, {2, 3, 2}}, 35);  // inputs behind the last patch
  compare_conv({2, {5, 8, 9}, 6, 20, {1, 2, 2}, {2, 3, 2}}, 36);  // and between the patches
  // rows of outputs long enough to be products that are written in place, of five registers and of four with AVX-512
  compare_conv({2, {4, 5, 26}, 40, 20, {2, 2, 2}, {2, 2, 2}}, 44);
  compare_conv({3, {3, 6, 24}, 32, 37, {1, 2, 2}, {1, 2, 2}}, 45);
  compare_conv({2, {2, 4, 26}, 61, 20, {1, 2, 2}, {1, 3, 2}},
               46);  // two panels of four, part of the last register, rows left over
  compare_conv({3, {5, 6, 7}, 2, 21, {2, 1, 2}, {3, 1, 2}}, 37);  // eight inputs
  compare_conv({1, {50, 52, 54}, 1, 120, cube(2), cube(2)}, 38);  // written past the cache
  compare_conv({1, {50, 52, 54}, 1, 128, cube(2), cube(2)}, 39);  // in whole lines
}

TEST_CASE("depth-wise convolutions agree with the plain ones") {
  compare_conv({1, {5, 6, 14}, 32, 32, cube(3), cube(1), cube(1), 32}, 20);
  compare_conv({3, {4, 5, 6}, 20, 20, cube(5), cube(1), cube(2), 20}, 21);
  compare_conv({1, {7, 6, 27}, 5, 5, cube(7), cube(1), cube(3), 5}, 22);
  compare_conv({1, {7, 6, 9}, 18, 18, cube(3), {1, 2, 2}, cube(1), 18}, 23);
  compare_conv({1, {5, 6, 7}, 17, 17, {1, 2, 4}, {2, 1, 1}, {0, 1, 2}, 17}, 24);
  compare_conv({2, {3, 3, 3}, 70, 70, cube(5), cube(1), cube(2), 70}, 25);
  compare_conv({1, {3, 19, 53}, 9, 9, cube(5), cube(1), cube(2), 9}, 26);  // several runs of rows and tiles
  compare_conv({1, {4, 31, 40}, 12, 12, cube(3), cube(1), cube(1), 12}, 27);
  compare_conv({3, {10, 24, 47}, 64, 64, cube(3), cube(1), cube(1), 64}, 27);  // written past the cache
  compare_conv({1, {41, 42, 43}, 32, 32, {3, 1, 5}, {1, 1, 2}, {1, 0, 2}, 32}, 27);
  compare_conv({1, {3, 9, 1}, 6, 6, {3, 3, 7}, cube(1), {1, 1, 3}, 6},
               28);  // gradients shorter than the taps
  compare_conv({1, {2, 12, 60}, 7, 7, {1, 7, 7}, cube(1), {0, 3, 3}, 7}, 29);
}

/// Aligned results may go past the cache register by register, others may not.
void check_alignment(op::conv3d_geometry const& g) {
  context<cpu> cx(2);
  index_t const size = g.batch * g.out().size() * g.out_channels;
  buffer<float, cpu> x(g.batch * g.in.size() * g.in_channels), w(g.weights()), b(g.out_channels), y(size),
      z(size + 1);
  for (index_t i = 0; i < x.size(); ++i) x[i] = float(testing::filler(1, std::uint64_t(i)));
  for (index_t i = 0; i < w.size(); ++i) w[i] = float(testing::filler(2, std::uint64_t(i)));
  for (index_t i = 0; i < b.size(); ++i) b[i] = float(testing::filler(3, std::uint64_t(i)));
  std::fill(y.begin(), y.end(), std::numeric_limits<float>::quiet_NaN());
  kernel<op::conv3d, cpu, float>::run(cx, {g, x.data(), w.data(), b.data(), y.data()});
  kernel<op::conv3d, cpu, float>::run(cx, {g, x.data(), w.data(), b.data(), z.data() + 1});
  CHECK(std::equal(y.begin(), y.end(), z.begin() + 1));
}

TEST_CASE("a result too large for the caches does not depend on where it lies") {
  check_alignment({1, {14, 50, 50}, 64, 64, cube(3), cube(1), cube(1), 64});
  check_alignment({1, cube(72), 1, 48, cube(2), cube(2)});
  check_alignment({1, {50, 52, 54}, 1, 128, cube(2), cube(2)});
}

TEST_CASE("convolutions of random geometry agree with the plain ones") {
  random_stream draw_shape({2024, 1});
  auto const pick = [&](index_t from, index_t to) { return from + draw_shape.below(to - from + 1); };
  for (std::uint64_t round = 0; round < 40; ++round) {
    op::conv3d_geometry g{pick(0, 3) ? 1 : 3, {}, 1, 1};
    index_t const sizes[] = {1, 2, 3, 5, 7}, groups[] = {1, 1, 1, 2, 3};
    for (int i = 0; i < 3; ++i) {
      g.kernel[i] = sizes[pick(0, 3)], g.stride[i] = pick(1, 3), g.pad[i] = pick(0, 2);
      index_t const least = g.kernel[i] > 2 * g.pad[i] ? g.kernel[i] - 2 * g.pad[i] : 1;
      g.in[i] = least + pick(0, i == 2 ? 14 : 5);
    }
    g.groups = groups[pick(0, 4)];
    g.in_channels = g.groups * pick(1, 11), g.out_channels = g.groups * pick(1, 37);
    compare_conv(g, 100 + 10 * round);
  }
}

TEST_CASE("depth-wise convolutions whose strides step over inputs agree") {
  std::uint64_t seed = 500;
  for (index_t in : {2, 3, 5, 8})
    for (auto const& [kernel, stride, pad] :
         {std::tuple{1, 2, 0}, {1, 3, 0}, {2, 3, 0}, {1, 2, 1}, {2, 3, 1}})
      if (in + 2 * pad >= kernel)
        for (index_t channels : {4, 19}) {
          op::conv3d_geometry g{2,        {in, in, in + 1}, channels, channels, cube(kernel), cube(stride),
                                cube(pad)};
          g.groups = channels;
          compare_conv(g, seed += 10);
        }
}

TEST_CASE("a row longer than a block, more weights than a slice and more samples than tasks agree") {
  compare_conv({1, {1, 2, 300}, 3, 2, {1, 1, 3}, cube(1), {0, 0, 1}}, 30);
  compare_conv({1, {2, 2, 3}, 200, 40, cube(3), cube(1), cube(1)}, 31);
  compare_conv({20, {1, 2, 3}, 3, 5, cube(3), cube(1), cube(1)}, 32);
  compare_conv({1, {1, 1, 2500}, 3, 50, cube(1)}, 33);
  compare_conv({1, {2, 3, 4}, 130, 530, {1, 3, 3}, cube(1), {0, 1, 1}}, 34);
}

TEST_CASE("long rows, of which only the ends are copied, and panels of four registers agree") {
  compare_conv({2, {3, 5, 43}, 40, 64, cube(3), cube(1), cube(1)}, 35);
  compare_conv({1, {4, 6, 50}, 24, 128, cube(3), cube(2), cube(1)}, 36);
  compare_conv({1, {2, 7, 61}, 33, 60, {2, 3, 5}, {1, 2, 1}, {1, 0, 2}}, 37);
  compare_conv({1, {3, 9, 41}, 1, 64, cube(7), cube(1), cube(3)}, 38);
  compare_conv({1, {9, 8, 45}, 1, 128, cube(7), cube(2), cube(3)}, 39);
}

TEST_CASE("kernels whose row of taps is three, five or seven numbers agree, with borders and without") {
  compare_conv({1, {9, 10, 33}, 1, 21, cube(3), cube(2), cube(1)}, 40);
  compare_conv({3, {6, 7, 9}, 1, 8, cube(5), {1, 2, 3}, cube(2)}, 41);
  compare_conv({1, {7, 30, 31}, 1, 40, {1, 7, 7}, cube(1), {0, 3, 0}}, 42);  // rows above, none beside
  compare_conv({1, {8, 9, 40}, 1, 24, cube(7), cube(1)}, 43);                // x itself is the window
  compare_conv({2, {5, 6, 30}, 7, 12, {3, 2, 1}, cube(1), {1, 1, 0}}, 44);   // seven channels, one tap
  compare_conv({1, {5, 6, 17}, 10, 30, cube(3), {1, 3, 1}, cube(1), 10}, 45);
  compare_conv({1, {4, 5, 6}, 15, 33, {2, 3, 1}, cube(2), {0, 1, 0}, 3}, 46);  // groups of five channels
}

TEST_CASE("Winograd's algorithms agree with the plain convolution to their own precision") {
  op::conv3d_geometry const shapes[] = {
      {1, {3, 13, 15}, 32, 48, cube(3), cube(1), cube(1)},
      {3, {2, 10, 11}, 17, 35, {1, 3, 3}, cube(1), {0, 1, 1}},
      {1, {9, 11, 9}, 16, 70, {5, 3, 3}, cube(1), {2, 0, 2}},
      {1, {10, 12, 12}, 96, 40, cube(3), cube(1), cube(1)},     // several runs of tiles
      {1, {2, 16, 17}, 20, 18, {3, 3, 3}, cube(1), {3, 1, 1}},  // outer planes see no input
      {1, {1, 24, 25}, 24, 24, {7, 3, 3}, cube(1), {3, 1, 0}}};
  std::uint64_t seed = 60;
  for (auto const& g : shapes)
    for (conv_policy policy : {conv_policy::exact, conv_policy::winograd2, conv_policy::winograd4}) {
      INFO("policy " << int(policy));
      compare_conv(g, seed += 10, policy);
    }
}

TEST_CASE("convolutions of few positions and many weights agree with the plain ones") {
  compare_conv({3, {3, 5, 4}, 73, 137, cube(3), cube(2), cube(1)}, 90);
  compare_conv({1, {2, 3, 4}, 65, 180, {1, 5, 5}, cube(1), {0, 2, 2}},
               91);  // taps that see no input at some outputs
  compare_conv({3, {2, 3, 4}, 150, 171, cube(3), cube(1), cube(1)}, 92);
  compare_conv({1, {1, 9, 10}, 172, 171, {1, 3, 3}, cube(1), {0, 1, 1}}, 93, conv_policy::winograd4);
}

TEST_CASE("transposed convolutions agree with the plain ones") {
  auto const compare_up = [](upsampling const& u, std::uint64_t seed) {
    INFO(text("in ", u.batch, "x", u.in, " channels ", u.in_channels, " -> ", u.out_channels, " kernel ",
              u.kernel));
    compare(u, seed);
  };
  compare_up({1, {3, 4, 5}, 24, 12, cube(2)}, 40);
  compare_up({3, {2, 3, 4}, 7, 33, {1, 2, 3}}, 41);
  compare_up({1, {2, 2, 3}, 48, 50, cube(4)}, 42);
  compare_up({2, {3, 2, 5}, 17, 1, cube(1)}, 43);
}

TEST_CASE("null gradients are not computed") {
  context<cpu> cx(1);
  op::conv3d_geometry const g{1, {4, 5, 6}, 8, 16, cube(3), cube(1), cube(1)};
  data const d = make(g, 50);
  results const all = solve<double>(cx, g, d, true);
  numbers gx = d.gx, gw = d.gw, gb = d.gb;
  using grad = kernel<op::conv3d_grad, cpu, double>;
  grad::run(cx, {g, d.x.data(), d.w.data(), d.gy.data(), true, gx.data(), nullptr, nullptr});
  grad::run(cx, {g, d.x.data(), d.w.data(), d.gy.data(), true, nullptr, gw.data(), nullptr});
  grad::run(cx, {g, d.x.data(), d.w.data(), d.gy.data(), true, nullptr, nullptr, gb.data()});
  CHECK(gx == all.gx);
  CHECK(gw == all.gw);
  CHECK(gb == all.gb);
}

TEST_CASE("a repeated convolution allocates nothing") {
  context<cpu> cx(1);
  op::conv3d_geometry const shapes[] = {{1, {4, 12, 12}, 32, 48, cube(3), cube(1), cube(1)},
                                        {1, {5, 6, 7}, 200, 40, cube(3), cube(2), cube(1)},
                                        {1, {8, 9, 10}, 33, 33, cube(5), cube(1), cube(2), 33}};
  for (auto const& g : shapes) {
    data const d = make(g, 70);
    auto const x = cast<float>(d.x), w = cast<float>(d.w), gy = cast<float>(d.gy);
    auto y = gy, gx = x, gw = w, gb = cast<float>(d.gb);
    std::size_t calls = 0;
    for (int repeat = 0; repeat < 2; ++repeat) {
      calls = host_memory().calls;
      kernel<op::conv3d, cpu, float>::run(cx, {g, x.data(), w.data(), nullptr, y.data()});
      kernel<op::conv3d_grad, cpu, float>::run(
          cx, {g, x.data(), w.data(), gy.data(), false, gx.data(), gw.data(), gb.data()});
    }
    CHECK(host_memory().calls == calls);
  }
}

TEST_CASE("a kernel larger than the padded input is refused with both sizes") {
  context<cpu> cx(1);
  op::conv3d_geometry const g{1, {4, 5, 6}, 1, 1, cube(5)};
  double const x = 0;
  double y = 0;
  CHECK_THROWS_WITH(
      (kernel<op::conv3d, cpu, double>::run(cx, {g, &x, &x, nullptr, &y})),
      "conv3d: the kernel 5x5x5 with stride 1x1x1 and padding 0x0x0 does not fit the input 4x5x6: use a "
      "smaller kernel or more padding");
}
