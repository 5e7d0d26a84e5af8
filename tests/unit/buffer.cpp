// SPDX-License-Identifier: Apache-2.0
// Buffers: zero-filled, aligned, and empty once moved from.
#include "insula/device/buffer.hpp"

#include <utility>

#include "support/catch.hpp"

using namespace insula;

TEST_CASE("a new buffer is aligned and zero") {
  for (index_t const size :
       {1, 1000, (16 << 10) - 1, 16 << 10, 300001, 1 << 20}) {  // of malloc, mapped, of huge pages
    buffer<float, cpu> const values(size);
    CHECK(reinterpret_cast<std::uintptr_t>(values.data()) % cache_line == 0);
    bool zero = true;
    for (float v : values) zero = zero && v == 0;
    CHECK(zero);
  }
}

TEST_CASE("a moved-from buffer is empty and its memory lives on in the other") {
  buffer<double, plain> from(8);
  from[3] = 7;
  double* const data = from.data();
  buffer<double, plain> to(std::move(from));
  CHECK(from.size() == 0);
  CHECK(to.size() == 8);
  CHECK(to.data() == data);
  from = std::move(to);
  CHECK(to.size() == 0);
  CHECK(from[3] == 7);
}

TEST_CASE("a destroyed buffer gives its bytes back") {
  std::size_t const before = host_memory().now;
  {
    buffer<float, cpu> const small(100), mapped(300001), large(1 << 20);
    CHECK(host_memory().now - before == (100 + 300001 + (1 << 20)) * sizeof(float));
  }
  CHECK(host_memory().now == before);
}
