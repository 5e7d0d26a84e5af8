// SPDX-License-Identifier: Apache-2.0
// A pool of worker threads that share numbered tasks through one counter.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <atomic>
#include <cstring>
#include <exception>
#include <type_traits>
#include <utility>
#include <vector>

#include "insula/base/check.hpp"

namespace insula {

/// Sets flush-to-zero and denormals-are-zero for the calling thread while it lives, then restores.
/// Shifted-window masks leave probabilities near 1e-44, which cost 3x without it.
class flush_denormals {
 public:
#if defined(__SSE2__)
  // Built in, for <xmmintrin.h> is 3500 lines of every unit.
  flush_denormals() : saved_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(saved_ | 0x8040u); }
  ~flush_denormals() { __builtin_ia32_ldmxcsr(saved_); }

 private:
  unsigned saved_;
#else
  flush_denormals() {}
  ~flush_denormals() {}
#endif
 public:
  flush_denormals(flush_denormals const&) = delete;
  flush_denormals& operator=(flush_denormals const&) = delete;
};

namespace detail {

/// Waiting and waking for the pool. The system's threads are used as they are: <thread>, <mutex> and <condition_variable> cost
/// every unit that includes a layer a quarter of its compile time.
class monitor {
 public:
  monitor() = default;
  monitor(monitor const&) = delete;
  monitor& operator=(monitor const&) = delete;
  ~monitor() { pthread_mutex_destroy(&mutex_), pthread_cond_destroy(&wake_), pthread_cond_destroy(&done_); }

  void lock() { pthread_mutex_lock(&mutex_); }
  void unlock() { pthread_mutex_unlock(&mutex_); }
  void wake_all() { pthread_cond_broadcast(&wake_); }
  void tell_done() { pthread_cond_signal(&done_); }
  /// Both want the lock, give it away while they wait, and may return for no reason.
  void wait_for_work() { pthread_cond_wait(&wake_, &mutex_); }
  void wait_for_end() { pthread_cond_wait(&done_, &mutex_); }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER, done_ = PTHREAD_COND_INITIALIZER;
};

class locked {
 public:
  explicit locked(monitor& m) : m_(m) { m_.lock(); }
  locked(locked const&) = delete;
  locked& operator=(locked const&) = delete;
  ~locked() { m_.unlock(); }

 private:
  monitor& m_;
};

/// Polls until done() or some time has passed; gives whether done(). A thread that sleeps needs tens of microseconds to wake, as long
/// as many a kernel runs; another thread or program that wants the processor gets it.
template <class F>
bool poll(F done) {
  constexpr int pauses = 512;             // of some tens of nanoseconds
  constexpr long long most_ns = 200'000;  // then it sleeps
  for (int i = 0; i < pauses; ++i) {
    if (done()) return true;
#if defined(__SSE2__)
    __builtin_ia32_pause();
#endif
  }
  auto const now = [] {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
  };
  for (long long const end = now() + most_ns; now() < end; sched_yield())
    if (done()) return true;
  return false;
}

}  // namespace detail

/// Cores this process may run on (its affinity), at least 1.
inline int usable_threads() {
  cpu_set_t set;
  int const n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return n > 0 ? n : 1;
}

/// `size` workers, the calling thread being worker 0. run(n, f) calls f(task, worker) once for every task in
/// [0, n), in no fixed order, and returns when all are done. Tasks are taken one at a time from a counter, so an
/// uneven load balances itself; a result must not depend on which worker runs a task.
/// Every worker flushes denormals while it works. The first exception of a task is rethrown to the caller.
/// One run at a time: run() is not re-entrant and not for calls from several threads.
/// A system may wake a thread on the processor of the one that wakes it, although others are idle, and part the two after
/// milliseconds: seen on a virtual machine, where an idle processor may look as if its host had taken it. So run() says where its
/// workers shall wake: not where another thread of the pool is. Afterwards they may run anywhere again.
class thread_pool {
 public:
  explicit thread_pool(int size) : size_(size) {
    check(size >= 1 && size <= 1024, "thread_pool: threads is ", size, ", it must be 1 to 1024");
    std::vector<worker>(std::size_t(size - 1)).swap(workers_);
    for (int i = 1; i < size; ++i) {
      auto& w = workers_[std::size_t(i - 1)];
      w.pool = this, w.number = i;
      CPU_ZERO(&w.allowed);
      if (int const e = pthread_create(&w.thread, nullptr, serve_worker, &w)) {
        stop(i - 1);
        fail("thread_pool: the system gives ", i, " of ", size, " threads: ", std::strerror(e),
             "; ask for fewer");
      }
    }
  }
  thread_pool(thread_pool const&) = delete;
  thread_pool& operator=(thread_pool const&) = delete;
  ~thread_pool() { stop(size_ - 1); }

  int size() const { return size_; }

  template <class F>
  void run(index_t tasks, F&& f) {
    if (tasks <= 0) return;
    flush_denormals const guard;
    if (size_ == 1 || tasks == 1) {
      for (index_t t = 0; t < tasks; ++t) f(t, 0);
      return;
    }
    auto const call = [](void* self, index_t task, int worker) {
      (*static_cast<std::remove_reference_t<F>*>(self))(task, worker);
    };
    start(tasks, call, const_cast<void*>(static_cast<void const*>(&f)));
    work(0);
    finish();
  }

