// SPDX-License-Identifier: Apache-2.0
// Augmentations against published golden numbers, double-precision references and their edge cases.
#include "insula/data/augment.hpp"

#include <complex>
#include <limits>

#include "insula/testing/compare.hpp"
#include "support/catch.hpp"

using namespace insula;

namespace {

volume golden_input() {
  volume x = make_volume({11, 12, 14});
  for (std::size_t i = 0; i < x.voxels.size(); ++i) x.voxels[i] = float(testing::filler(200, i));
  return x;
}

volume random_volume(extent n, std::uint64_t seed) {
  volume x = make_volume(n);
  x.voxels = testing::random_vector<float>(n.size(), seed);
  return x;
}

void check_golden(volume const& y, std::array<double, 6> const& want, double tolerance = 1e-5) {
  REQUIRE(y.size == extent{11, 12, 14});
  std::size_t const n = y.voxels.size(), at[6] = {0, 1, n / 3, n / 2, 2 * n / 3, n - 1};
  for (std::size_t i = 0; i < 6; ++i) {
    INFO("value " << i << ": " << y.voxels[at[i]] << ", published " << want[i]);
    CHECK(std::fabs(double(y.voxels[at[i]]) - want[i]) < tolerance);
  }
}

bool same_voxels(volume const& a, volume const& b) { return a.size == b.size && a.voxels == b.voxels; }

double mean(volume const& x) {
  double s = 0;
  for (float v : x.voxels) s += double(v);
  return s / double(x.count());
}

bool finite(volume const& x) {
  for (float v : x.voxels)
    if (!std::isfinite(v)) return false;
  return true;
}

affine_parameters const golden_affine{
    .rotation = {0.21, -0.17, 0.29}, .shear = {0.12, -0.25, 0.3, 0, 0, 0}, .scale = {1.08, 0.93, 1.02}};

// Trilinear with edge values, in double, from the formula.
double edge_value(volume const& x, double d, double h, double w) {
  double const q[3] = {d, h, w};
  index_t lo[3], hi[3];
  double t[3], sum = 0;
  for (int a = 0; a < 3; ++a) {
    double const p = std::min(std::max(q[a], 0.0), double(x.size[a] - 1));
    lo[a] = index_t(std::floor(p)), hi[a] = std::min(lo[a] + 1, x.size[a] - 1), t[a] = p - double(lo[a]);
  }
  for (int c = 0; c < 8; ++c)
    sum += ((c & 4) ? t[0] : 1 - t[0]) * ((c & 2) ? t[1] : 1 - t[1]) * ((c & 1) ? t[2] : 1 - t[2]) *
           double(x.at((c & 4) ? hi[0] : lo[0], (c & 2) ? hi[1] : lo[1], (c & 1) ? hi[2] : lo[2]));
  return sum;
}

}  // namespace

TEST_CASE("the affine matrix is the published one") {
  auto const m = affine_matrix(golden_affine);
  double const want[9] = {0.92867204,  -0.15670359, -0.41339579, 0.57246278, 0.90840728,
                          -0.27226213, 0.28500983,  0.16611668,  0.92757870};
  for (std::size_t i = 0; i < 9; ++i) CHECK(std::fabs(m[i] - want[i]) < 1e-8);
}

TEST_CASE("affine, Gibbs, smooth and low resolution give the published values") {
  volume const x = golden_input();
  volume const turned = affine_augment(x, golden_affine);
  check_golden(turned, {-0.6185981, -0.4245669, -0.0057745, -0.0620184, -0.6231101, 0.3584946});
  CHECK(std::fabs(mean(turned) - 0.0026638) < 1e-6);

  volume rung = x;
  gibbs(rung, 0.3);
  check_golden(rung, {-0.3265095, -1.0083801, -0.1651615, -0.1162835, -0.6109165, -0.0560348});

  check_golden(smooth(x, {0.6, 0.75, 0.95}),
               {-0.0491976, -0.1130249, -0.0032137, -0.1344728, -0.1753079, -0.0454598});
  CHECK(gaussian_taps(0.6).size() == 5);
  CHECK(gaussian_taps(0.75).size() == 7);
  CHECK(gaussian_taps(0.95).size() == 9);

  volume const coarse = resize_nearest(x, {9, 10, 12});
  CHECK(std::nearbyint(11 * 0.83) == 9);
  CHECK(coarse.size == extent{9, 10, 12});
  check_golden(low_resolution(x, 0.83),
               {-0.1799612, -0.7656073, 0.0834303, -0.6881899, -0.3132120, -0.9682276});
}

