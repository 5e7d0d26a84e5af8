// SPDX-License-Identifier: Apache-2.0
// Pooling, vector normalisation, losses and sums against their reference, published numbers and finite differences.
#include "insula/kernels/cpu/reduce.hpp"

#include "insula/kernels/plain/reduce.hpp"
#include "support/parity.hpp"

using namespace insula;
using namespace insula::testing;

namespace {

std::vector<std::uint8_t> random_mask(index_t n, std::uint64_t seed) {
  std::vector<std::uint8_t> m(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < m.size(); ++i) m[i] = uniform_at({seed, 5}, std::uint32_t(i)) < 0.6;
  return m;
}

/// Rows of unit length times `length`, rounded to float.
template <class T>
std::vector<T> unit_rows(index_t rows, index_t width, std::uint64_t seed, double length = 1) {
  auto v = random_vector<double>(rows * width, seed);
  for (index_t r = 0; r < rows; ++r) {
    double square = 0;
    for (index_t c = 0; c < width; ++c)
      square += v[std::size_t(r * width + c)] * v[std::size_t(r * width + c)];
    for (index_t c = 0; c < width; ++c) v[std::size_t(r * width + c)] *= length / std::sqrt(square);
  }
  std::vector<T> out;
  for (double e : v) out.push_back(T(float(e)));
  return out;
}

std::vector<std::int64_t> random_patients(index_t n, index_t most, std::uint64_t seed) {
  std::vector<std::int64_t> p;
  random_stream s({seed, 11});
  for (index_t i = 0; i < n; ++i) p.push_back(s.below(most + 1));
  return p;
}

}  // namespace

TEST_CASE("average pooling on the CPU is the reference") {
  std::mt19937 g(1);
  for (int round = 0; round < 20; ++round) {
    index_t const batch = pick(g, {1, 3}), positions = pick(g, {1, 2, 27, 343, 700}),
                  c = pick(g, {1, 5, 24, 48, 50, 384});
    bool const adds = round & 1;
    check_parity([&]<class B, class T>(context<B>& cx) -> outputs {
      auto const x = input<T>(batch * positions * c, 1), gy = input<T>(batch * c, 2);
      auto y = poisoned<T>(batch * c), gx = target<T>(adds, std::ssize(x), 3);
      run<op::average_pool, B, T>(cx, {batch, positions, c, x.data(), y.data()});
      run<op::average_pool_grad, B, T>(cx, {batch, positions, c, gy.data(), adds, gx.data()});
      run<op::average_pool_grad, B, T>(cx, {batch, positions, c, gy.data(), adds, nullptr});
      return {widened(y), widened(gx)};
    });
  }
}

TEST_CASE("the gradient of average pooling is its transpose") {
  context<plain> cx;
  auto const x = input<double>(2 * 7 * 3, 1), gy = input<double>(2 * 3, 2);
  auto gx = poisoned<double>(2 * 7 * 3);
  run<op::average_pool_grad, plain, double>(cx, {2, 7, 3, gy.data(), false, gx.data()});
  auto const loss = [&](std::vector<double> const& v) {
    auto y = poisoned<double>(6);
    run<op::average_pool, plain, double>(cx, {2, 7, 3, v.data(), y.data()});
    return dot(gy, y);
  };
  CHECK(difference_error(x, gx, loss) < 1e-9);
}

TEST_CASE("vector normalisation on the CPU is the reference, also of very short and very long vectors") {
  std::mt19937 g(2);
  for (int round = 0; round < 20; ++round) {
    index_t const rows = pick(g, {1, 3, 50, 140}), width = pick(g, {1, 5, 24, 48, 50, 128});
    bool const adds = round & 1;
    float const size = round % 5 == 1 ? 1e-20f : round % 5 == 2 ? 0.0f : round % 5 == 3 ? 1e15f : 1.0f;
    // The gradient may cancel (entirely for width 1): errors are measured against its two parts.
    check_parity([&]<class B, class T>(context<B>& cx) -> outputs {
      auto x = input<T>(rows * width, 1), gy = input<T>(rows * width, 2);
      for (auto& v : x) v *= T(size);
      double const shrink = size > 0 ? double(size) > 1e-12 ? double(size) : 1e-12 : 1e-12;
      for (auto& v : gy) v = T(float(double(v) * shrink));
      auto y = poisoned<T>(rows * width), gx = target<T>(adds, rows * width, 3);
      run<op::l2_normalise, B, T>(cx, {rows, width, x.data(), y.data()});
      run<op::l2_normalise_grad, B, T>(cx, {rows, width, x.data(), gy.data(), adds, gx.data()});
      run<op::l2_normalise_grad, B, T>(cx, {rows, width, x.data(), gy.data(), adds, nullptr});
      auto wide = widened(gx);
      if (width == 1) wide.push_back(1);
      return {widened(y), wide};
    });
  }
}