 private:
  using task_function = void (*)(void*, index_t, int);
  struct alignas(64) worker {
    thread_pool* pool;
    int number;
    pthread_t thread;
    std::atomic<int> processor{-1};  // where it was last seen
    bool asleep = false;
    bool sent = false;  // to a processor of the pool's choice; where it may run otherwise:
    cpu_set_t allowed;
  };

  static void* serve_worker(void* of) {
    auto& w = *static_cast<worker*>(of);
    w.pool->serve(w);
    return nullptr;
  }
  static void note_processor(worker& w) {
    int const now = sched_getcpu();
    if (w.processor.load(std::memory_order_relaxed) != now) w.processor.store(now, std::memory_order_relaxed);
  }
  /// Sends workers that sleep, or share a processor with another thread of the pool, to processors that none of them has. Wants
  /// the lock.
  void part_workers() {
    int const here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE) return;
    auto const known = [](int processor) { return processor >= 0 && processor < CPU_SETSIZE; };
    cpu_set_t used, first;  // by all, and by those before a worker
    CPU_ZERO(&used);
    CPU_SET(here, &used);
    first = used;
    for (auto const& w : workers_)
      if (int const at = w.processor.load(std::memory_order_relaxed); known(at)) CPU_SET(at, &used);
    for (auto& w : workers_) {
      int const at = w.processor.load(std::memory_order_relaxed);
      if (!known(at)) continue;
      bool const shared = CPU_ISSET(at, &first);
      CPU_SET(at, &first);
      if (!shared && !w.asleep) continue;
      if (!w.sent && pthread_getaffinity_np(w.thread, sizeof w.allowed, &w.allowed) != 0) continue;
      cpu_set_t taken, to;
      CPU_AND(&taken, &w.allowed, &used);
      if (!shared) CPU_CLR(at, &taken);
      CPU_XOR(&to, &w.allowed, &taken);
      if (CPU_COUNT(&to) > 0 && pthread_setaffinity_np(w.thread, sizeof to, &to) == 0) w.sent = true;
    }
  }
  /// Ends the first `started` workers.
  void stop(int started) {
    {
      detail::locked const lock(monitor_);
      stop_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    monitor_.wake_all();
    for (int i = 0; i < started; ++i) pthread_join(workers_[std::size_t(i)].thread, nullptr);
  }
  void start(index_t tasks, task_function call, void* self) {
    {
      detail::locked const lock(monitor_);
      call_ = call, self_ = self, tasks_ = tasks, error_ = nullptr, open_ = true;
      next_.store(0, std::memory_order_relaxed);
      part_workers();
      generation_.fetch_add(1, std::memory_order_release);
    }
    monitor_.wake_all();
  }
  void work(int worker) {
    for (;;) {
      index_t const t = next_.fetch_add(1, std::memory_order_relaxed);
      if (t >= tasks_) return;
      try {
        call_(self_, t, worker);
      } catch (...) {
        detail::locked const lock(monitor_);
        if (!error_) error_ = std::current_exception();
        next_.store(tasks_, std::memory_order_relaxed);
      }
    }
  }
  void finish() {  // a worker that has not woken by now finds the run closed and is not waited for
    std::exception_ptr error;
    {
      detail::locked const lock(monitor_);
      open_ = false;
    }
    auto const ended = [this] { return active_.load(std::memory_order_acquire) == 0; };
    detail::poll(ended);
    {
      detail::locked const lock(monitor_);
      while (!ended()) monitor_.wait_for_end();
      error = std::exchange(error_, nullptr);
    }
    if (error) std::rethrow_exception(error);
  }
  void serve(worker& self) {
    flush_denormals const guard;
    std::uint64_t seen = 0;
    for (;;) {
      detail::poll([&] {
        note_processor(self);
        return generation_.load(std::memory_order_acquire) != seen;
      });
      {
        detail::locked const lock(monitor_);
        while (generation_.load(std::memory_order_relaxed) == seen) {
          self.asleep = true;
          monitor_.wait_for_work();
        }
        self.asleep = false;
        seen = generation_.load(std::memory_order_relaxed);
        if (stop_) return;
        if (self.sent) {
          pthread_setaffinity_np(self.thread, sizeof self.allowed, &self.allowed);
          self.sent = false;
        }
        note_processor(self);
        if (!open_) continue;
        active_.fetch_add(1, std::memory_order_relaxed);
      }
      work(self.number);
      detail::locked const lock(monitor_);
      if (active_.fetch_sub(1, std::memory_order_acq_rel) == 1) monitor_.tell_done();
    }
  }

  int size_;
  std::vector<worker> workers_;
  detail::monitor monitor_;
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<index_t> next_{0};
  bool stop_ = false, open_ = false;
  std::atomic<int> active_{0};
  task_function call_ = nullptr;
  void* self_ = nullptr;
  index_t tasks_ = 0;
  std::exception_ptr error_;
};

}  // namespace insula