TEST_CASE("the bias field gives the published factor") {
  bias_coefficients c;
  for (std::size_t i = 0; i < c.size(); ++i) c[i] = 0.05 * (0.5 + 0.5 * testing::filler(201, i));
  volume one = make_volume({11, 12, 14}, 1);
  bias_field(one, c);
  check_golden(one, {0.8803076, 0.9217155, 1.0342437, 1.0270918, 1.0433051, 1.7457110});
  volume x = golden_input();
  bias_field(x, c);
  for (std::size_t i = 0; i < x.voxels.size(); ++i)
    REQUIRE(std::fabs(x.voxels[i] - one.voxels[i] * golden_input().voxels[i]) < 1e-6f);
}

TEST_CASE("elementary functions agree with the standard library") {
  double worst_log = 0, worst_exp = 0, worst_power = 0;
  for (std::uint32_t i = 0; i < 20000; ++i) {
    double const u = uniform_at({3, 1}, i), v = uniform_at({3, 2}, i);
    float const x = float(std::exp2(40 * u - 30)), y = float(200 * v - 100), z = float(u), g = float(0.5 + v);
    worst_log = std::max(worst_log, std::fabs(double(fast_log2(x)) - std::log2(double(x))) /
                                        std::max(1.0, std::fabs(std::log2(double(x)))));
    worst_exp = std::max(worst_exp, std::fabs(double(fast_exp2(y)) / std::exp2(double(y)) - 1));
    worst_power = std::max(worst_power, std::fabs(double(fast_power(z, g)) - std::pow(double(z), double(g))));
  }
  CHECK(worst_log < 3e-7);
  CHECK(worst_exp < 3e-7);
  CHECK(worst_power < 5e-7);
  double worst_wide = 0;
  for (std::uint32_t i = 0; i < 4000; ++i) {
    detail::wide x{};
    for (int l = 0; l < detail::widest; ++l)
      x[l] = l == 0 ? 0.0f : float(uniform_at({3, 3}, 16 * i + std::uint32_t(l)));
    detail::wide const was = x;
    float const g = float(0.5 + uniform_at({3, 4}, i));
    detail::raise(x, g);
    for (int l = 0; l < detail::widest; ++l)
      worst_wide = std::max(worst_wide, std::fabs(double(x[l]) - std::pow(double(was[l]), double(g))));
  }
  CHECK(worst_wide < 5e-7);
  CHECK(fast_power(0, 0.9f) == 0.0f);
}

TEST_CASE("affine agrees with double precision on odd sizes, for images and masks") {
  for (extent n : {extent{7, 19, 33}, extent{1, 5, 17}, extent{6, 1, 16}, extent{5, 4, 1}, extent{1, 1, 1}}) {
    volume const x = random_volume(n, 5);
    random_stream random({.seed = 9, .stream = std::uint64_t(n.w)});
    auto p = draw(affine_ranges{}, random);
    p.translation = {0.3, -1.2, 2.1};
    auto const map = centred_map(p, n, n);
    volume const y = affine_augment(x, p),
                 mask = affine_augment(x, p, {interpolation::nearest, outside::zero});
    volume const z = affine_augment(x, p, {interpolation::linear, outside::zero});
    std::vector<double> want, want_mask, want_zero;
    for (index_t d = 0; d < n.d; ++d)
      for (index_t h = 0; h < n.h; ++h)
        for (index_t w = 0; w < n.w; ++w) {
          double q[3];
          bool in = true, near = true;
          for (std::size_t a = 0; a < 3; ++a) {
            q[a] = map[4 * a] * double(d) + map[4 * a + 1] * double(h) + map[4 * a + 2] * double(w) +
                   map[4 * a + 3];
            in = in && std::nearbyint(q[a]) >= 0 && std::nearbyint(q[a]) <= double(n[int(a)] - 1);
            near = near && q[a] >= 0 && q[a] <= double(n[int(a)] - 1);
          }
          want.push_back(edge_value(x, q[0], q[1], q[2]));
          want_mask.push_back(in ? double(x.at(index_t(std::nearbyint(q[0])), index_t(std::nearbyint(q[1])),
                                               index_t(std::nearbyint(q[2]))))
                                 : 0.0);
          if (near) {
            CHECK(std::fabs(double(z.at(d, h, w)) - want.back()) < 2e-5);
          }
        }
    CHECK(testing::relative_error(y.voxels, want) < 1e-5);
    CHECK(testing::relative_error(mask.voxels, want_mask) < 1e-6);
  }
}

