// SPDX-License-Identifier: Apache-2.0
// The queue of keys of momentum contrast, with the patient and session each key came from.
#pragma once

#include <vector>

#include "insula/base/check.hpp"
#include "insula/base/random.hpp"
#include "insula/base/scalar.hpp"
#include "insula/device/buffer.hpp"
#include "insula/loss/info_nce.hpp"

namespace insula {

/// A ring of Length unit keys of the given width (He et al. 2020, arXiv 1911.05722; UMBRA models/foundation.py).
/// Slot j is empty while patient j is 0. On disk: queue (width, length), queue_ptr, queue_metadata (length, 2).
template <scalar T, index_t Length, index_t Width, class B = cpu>
class queue {
 public:
  static constexpr index_t length = Length, width = Width;

  queue() : keys_(Length * Width), patients_(std::size_t(Length)), sessions_(std::size_t(Length)) {}
  /// Fills every slot with a random unit vector (=); all slots count as empty.
  void initialise(std::uint64_t seed) {
    for (index_t j = 0; j < Length; ++j) {
      double norm = 0;
      for (index_t i = 0; i < Width; ++i) {
        double const v = normal_at({seed, 0x0e0e, 1}, std::uint32_t(j * Width + i));
        keys_[j * Width + i] = T(v), norm += v * v;
      }
      for (index_t i = 0; i < Width; ++i)
        keys_[j * Width + i] = T(double(keys_[j * Width + i]) / std::sqrt(norm));
      patients_[std::size_t(j)] = sessions_[std::size_t(j)] = 0;
    }
    next_ = 0;
  }
  /// Writes `count` keys (rows of Width) to the slots from the pointer on, wrapping around, and moves the pointer.
  /// Throws error if count > Length or a patient is 0; the queue is then as before.
  void push(index_t count, T const* keys, std::int64_t const* patient, std::int64_t const* session) {
    check(count <= Length, "queue: ", count, " keys pushed at once, the queue holds ", Length,
          ": use a smaller batch or a longer queue");
    for (index_t r = 0; r < count; ++r)
      check(patient[r] != 0, "queue: key ", r,
            " has patient id 0, which marks an empty slot: number patients from 1");
    for (index_t r = 0; r < count; ++r) {
      std::size_t const slot = std::size_t((next_ + r) % Length);
      for (index_t i = 0; i < Width; ++i) keys_[index_t(slot) * Width + i] = keys[r * Width + i];
      patients_[slot] = patient[r], sessions_[slot] = session[r];
    }
    next_ = (next_ + count) % Length;
  }

  /// What the loss reads.
  negatives<T, Length, Width, B> view() const { return {keys_.data(), patients_.data()}; }

  T* keys() { return keys_.data(); }
  T const* keys() const { return keys_.data(); }
  std::int64_t* patients() { return patients_.data(); }
  std::int64_t const* patients() const { return patients_.data(); }
  std::int64_t* sessions() { return sessions_.data(); }
  std::int64_t const* sessions() const { return sessions_.data(); }
  index_t next() const { return next_; }
  /// Where the next key goes; for loading a checkpoint.
  void move_to(index_t slot) {
    check(slot >= 0 && slot < Length, "queue: pointer ", slot, " is outside 0 to ", Length - 1);
    next_ = slot;
  }
  index_t filled() const {
    index_t n = 0;
    for (auto p : patients_) n += p != 0;
    return n;
  }

 private:
  buffer<T, B> keys_;
  std::vector<std::int64_t> patients_, sessions_;
  index_t next_ = 0;
};

}  // namespace insula
