// SPDX-License-Identifier: Apache-2.0
// Host memory: aligned, huge-page advised, zero-filled by the kernel and counted.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

#include "insula/base/check.hpp"

namespace insula {

inline constexpr std::size_t cache_line = 64;                   // bytes; also the widest vector register
inline constexpr std::size_t huge_page = std::size_t{2} << 20;  // bytes

/// Bytes held in all host memory blocks of the process, and the most there ever were.
struct memory_count {
  std::atomic<std::size_t> now{0}, peak{0}, calls{0};
  void add(std::size_t n) {
    ++calls;
    std::size_t const v = now += n;
    std::size_t p = peak.load();
    while (p < v && !peak.compare_exchange_weak(p, v)) {
    }
  }
  void sub(std::size_t n) { now -= n; }
};
inline memory_count& host_memory() {
  static memory_count m;
  return m;
}

/// A block of zero-filled bytes, 64-byte aligned. Blocks of 64 KiB or more are mapped on their own and given back to the system
/// when destroyed, those of 2 MiB or more advised to use huge pages. Their pages count as resident only once touched.
/// Throws error if the system has no memory left.
class memory_block {
 public:
  memory_block() = default;
  explicit memory_block(std::size_t bytes) : bytes_(bytes) {
    if (!bytes) return;
    constexpr std::size_t own_mapping = std::size_t{64} << 10;
    if (bytes >= own_mapping) {
      bool const huge = bytes >= huge_page;
      mapped_ = huge ? (bytes + 2 * huge_page - 1) / huge_page * huge_page : bytes;
      void* p = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p == MAP_FAILED)
        fail("memory_block: the system refused ", bytes, " bytes: use a smaller batch or model");
      base_ = p;
      data_ = static_cast<std::byte*>(p);
      if (huge) {
        auto const at = (reinterpret_cast<std::uintptr_t>(p) + huge_page - 1) / huge_page * huge_page;
        data_ = reinterpret_cast<std::byte*>(at);
#ifdef MADV_HUGEPAGE
        (void)madvise(data_, bytes / huge_page * huge_page, MADV_HUGEPAGE);
#endif
      }
    } else {
      bytes = (bytes + cache_line - 1) / cache_line * cache_line;
      data_ = static_cast<std::byte*>(std::aligned_alloc(cache_line, bytes));
      if (!data_) fail("memory_block: the system refused ", bytes, " bytes: use a smaller batch or model");
      for (std::size_t i = 0; i < bytes; ++i) data_[i] = std::byte{0};
    }
    host_memory().add(bytes_);
  }
  memory_block(memory_block&& o) noexcept { swap(o); }
  memory_block& operator=(memory_block&& o) noexcept {
    memory_block gone(std::move(*this));
    swap(o);
    return *this;
  }
  ~memory_block() {
    if (!data_) return;
    host_memory().sub(bytes_);
    if (mapped_)
      munmap(base_, mapped_);
    else
      std::free(data_);
  }

  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }
  void swap(memory_block& o) noexcept {
    std::swap(data_, o.data_), std::swap(base_, o.base_), std::swap(bytes_, o.bytes_),
        std::swap(mapped_, o.mapped_);
  }

 private:
  std::byte* data_ = nullptr;
  void* base_ = nullptr;
  std::size_t bytes_ = 0, mapped_ = 0;
};

/// A stack of scratch memory: take() bumps, release(mark) gives back. It grows by adding blocks and, once empty,
/// merges them into one, so a repeated pattern of calls allocates only the first time.
class scratch_stack {
 public:
  struct mark {
    std::size_t block, used, total;
  };

  mark here() const { return {block_, used_, total_}; }
  void* take(std::size_t bytes) {
    bytes = (bytes + cache_line - 1) / cache_line * cache_line;
    while (block_ < count_ && used_ + bytes > blocks_[block_].size()) ++block_, used_ = 0;
    if (block_ == count_) add(bytes);
    void* p = blocks_[block_].data() + used_;
    used_ += bytes, total_ += bytes;
    if (total_ > peak_) peak_ = total_;
    return p;
  }
  template <class T>
  T* take(index_t count) {
    return static_cast<T*>(take(std::size_t(count) * sizeof(T)));
  }
  void release(mark m) {
    block_ = m.block, used_ = m.used, total_ = m.total;
    if (total_ == 0 && count_ > 1) merge();
  }
  std::size_t bytes() const {
    std::size_t s = 0;
    for (std::size_t i = 0; i < count_; ++i) s += blocks_[i].size();
    return s;
  }

 private:
  static constexpr std::size_t most_blocks = 64, first_block = std::size_t{256} << 10;
  static constexpr std::size_t spare = std::size_t{1} << 20;  // of large blocks: for what little may follow

  void add(std::size_t bytes) {
    check(count_ < most_blocks, "scratch_stack: more than ", most_blocks, " blocks; release what is taken");
    std::size_t const have = this->bytes();
    std::size_t n = bytes > have ? bytes : have;
    if (n < first_block) n = first_block;
    if (n >= huge_page) n += spare;  // pages that are never touched cost nothing
    blocks_[count_++] = memory_block(n);
    used_ = 0;
  }
  void merge() {
    std::size_t const n = (peak_ + first_block - 1) / first_block * first_block;
    for (std::size_t i = 0; i < count_; ++i) blocks_[i] = memory_block();
    blocks_[0] = memory_block(n);
    count_ = 1, block_ = 0, used_ = 0;
  }

  memory_block blocks_[most_blocks];
  std::size_t count_ = 0, block_ = 0, used_ = 0, total_ = 0, peak_ = 0;
};

}  // namespace insula