TEST_CASE("affine: the identity, the adjoint of a flip, and outside rules") {
  volume const x = random_volume({9, 8, 21}, 3);
  CHECK(same_voxels(affine_augment(x, {}), x));
  CHECK(same_voxels(affine_augment(x, {.scale = {1, 1, -1}}), flip(x, 2)));
  // a shift by three voxels under each rule
  affine_parameters const shift{.translation = {0, 0, 3}};
  volume const edge = affine_augment(x, shift),
               zero = affine_augment(x, shift, {interpolation::linear, outside::zero}),
               mirror = affine_augment(x, shift, {interpolation::linear, outside::mirror});
  for (index_t w = 0; w < 21; ++w) {
    index_t const s = w + 3;
    CHECK(std::fabs(edge.at(4, 5, w) - x.at(4, 5, std::min<index_t>(s, 20))) < 1e-6f);
    CHECK(std::fabs(zero.at(4, 5, w) - (s < 21 ? x.at(4, 5, s) : 0)) < 1e-6f);
    CHECK(std::fabs(mirror.at(4, 5, w) - x.at(4, 5, s < 21 ? s : 41 - s)) < 1e-6f);
  }
}

TEST_CASE("to_world follows flips, crops, pads and affines") {
  volume x = random_volume({9, 8, 21}, 3);
  x.to_world = {-1.5, 0, 0.2, 40, 0.1, 2, 0, -30, 0, 0, 1.1, 7, 0, 0, 0, 1};
  auto const where = [](volume const& v, double d, double h, double w) {
    std::array<double, 3> p{};
    for (std::size_t i = 0; i < 3; ++i)
      p[i] = v.to_world[4 * i] * d + v.to_world[4 * i + 1] * h + v.to_world[4 * i + 2] * w +
             v.to_world[4 * i + 3];
    return p;
  };
  auto const same = [](std::array<double, 3> a, std::array<double, 3> b) {
    return std::fabs(a[0] - b[0]) + std::fabs(a[1] - b[1]) + std::fabs(a[2] - b[2]) < 1e-9;
  };
  for (int axis = 0; axis < 3; ++axis) {
    double o[3] = {3, 2, 5}, q[3] = {3, 2, 5};
    q[axis] = double(x.size[axis] - 1) - o[axis];
    CHECK(same(where(flip(x, axis), o[0], o[1], o[2]), where(x, q[0], q[1], q[2])));
    CHECK(same_voxels(flip(flip(x, axis), axis), x));
    CHECK_FALSE(same_voxels(flip(x, axis), x));
  }
  CHECK(same(where(crop(x, {1, 2, 3}, {4, 4, 4}), 0, 0, 0), where(x, 1, 2, 3)));
  CHECK(same(where(pad(x, {12, 8, 21}), 1, 0, 0), where(x, 0, 0, 0)));
  auto const map = centred_map(golden_affine, x.size, x.size);
  CHECK(same(where(affine_augment(x, golden_affine), 0, 0, 0), where(x, map[3], map[7], map[11])));
  CHECK(same(where(low_resolution(x, 0.8), 4, 4, 4), where(x, 4, 4, 4)));
}

TEST_CASE("pad repeats the edge or adds zeros, the smaller half before") {
  volume const x = random_volume({3, 2, 5}, 8);
  volume const e = pad(x, {6, 2, 4}), z = pad(x, {6, 2, 8}, padding::zero);
  REQUIRE(e.size == extent{6, 2, 5});
  REQUIRE(z.size == extent{6, 2, 8});
  for (index_t d = 0; d < 6; ++d)
    for (index_t w = 0; w < 5; ++w) CHECK(e.at(d, 1, w) == x.at(std::clamp<index_t>(d - 1, 0, 2), 1, w));
  for (index_t d = 0; d < 6; ++d)
    for (index_t w = 0; w < 8; ++w) {
      bool const in = d >= 1 && d < 4 && w >= 1 && w < 6;
      CHECK(z.at(d, 0, w) == (in ? x.at(d - 1, 0, w - 1) : 0.0f));
    }
  CHECK(same_voxels(pad(x, {1, 1, 1}), x));
}