TEST_CASE("a vector with NaN is normalised to NaN") {
  float const x[4] = {1, std::numeric_limits<float>::quiet_NaN(), 2, 3};
  float y[4] = {}, z[4] = {};
  context<cpu> fast;
  context<plain> reference;
  run<op::l2_normalise, cpu, float>(fast, {1, 4, x, y});
  run<op::l2_normalise, plain, float>(reference, {1, 4, x, z});
  for (int i = 0; i < 4; ++i) CHECK((std::isnan(y[i]) && std::isnan(z[i])));
}

TEST_CASE("the gradient of vector normalisation agrees with finite differences") {
  context<plain> cx;
  auto const x = input<double>(3 * 7, 1), gy = input<double>(3 * 7, 2);
  auto gx = poisoned<double>(3 * 7);
  run<op::l2_normalise_grad, plain, double>(cx, {3, 7, x.data(), gy.data(), false, gx.data()});
  auto const loss = [&](std::vector<double> const& v) {
    auto y = poisoned<double>(21);
    run<op::l2_normalise, plain, double>(cx, {3, 7, v.data(), y.data()});
    return dot(gy, y);
  };
  CHECK(difference_error(x, gx, loss) < 1e-6);
}

TEST_CASE("the sum of squares is kept in double") {
  for (index_t n : {1, 2, 15, 33, 1000, 16384, 100003})
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          auto x = input<T>(n, 1);
          x[std::size_t(n / 2)] = T(1e25f);  // its square is no float
          double sum = NAN;
          run<op::sum_of_squares, B, T>(cx, {n, x.data(), &sum});
          x[std::size_t(n / 2)] = 1;
          double small = NAN;
          run<op::sum_of_squares, B, T>(cx, {n, x.data(), &small});
          return {{sum}, {small}};
        },
        1e-13, 1e-13);
}

TEST_CASE("one number that is not finite makes the sum of squares not finite") {
  for (float bad : {NAN, INFINITY, -INFINITY})
    for (index_t at : {0, 7, 30000, 49999}) {
      context<cpu> cx(2);
      auto x = input<float>(50000, 1);
      x[std::size_t(at)] = bad;
      double sum = 0;
      run<op::sum_of_squares, cpu, float>(cx, {50000, x.data(), &sum});
      CHECK(!std::isfinite(sum));
    }
}

TEST_CASE("the masked error counts and sums masked positions only") {
  context<plain> cx;
  std::vector<double> const x{1, 2, 3, 4}, target{0, 0, 0, 1};
  std::vector<std::uint8_t> const mask{0, 1};
  double sum = NAN;
  index_t count = -1;
  run<op::masked_mse, plain, double>(cx, {2, 2, mask.data(), x.data(), target.data(), &sum, &count});
  CHECK(sum == 18);
  CHECK(count == 2);
  run<op::masked_mse, plain, double>(cx, {2, 2, nullptr, x.data(), target.data(), &sum, &count});
  CHECK(sum == 23);
  CHECK(count == 4);
}

