// SPDX-License-Identifier: Apache-2.0
// Ordered prefetching and the endless shuffled order.
#include "insula/data/loader.hpp"

#include <set>
#include <thread>

#include "insula/data/epoch_order.hpp"
#include "support/catch.hpp"

using namespace insula;

namespace {
std::vector<std::vector<index_t>> take(loader_options o, int n) {
  loader<std::vector<index_t>> l(
      [](index_t i, std::vector<index_t>& b) {
        b.assign(3, i);
        std::this_thread::sleep_for(std::chrono::microseconds((i * 37) % 400));
      },
      o);
  std::vector<std::vector<index_t>> all;
  for (int i = 0; i < n; ++i) all.push_back(l.next());
  return all;
}
}  // namespace

TEST_CASE("batches come in order whatever the number of workers", "[loader]") {
  auto const expected = take({.threads = 0}, 40);
  CHECK(expected[7] == std::vector<index_t>(3, 7));
  for (int threads : {1, 2, 5}) CHECK(take({.threads = threads, .depth = 4}, 40) == expected);
}

TEST_CASE("a resumed loader starts where it stopped", "[loader]") {
  auto const all = take({.threads = 2}, 20), tail = take({.threads = 3, .first = 12}, 8);
  CHECK(std::equal(tail.begin(), tail.end(), all.begin() + 12));
}

TEST_CASE("ranks share the global order", "[loader]") {
  CHECK(take({.threads = 2, .rank = 1, .ranks = 3}, 4)[2] == std::vector<index_t>(3, 7));
}

TEST_CASE("at most depth batches are made ahead", "[loader]") {
  std::atomic<int> made{0};
  loader<int> l([&](index_t i, int& b) { b = int(i), ++made; }, {.threads = 2, .depth = 3});
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  CHECK(made == 3);
  CHECK(l.next() == 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  CHECK(made == 4);
  CHECK(l.waited() < 5);
}

TEST_CASE("an error surfaces at its batch, not before", "[loader]") {
  for (int threads : {0, 2}) {
    loader<int> l([](index_t i, int& b) { check(i != 3, "bad volume ", i), b = int(i); },
                  {.threads = threads});
    for (int i = 0; i < 3; ++i) CHECK(l.next() == i);
    CHECK_THROWS_WITH(l.next(), "bad volume 3");
  }
}

TEST_CASE("wrong options are refused", "[loader]") {
  auto const none = [](index_t, int&) {};
  CHECK_THROWS_AS(loader<int>(none, {.threads = -1}), error);
  CHECK_THROWS_AS(loader<int>(none, {.depth = 0}), error);
  CHECK_THROWS_AS(loader<int>(none, {.rank = 2, .ranks = 2}), error);
}

TEST_CASE("an epoch holds every item once and epochs differ", "[loader]") {
  epoch_order o(10, {1, 2}), again(10, {1, 2});
  std::vector<index_t> first, second;
  for (index_t i = 0; i < 10; ++i) first.push_back(o.at(i).item);
  for (index_t i = 10; i < 20; ++i) second.push_back(o.at(i).item);
  CHECK(std::set<index_t>(first.begin(), first.end()).size() == 10);
  CHECK(std::set<index_t>(second.begin(), second.end()).size() == 10);
  CHECK(first != second);
  CHECK(again.at(17).item == second[7]);
  CHECK(again.at(17).epoch == 1);
  CHECK_THROWS_AS(epoch_order(0, {1, 2}), error);
}