TEST_CASE("crops: shared corners are uniform, centres are floored, misfits are refused") {
  std::array<int, 4> seen{};
  for (std::uint64_t s = 0; s < 4000; ++s) {
    random_stream random({.seed = 1, .stream = s});
    extent const c = draw_corner({7, 4, 4}, {4, 4, 2}, random);
    REQUIRE((c.d >= 0 && c.d < 4 && c.h == 0 && c.w >= 0 && c.w < 3));
    ++seen[std::size_t(c.d)];
  }
  for (int n : seen) CHECK(std::abs(n - 1000) < 110);  // four standard deviations of a binomial
  CHECK(centre_corner({11, 10, 3}, {4, 5, 4}) == extent{3, 3, 0});
  volume const x = random_volume({7, 6, 5}, 2);
  CHECK(centre_crop(x, {3, 2, 5}).at(0, 0, 0) == x.at(2, 2, 0));
  CHECK_THROWS_WITH(crop(x, {5, 0, 0}, {3, 1, 1}), Catch::Contains("3x1x1") && Catch::Contains("axis 0"));
  random_stream random({});
  CHECK_THROWS_WITH(draw_corner({7, 6, 5}, {7, 6, 6}, random),
                    Catch::Contains("7x6x6") && Catch::Contains("axis 2"));
  CHECK_THROWS_AS(flip(x, 3), error);
}

TEST_CASE("intensity operations follow their formulas") {
  volume const x = random_volume({5, 7, 23}, 4);
  double const mu = mean(x);
  volume a = x, g = x, s = x;
  scale_about_mean(a, 0.07), adjust_gamma(g, 1.08), shift_intensity(s, 0.25);
  double low = 1e9, high = -1e9;
  for (float v : x.voxels) low = std::min(low, double(v)), high = std::max(high, double(v));
  std::vector<double> want_a, want_g;
  for (float v : x.voxels) {
    want_a.push_back((double(v) - mu) * 1.07 + mu);
    want_g.push_back(std::pow((double(v) - low) / (high - low + 1e-7), 1.08) * (high - low) + low);
  }
  CHECK(testing::relative_error(a.voxels, want_a) < 1e-6);
  CHECK(testing::relative_error(g.voxels, want_g) < 1e-6);
  CHECK(s.voxels[17] == x.voxels[17] + 0.25f);
  auto const st = statistics(x);
  CHECK(std::fabs(st.mean - mu) < 1e-12);
  CHECK(double(st.low) == low);
  CHECK(double(st.high) == high);
  double v2 = 0;
  for (float v : x.voxels) v2 += (double(v) - mu) * (double(v) - mu);
  CHECK(std::fabs(st.variance - v2 / double(x.count())) < 1e-9);
}

TEST_CASE("steps of intensity in one pass are the steps one by one, and resampling tells the range") {
  volume const x = random_volume({33, 35, 29}, 12);
  auto const map = centred_map(golden_affine, x.size, x.size);
  for (auto how : {interpolation::linear, interpolation::nearest})
    for (auto beyond : {outside::edge, outside::zero, outside::mirror}) {
      volume y = make_volume(x.size, std::numeric_limits<float>::quiet_NaN()), again = y;
      thread_pool pool(3);
      value_range const r = resample_into(sampler(x), y.size, map, {how, beyond}, y.voxels.data());
      resample_into(sampler(x), y.size, map, {how, beyond}, again.voxels.data(), &pool);
      CHECK(same_voxels(y, again));
      CHECK(r.low == *std::min_element(y.voxels.begin(), y.voxels.end()));
      CHECK(r.high == *std::max_element(y.voxels.begin(), y.voxels.end()));
    }
  random_key const grain{.seed = 3};
  volume steps = x, once = x, parallel = x;
  shift_intensity(steps, 0.2), adjust_gamma(steps, 1.3), gaussian_noise(steps, 0.05, grain);
  thread_pool pool(2);
  adjust_intensity(once, {0.2, 1.3, 0.05, grain}, range_of(x));
  adjust_intensity(parallel, {0.2, 1.3, 0.05, grain}, range_of(x, &pool), &pool);
  CHECK(testing::relative_error(once.voxels, steps.voxels) < 1e-6);
  CHECK(same_voxels(once, parallel));
  adjust_intensity(once, {}, range_of(once));
  CHECK(same_voxels(once, parallel));
  CHECK_THROWS_WITH(range_of(volume{}), Catch::Contains("no voxels"));
}