TEST_CASE("the masked error on the CPU is the reference") {
  std::mt19937 g(3);
  for (int round = 0; round < 24; ++round) {
    index_t const positions = pick(g, {1, 7, 35, 1000, 40001}),
                  c = positions > 1000 ? pick(g, {1, 2}) : pick(g, {1, 1, 5, 24, 48, 50});
    bool const adds = round & 1, has_mask = round % 4 != 0;
    auto const mask = random_mask(positions, 9);
    // Both sides add up to 40000 squares in double, in another order.
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          auto const x = input<T>(positions * c, 1), y = input<T>(positions * c, 2);
          auto gx = target<T>(adds, positions * c, 3);
          auto const m = has_mask ? mask.data() : nullptr;
          double sum = NAN;
          index_t count = -1;
          run<op::masked_mse, B, T>(cx, {positions, c, m, x.data(), y.data(), &sum, &count});
          run<op::masked_mse_grad, B, T>(cx, {positions, c, m, x.data(), y.data(), T(0.75), adds, gx.data()});
          run<op::masked_mse_grad, B, T>(cx, {positions, c, m, x.data(), y.data(), T(0.75), adds, nullptr});
          return {{sum}, {double(count)}, widened(gx)};
        },
        1e-6, 1e-13);
  }
}

TEST_CASE("the gradient of the masked mean squared error agrees with finite differences") {
  context<plain> cx;
  auto const x = input<double>(35 * 3, 1), y = input<double>(35 * 3, 2);
  auto const mask = random_mask(35, 4);
  double sum = NAN;
  index_t count = 0;
  auto const loss = [&](std::vector<double> const& v) {
    run<op::masked_mse, plain, double>(cx, {35, 3, mask.data(), v.data(), y.data(), &sum, &count});
    return sum / double(count);
  };
  loss(x);
  auto gx = poisoned<double>(35 * 3);
  double const scale = 2.0 / double(count);
  run<op::masked_mse_grad, plain, double>(cx,
                                          {35, 3, mask.data(), x.data(), y.data(), scale, false, gx.data()});
  CHECK(difference_error(x, gx, loss) < 1e-8);
}

namespace {

/// The published InfoNCE case: 3 queries of width 6, a queue of 10.
struct golden_case {
  std::vector<double> q = rows(300, 3, false), k = rows(301, 3, false), queue = rows(302, 10, true);
  std::vector<std::int64_t> queue_patient{5, 5, 7, 9, 0, 11, 7, 0, 12, 5}, patient{5, 7, 20};

  static std::vector<double> rows(std::uint32_t stream, index_t n, bool transposed) {
    std::vector<double> v;
    for (index_t r = 0; r < n; ++r) {
      double row[6], square = 0;
      for (index_t c = 0; c < 6; ++c) {
        row[c] = filler(stream, std::uint64_t(transposed ? c * n + r : r * 6 + c));
        square += row[c] * row[c];
      }
      for (double e : row) v.push_back(e / std::sqrt(square));
    }
    return v;
  }
  template <class B, class T>
  void check_on(context<B>& cx, op::invalid_negative invalid, double expected, double margin) const {
    std::vector<T> const a(q.begin(), q.end()), b(k.begin(), k.end()), c(queue.begin(), queue.end());
    auto gq = poisoned<T>(18);
    double loss = NAN;
    index_t negatives = -1;
    run<op::info_nce, B, T>(cx, {3, 6, 10, 0.2, invalid, a.data(), b.data(), c.data(), patient.data(),
                                 queue_patient.data(), gq.data(), &loss, &negatives});
    CHECK(std::abs(loss - expected) < margin);
    CHECK(negatives == 5 + 6 + 8);
    if (invalid == op::invalid_negative::excluded) return;
    double const published[] = {0.17093774, 0.24568811, 0.16930020, -0.48928746, -0.15086362, -0.22119453};
    for (std::size_t i = 0; i < 6; ++i) CHECK(std::abs(double(gq[i]) - published[i]) < 6e-9 + margin);
  }
};

}  // namespace

TEST_CASE("InfoNCE reproduces the published loss and gradient") {
  golden_case const g;
  context<plain> one;
  context<cpu> two(2);
  using enum op::invalid_negative;
  g.check_on<plain, double>(one, clamped, 3.715715015907371, 1e-14);
  g.check_on<plain, double>(one, excluded, 3.715295046303582, 1e-14);
  g.check_on<cpu, double>(two, clamped, 3.715715015907371, 1e-14);
  g.check_on<cpu, double>(two, excluded, 3.715295046303582, 1e-14);
  g.check_on<cpu, float>(two, clamped, 3.715715015907371, 1e-6);
  g.check_on<cpu, float>(two, excluded, 3.715295046303582, 1e-6);
}

