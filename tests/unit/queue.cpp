// SPDX-License-Identifier: Apache-2.0
// The queue of keys and the momentum copy.
#include "insula/ssl/queue.hpp"

#include "insula/plain.hpp"
#include "insula/ssl/momentum.hpp"
#include "support/catch.hpp"

using namespace insula;

namespace {

template <class Queue>
auto column(Queue const& q, index_t component) {
  std::vector<float> v;
  for (index_t j = 0; j < Queue::length; ++j) v.push_back(q.keys()[j * Queue::width + component]);
  return v;
}

}  // namespace

TEST_CASE("keys and their patients go round the queue as published") {
  queue<float, 5, 2> q;
  q.move_to(3);
  std::vector<float> const keys{1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<std::int64_t> const patients{1, 3, 5, 7}, sessions{2, 4, 6, 8};
  q.push(4, keys.data(), patients.data(), sessions.data());
  CHECK(column(q, 0) == std::vector<float>{5, 7, 0, 1, 3});
  CHECK(column(q, 1) == std::vector<float>{6, 8, 0, 2, 4});
  CHECK(std::vector<std::int64_t>(q.patients(), q.patients() + 5) ==
        std::vector<std::int64_t>{5, 7, 0, 1, 3});
  CHECK(std::vector<std::int64_t>(q.sessions(), q.sessions() + 5) ==
        std::vector<std::int64_t>{6, 8, 0, 2, 4});
  CHECK(q.next() == 2);
  CHECK(q.filled() == 4);
}

TEST_CASE("a new queue holds unit vectors that count as empty") {
  queue<float, 64, 16> q;
  q.initialise(3);
  CHECK(q.filled() == 0);
  CHECK(q.next() == 0);
  for (index_t j = 0; j < 64; ++j) {
    double square = 0;
    for (index_t i = 0; i < 16; ++i) square += double(q.keys()[j * 16 + i]) * double(q.keys()[j * 16 + i]);
    CHECK(std::abs(square - 1) < 1e-6);
  }
}

TEST_CASE("what a queue cannot hold is refused, and the queue stays as it was") {
  queue<float, 2, 1> q;
  std::vector<float> const keys{1, 2, 3};
  std::vector<std::int64_t> const patients{1, 0, 2};
  CHECK_THROWS_WITH(q.push(3, keys.data(), patients.data(), patients.data()),
                    Catch::Contains("3 keys pushed at once, the queue holds 2"));
  CHECK_THROWS_WITH(q.push(2, keys.data(), patients.data(), patients.data()),
                    Catch::Contains("key 1 has patient id 0"));
  CHECK_THROWS_WITH(q.move_to(2), Catch::Contains("pointer 2 is outside 0 to 1"));
  CHECK(q.next() == 0);
  CHECK(q.filled() == 0);
}

TEST_CASE("the momentum copy starts equal and follows by 1 - m") {
  context<plain> cx;
  std::vector<double> const w{1, -2, 4};
  momentum_copy<double, plain> copy(3);
  copy.start(cx, w.data());
  CHECK(std::vector<double>(copy.data(), copy.data() + 3) == w);
  std::vector<double> const moved{2, -2, 0};
  copy.follow(cx, moved.data(), 0.75);
  CHECK(std::vector<double>(copy.data(), copy.data() + 3) == std::vector<double>{1.25, -2, 3});
}