TEST_CASE("noise is standard normal, independent between keys, and the same for any number of threads") {
  volume x = make_volume({37, 61, 53});
  gaussian_noise(x, 1, {.seed = 3, .stream = 4, .sub = 5});
  double m[5] = {};
  for (float v : x.voxels)
    for (int k = 1; k <= 4; ++k) m[k] += std::pow(double(v), k) / double(x.count());
  double const n = double(x.count());
  CHECK(std::fabs(m[1]) < 4 / std::sqrt(n));
  CHECK(std::fabs(m[2] - 1) < 4 * std::sqrt(2 / n));
  CHECK(std::fabs(m[3]) < 4 * std::sqrt(15 / n));
  CHECK(std::fabs(m[4] - 3) < 4 * std::sqrt(96 / n));
  double beyond = 0;  // |v| > 1.96 has probability 0.05
  for (float v : x.voxels) beyond += std::fabs(v) > 1.95996f;
  CHECK(std::fabs(beyond / n - 0.05) < 4 * std::sqrt(0.05 * 0.95 / n));

  volume other = make_volume(x.size), again = other;
  gaussian_noise(other, 1, {.seed = 3, .stream = 4, .sub = 6});
  thread_pool pool(3);
  gaussian_noise(again, 1, {.seed = 3, .stream = 4, .sub = 5}, &pool);
  CHECK(same_voxels(again, x));
  double together = 0, neighbours = 0;
  for (std::size_t i = 0; i + 1 < x.voxels.size(); ++i)
    together += double(x.voxels[i]) * double(other.voxels[i]),
        neighbours += double(x.voxels[i]) * double(x.voxels[i + 1]);
  CHECK(std::fabs(together / n) < 4 / std::sqrt(n));
  CHECK(std::fabs(neighbours / n) < 4 / std::sqrt(n));
}

TEST_CASE("line transforms agree with the definition at every length and invert") {
  for (index_t n = 1; n <= 50; n += n < 16 ? 1 : 3) {
    auto const re = testing::random_vector<float>(n * lanes, 1),
               im = testing::random_vector<float>(n * lanes, 2);
    auto a = re, b = im;
    line_transform const f(n);
    auto work = testing::poisoned<float>(f.workspace());
    f.run(a.data(), b.data(), work.data());
    std::vector<double> got, want;
    for (int l = 0; l < lanes; l += 5)
      for (index_t k = 0; k < n; ++k) {
        std::complex<double> s = 0;
        for (index_t j = 0; j < n; ++j)
          s += std::complex<double>(re[std::size_t(j * lanes + l)], im[std::size_t(j * lanes + l)]) *
               std::polar(1.0, -2 * std::numbers::pi * double(j * k % n) / double(n));
        std::size_t const i = std::size_t(k * lanes + l);
        got.push_back(a[i]), got.push_back(b[i]), want.push_back(s.real()), want.push_back(s.imag());
      }
    INFO("length " << n);
    CHECK(testing::relative_error(got, want) < 1e-6);
    f.run(b.data(), a.data(), work.data());
    for (auto& v : a) v /= float(n);
    CHECK(testing::relative_error(a, re) < 1e-6);
  }
}

TEST_CASE("Gibbs: nothing cut is the identity, everything cut but the mean leaves the mean, threads agree") {
  volume const x = random_volume({6, 35, 13}, 6);
  volume all = x;
  gibbs(all, 0);
  CHECK(testing::relative_error(all.voxels, x.voxels) < 1e-6);
  volume odd = random_volume({5, 7, 3}, 7);
  double const m = mean(odd);
  gibbs(odd, 0.95);  // radius 0.25 bins: the zero frequency alone
  for (float v : odd.voxels) REQUIRE(std::fabs(double(v) - m) < 1e-6);
  volume a = x, b = x;
  thread_pool pool(2);
  gibbs(a, 0.35), gibbs(b, 0.35, &pool);
  CHECK(same_voxels(a, b));
  CHECK_THROWS_AS(gibbs(a, 1.5), error);
}

TEST_CASE("smooth keeps mass inside, is self-adjoint, and leaves axes with sigma 0 alone") {
  volume x = make_volume({15, 17, 19});
  x.at(7, 8, 9) = 1;
  volume const y = smooth(x, {0.8, 0.7, 0.9});
  double s = 0;
  for (float v : y.voxels) s += double(v);
  CHECK(std::fabs(s - 1) < 1e-3);
  CHECK(same_voxels(smooth(x, {0, 0, 0}), x));
  CHECK(smooth(x, {0, 0, 0.9}).at(6, 8, 9) == 0.0f);
  volume const a = random_volume({5, 6, 7}, 1), b = random_volume({5, 6, 7}, 2);
  std::array<double, 3> const width{0.9, 0.5, 0.7};
  volume const sa = smooth(a, width), sb = smooth(b, width);
  double left = 0, right = 0;
  for (std::size_t i = 0; i < a.voxels.size(); ++i)
    left += double(sa.voxels[i]) * double(b.voxels[i]), right += double(a.voxels[i]) * double(sb.voxels[i]);
  CHECK(std::fabs(left - right) < 1e-5);
}