TEST_CASE("InfoNCE on the CPU is the reference") {
  std::mt19937 g(5);
  for (int round = 0; round < 30; ++round) {
    index_t const batch = pick(g, {1, 2, 3, 17, 32}), width = pick(g, {5, 24, 50, 128}),
                  length = pick(g, {1, 7, 129, 1000, 1025, 2200});
    double const temperature = round % 4 == 0 ? 0.01 : round % 4 == 1 ? 0.07 : 0.2;
    double const stretch = round % 5 == 0 ? 3 : 1;  // 3: many similarities leave [-1, 1]
    auto const invalid = round & 1 ? op::invalid_negative::clamped : op::invalid_negative::excluded;
    bool const wants_gradient = round % 6 != 0;
    auto const patient = random_patients(batch, 40, 1);
    auto const owner = random_patients(length, round % 7 == 0 ? 0 : round % 7 == 1 ? 1 : 40, 2);  // 0: empty
    INFO("batch " << batch << ", width " << width << ", length " << length << ", temperature "
                  << temperature);
    // A similarity is off by a few rounding errors, a logit by that over the temperature; in double the sums of up
    // to 2500 terms add as much.
    double const single = 2e-7 / temperature, twice = 5e-15 / temperature;
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          auto const q = unit_rows<T>(batch, width, 1, stretch), k = unit_rows<T>(batch, width, 2),
                     queue = unit_rows<T>(length, width, 3);
          auto gq = wants_gradient ? poisoned<T>(batch * width) : std::vector<T>();
          double loss = NAN;
          index_t negatives = -1;
          run<op::info_nce, B, T>(
              cx,
              {batch, width, length, temperature, invalid, q.data(), k.data(), queue.data(), patient.data(),
               owner.data(), wants_gradient ? gq.data() : nullptr, &loss, round % 3 ? &negatives : nullptr});
          // The loss may be nearly 0 where it is the difference of two numbers of size 1 / temperature.
          return {{loss, 1}, {double(negatives)}, widened(gq)};
        },
        single, twice);
  }
}

TEST_CASE("InfoNCE of similarities on the bounds of the clamp passes their gradient") {
  context<plain> one;
  context<cpu> two(2);
  std::vector<double> const q{1}, k{-1}, queue{1, -1, 1};
  std::vector<std::int64_t> const patient{3}, owner{1, 2, 0};
  double const p = std::exp(-10.0), total = 1 + 3 * p;  // l = -1, 1, -1 and the invalid -1; temperature 0.2
  auto const check_on = [&](auto& cx, auto b) {
    double gq = NAN, loss = NAN;
    run<op::info_nce, decltype(b), double>(
        cx, {1, 1, 3, 0.2, op::invalid_negative::clamped, q.data(), k.data(), queue.data(), patient.data(),
             owner.data(), &gq, &loss, nullptr});
    CHECK(loss == Approx(std::log(total) + 10));
    CHECK(gq == Approx(5 * (1 / total - p / total - (p / total - 1))));
  };
  check_on(one, plain{});
  check_on(two, cpu{});
}

TEST_CASE("InfoNCE says so when a valid key is not a number, and ignores one in an empty slot") {
  golden_case g;
  context<cpu> cx(2);
  for (bool empty : {false, true}) {
    auto queue = g.queue;
    queue[empty ? 4 * 6 + 1 : 3 * 6 + 1] = NAN;
    double loss = 0;
    run<op::info_nce, cpu, double>(
        cx, {3, 6, 10, 0.2, op::invalid_negative::clamped, g.q.data(), g.k.data(), queue.data(),
             g.patient.data(), g.queue_patient.data(), nullptr, &loss, nullptr});
    CHECK(std::isnan(loss) == !empty);
  }
}

