// SPDX-License-Identifier: Apache-2.0
// Threads that play the ranks of a run: a rank_group over shared memory.
#pragma once

#include <barrier>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

#include "insula/device/ranks.hpp"

namespace support {

/// run(f) calls f(rank, group) on one thread per rank. Sums are formed in order of ranks.
class threads_as_ranks {
 public:
  explicit threads_as_ranks(int size) : size_(size), barrier_(size), places_(std::size_t(size)) {}

  template <class F>
  void run(F f) {
    std::vector<std::thread> threads;
    auto const n = std::size_t(size_);
    std::vector<std::exception_ptr> errors(n);
    std::vector<member> members(n);
    for (int r = 0; r < size_; ++r) {
      members[std::size_t(r)] = {this, r};
      threads.emplace_back([&, r] {
        try {
          f(r, insula::rank_group{r, size_, &members[std::size_t(r)], sum, gather});
        } catch (...) {
          errors[std::size_t(r)] = std::current_exception();
        }
      });
    }
    for (auto& t : threads) t.join();
    for (auto const& e : errors)
      if (e) std::rethrow_exception(e);
  }

 private:
  struct member {
    threads_as_ranks* all;
    int rank;
  };
  static void sum(void* self, double* values, insula::index_t n) {
    auto const& me = *static_cast<member*>(self);
    me.all->exchange(
        me.rank, values,
        [&] {
          std::vector<double> total(static_cast<std::size_t>(n));
          for (void const* p : me.all->places_)
            for (std::size_t i = 0; i < total.size(); ++i) total[i] += static_cast<double const*>(p)[i];
          return total;
        },
        [&](std::vector<double> const& total) {
          std::memcpy(values, total.data(), total.size() * sizeof(double));
        });
  }
  static void gather(void* self, void const* mine, void* all, insula::index_t bytes) {
    auto const& me = *static_cast<member*>(self);
    me.all->exchange(
        me.rank, mine,
        [&] {
          auto* to = static_cast<char*>(all);
          for (void const* p : me.all->places_) std::memcpy(to, p, std::size_t(bytes)), to += bytes;
          return 0;
        },
        [](int) {});
  }
  template <class Read, class Write>
  void exchange(int rank, void const* mine, Read read, Write write) {
    places_[std::size_t(rank)] = mine;
    barrier_.arrive_and_wait();
    auto const result = read();
    barrier_.arrive_and_wait();  // everyone has read what `write` changes
    write(result);
  }

  int size_;
  std::barrier<> barrier_;
  std::vector<void const*> places_;
};

}  // namespace support