TEST_CASE("resizing: the float32 nearest rule, doubling, identity") {
  CHECK(nearest_index(6, 14, 12) == 7);
  CHECK(nearest_index(108, 112, 192) == index_t(std::floor(108.0f * (112.0f / 192.0f))));
  CHECK(nearest_index(5, 4, 8) == 2);
  CHECK(nearest_index(11, 14, 12) == 12);
  volume const x = random_volume({4, 5, 6}, 3);
  CHECK(same_voxels(resize_trilinear(x, x.size), x));
  CHECK(same_voxels(resize_nearest(x, x.size), x));
  CHECK(same_voxels(low_resolution(x, 1), x));
  volume const up = resize_trilinear(x, {7, 9, 11});
  std::vector<double> want;
  for (index_t d = 0; d < 7; ++d)
    for (index_t h = 0; h < 9; ++h)
      for (index_t w = 0; w < 11; ++w) {
        auto const at = [](index_t o, index_t in, index_t out) {
          return std::max((double(o) + 0.5) * double(in) / double(out) - 0.5, 0.0);
        };
        want.push_back(edge_value(x, at(d, 4, 7), at(h, 5, 9), at(w, 6, 11)));
      }
  CHECK(testing::relative_error(up.voxels, want) < 1e-6);
  CHECK_THROWS_AS(low_resolution(x, 0), error);
  CHECK_THROWS_AS(resize_trilinear(x, {0, 1, 1}), error);
}

TEST_CASE("constant and tiny volumes stay finite under every operation") {
  for (extent n : {extent{1, 1, 1}, extent{2, 3, 1}, extent{9, 9, 9}})
    for (float value : {0.0f, -3.0f}) {
      volume x = make_volume(n, value);
      random_stream random({.seed = 2});
      adjust_gamma(x, 0.9), scale_about_mean(x, 0.1), gibbs(x, 0.2);
      x = low_resolution(x, 0.8);
      for (float v : x.voxels) CHECK(std::fabs(v - value) < 1e-5f);
      bias_field(x, draw_bias(0.05, random));
      x = affine_augment(smooth(x, {1, 1, 1}), draw(affine_ranges{}, random));
      CHECK(finite(x));
    }
}

TEST_CASE("draws stay in their ranges and fill them") {
  double low[9], high[9], sum[9] = {};
  for (int i = 0; i < 9; ++i) low[i] = 1e9, high[i] = -1e9;
  int const n = 4000;
  for (int k = 0; k < n; ++k) {
    random_stream random({.seed = 5, .stream = std::uint64_t(k)});
    auto const p = draw(affine_ranges{}, random);
    for (std::size_t i = 0; i < 9; ++i) {
      double const v = i < 3 ? p.rotation[i] : i < 6 ? p.shear[i - 3] : p.scale[i - 6];
      low[i] = std::min(low[i], v), high[i] = std::max(high[i], v), sum[i] += v / n;
    }
    for (std::size_t i = 3; i < 6; ++i) REQUIRE(p.shear[i] == 0);
    for (double t : p.translation) REQUIRE(t == 0);
  }
  for (int i = 0; i < 9; ++i) {
    double const middle = i < 6 ? 0 : 1, reach = i < 6 ? 0.3 : 0.1;
    CHECK((low[i] >= middle - reach && low[i] < middle - 0.99 * reach));
    CHECK((high[i] <= middle + reach && high[i] > middle + 0.99 * reach));
    CHECK(std::fabs(sum[i] - middle) < 4 * reach / std::sqrt(3.0 * n));
  }
}

TEST_CASE("pick follows its weights") {
  std::array<int, 3> seen{};
  for (std::uint32_t i = 0; i < 6000; ++i)
    ++seen[pick(std::array{1.0, 0.0, 3.0}, uniform_at({.seed = 1}, i))];
  CHECK(std::abs(seen[0] - 1500) < 135);
  CHECK(seen[1] == 0);
  CHECK(pick(std::array{0.0, 1.0}, 0.0) == 1);
  CHECK_THROWS_AS(pick(std::array{0.0, 0.0}, 0.5), error);
  CHECK_THROWS_AS(pick(std::array{1.0, -1.0}, 0.5), error);
}
