// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes are either refused with an error or read within bounds.
//   clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -I include tests/fuzz/safetensors.cpp -o
//   fuzz-safetensors
#include "insula/io/safetensors.hpp"

#include <cstdlib>

using namespace insula;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  // The first byte picks: 0 = a whole file; otherwise the rest is a header followed by that many bytes of
  // data, so that the fuzzer need not guess the length.
  if (size == 0) return 0;
  std::size_t const kind = data[0];
  std::vector<std::byte> file;
  if (kind != 0) {
    std::uint64_t const n = size - 1;
    file.resize(8);
    std::memcpy(file.data(), &n, 8);
  }
  auto const* const rest = reinterpret_cast<std::byte const*>(data);
  file.insert(file.end(), rest + 1, rest + size);
  file.resize(file.size() + (kind ? kind - 1 : 0));
  file.shrink_to_fit();
  try {
    safetensors_file const f(file, "fuzz");
    std::size_t covered = 0;
    for (auto const& t : f.tensors()) {
      if (t.begin != covered || f.find(t.name) != &t) std::abort();
      covered = t.end;
      if (!loads(t.type)) continue;
      if (f.read<double>(t.name, rounding::nearest).size() != std::size_t(t.count())) std::abort();
    }
  } catch (error const& e) {
    if (std::strlen(e.what()) > 5000) std::abort();
  }
  return 0;
}