TEST_CASE("the gradient of InfoNCE agrees with finite differences") {
  golden_case const g;
  context<plain> cx;
  auto const evaluate = [&](std::vector<double> const& q, double* gq, op::invalid_negative invalid) {
    double loss = NAN;
    run<op::info_nce, plain, double>(cx, {3, 6, 10, 0.2, invalid, q.data(), g.k.data(), g.queue.data(),
                                          g.patient.data(), g.queue_patient.data(), gq, &loss, nullptr});
    return loss;
  };
  for (double stretch : {1.0, 2.5})
    for (auto invalid : {op::invalid_negative::clamped, op::invalid_negative::excluded}) {
      auto q = g.q;
      for (auto& v : q) v *= stretch;
      auto gq = poisoned<double>(18);
      evaluate(q, gq.data(), invalid);
      auto const loss = [&](auto const& v) { return evaluate(v, nullptr, invalid); };
      CHECK(difference_error(q, gq, loss) < 1e-6);
    }
}

TEST_CASE("cross-entropy on the CPU is the reference") {
  std::mt19937 g(6);
  for (int round = 0; round < 20; ++round) {
    index_t const rows = pick(g, {1, 3, 50, 700}), classes = pick(g, {1, 2, 3, 5, 17, 50, 100});
    double const spread = round % 3 == 0 ? 300 : 3;
    std::vector<std::int32_t> label;
    for (index_t r = 0; r < rows; ++r) label.push_back(std::int32_t(index_t(g()) % classes));
    bool const wants_gradient = round % 4 != 0;
    check_parity(
        [&]<class B, class T>(context<B>& cx) -> outputs {
          auto x = input<T>(rows * classes, 1);
          for (auto& v : x) v = T(float(double(v) * spread));
          auto gx = wants_gradient ? poisoned<T>(rows * classes) : std::vector<T>();
          double loss = NAN;
          run<op::cross_entropy, B, T>(
              cx, {rows, classes, x.data(), label.data(), wants_gradient ? gx.data() : nullptr, &loss});
          return {{loss, 1}, widened(gx)};
        },
        1e-6, 1e-13);
  }
}

TEST_CASE("norms of weights and of decayed gradients on the CPU are the reference") {
  for (index_t n : {1, 5, 16, 1000, 16384, 50001})
    for (double const decay : {0.0, 0.3})
      check_parity(
          [&]<class B, class T>(context<B>& cx) -> outputs {
            auto const g = input<T>(n, 1), w = input<T>(n, 2);
            double ww = NAN, gg = NAN;
            run<op::decayed_norms, B, T>(cx, {n, 0.25, decay, g.data(), w.data(), &ww, &gg});
            return {{ww}, {gg}};
          },
          1e-13, 1e-13);  // sums of 50000 squares in double, in another order
}

TEST_CASE("the gradient of cross-entropy agrees with finite differences") {
  context<plain> cx;
  auto const x = input<double>(4 * 5, 1);
  std::vector<std::int32_t> const label{0, 4, 2, 2};
  auto gx = poisoned<double>(20);
  double value = NAN;
  run<op::cross_entropy, plain, double>(cx, {4, 5, x.data(), label.data(), gx.data(), &value});
  auto const loss = [&](std::vector<double> const& v) {
    double l = NAN;
    run<op::cross_entropy, plain, double>(cx, {4, 5, v.data(), label.data(), nullptr, &l});
    return l;
  };
  CHECK(difference_error(x, gx, loss) < 1e-6);
}

TEST_CASE(
    "cross-entropy of equal logits is the logarithm of the number of classes; a label outside is an error") {
  std::vector<double> const x(6, 0.5);
  context<plain> one;
  context<cpu> two(2);
  double loss = NAN;
  for (std::int32_t bad : {-1, 3}) {
    std::vector<std::int32_t> const label{0, bad};
    CHECK_THROWS_WITH(
        (run<op::cross_entropy, plain, double>(one, {2, 3, x.data(), label.data(), nullptr, &loss})),
        "cross_entropy: label[1] is " + std::to_string(bad) + ", it must be 0 to 2");
    CHECK_THROWS_WITH(
        (run<op::cross_entropy, cpu, double>(two, {2, 3, x.data(), label.data(), nullptr, &loss})),
        "cross_entropy: label[1] is " + std::to_string(bad) + ", it must be 0 to 2");
  }
  std::vector<std::int32_t> const label{0, 2};
  run<op::cross_entropy, cpu, double>(two, {2, 3, x.data(), label.data(), nullptr, &loss});
  CHECK(loss == Approx(std::log(3.0)));
}
