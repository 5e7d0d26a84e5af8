// SPDX-License-Identifier: Apache-2.0
// Batches made ahead of time by worker threads, in a bounded ring.
#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "insula/base/check.hpp"

namespace insula {

struct loader_options {
  int threads = 1;              ///< workers; 0: batches are made when they are asked for
  int depth = 3;                ///< batches made ahead at most
  index_t first = 0;            ///< number of the first batch; a resumed run starts where it stopped
  index_t rank = 0, ranks = 1;  ///< this process makes batches rank, rank + ranks, ... of the global order
};

/// Hands out batches first, first + 1, ... in order. Batch i is a function of i alone (make(i, batch) fills it), so neither the
/// number of workers nor a resume changes a run. Batches are reused: their memory is taken once per place in the ring.
/// An exception of make() is rethrown by the next() that would have returned its batch.
template <class Batch>
class loader {
 public:
  using maker = std::function<void(index_t, Batch&)>;

  loader(maker make, loader_options o)
      : make_(std::move(make)),
        options_(o),
        ring_(std::size_t(o.threads > 0 ? o.depth + 1 : 1)),
        claimed_(o.first),
        handed_(o.first) {
    check(o.threads >= 0 && o.threads <= 256, "loader: threads is ", o.threads, ", it must be 0 to 256");
    check(o.depth >= 1, "loader: depth is ", o.depth, ", it must be at least 1");
    check(o.ranks >= 1 && o.rank >= 0 && o.rank < o.ranks, "loader: rank ", o.rank, " is not one of ",
          o.ranks);
    for (int i = 0; i < o.threads; ++i) workers_.emplace_back([this] { work(); });
  }
  loader(loader const&) = delete;
  loader& operator=(loader const&) = delete;
  ~loader() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (auto& w : workers_) w.join();
  }

  /// The next batch, valid until the call after. Blocks until it is made; waited() grows by that time.
  Batch& next() {
    auto const start = std::chrono::steady_clock::now();
    slot* s = nullptr;
    if (workers_.empty()) {
      s = &ring_[0];
      make_(global(handed_), s->batch);
    } else {
      std::unique_lock lock(mutex_);
      s = &slot_of(handed_);
      changed_.wait(lock, [&] { return s->holds == handed_; });
      if (s->error) std::rethrow_exception(s->error);
    }
    waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    {
      std::lock_guard lock(mutex_);
      ++handed_;
    }
    changed_.notify_all();
    return s->batch;
  }
  /// Number of the batch that next() gives.
  index_t position() const { return handed_; }
  /// Seconds spent in next() so far.
  double waited() const { return waited_; }

 private:
  struct slot {
    Batch batch{};
    index_t holds = -1;
    std::exception_ptr error;
  };
  index_t global(index_t i) const { return i * options_.ranks + options_.rank; }
  slot& slot_of(index_t i) { return ring_[std::size_t(i % index_t(ring_.size()))]; }

  void work() {
    for (;;) {
      index_t i = 0;
      {
        std::unique_lock lock(mutex_);
        // the batch handed out last is still in use: `depth` others may be ahead of it
        changed_.wait(lock, [this] { return stop_ || claimed_ < handed_ + options_.depth; });
        if (stop_) return;
        i = claimed_++;
      }
      slot& s = slot_of(i);
      std::exception_ptr error;
      try {
        make_(global(i), s.batch);
      } catch (...) {
        error = std::current_exception();
      }
      {
        std::lock_guard lock(mutex_);
        s.holds = i, s.error = error;
      }
      changed_.notify_all();
    }
  }

  maker make_;
  loader_options options_;
  std::vector<slot> ring_;
  std::vector<std::thread> workers_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  index_t claimed_, handed_;
  bool stop_ = false;
  double waited_ = 0;
};

}  // namespace insula
