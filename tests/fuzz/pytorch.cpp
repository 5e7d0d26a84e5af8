// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes are either refused with an error or read within bounds and within a bounded amount of memory.
//   clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -I include -I tests tests/fuzz/pytorch.cpp -lz -o fuzz-pytorch
#include "insula/io/pytorch.hpp"

#include <cstdlib>
#include <fstream>

#include "support/torch_bytes.hpp"

using namespace insula;

namespace {

constexpr index_t most_elements = 1 << 20;
constexpr std::size_t longest_message = 6000;

/// How the bytes after the first one become a file, so that the fuzzer need not guess checksums, directories and lengths.
enum container : unsigned char { whole, pickle_in_zip, pickle_deflated, pickle_in_legacy, in_tar, kinds };

std::string file_of(unsigned char kind, std::string const& rest) {
  support::torch_storages const storages{{"0", std::string(64, '\x3f')}, {"1", std::string(8, '\x01')}};
  switch (kind % kinds) {
    case pickle_in_zip:
      return support::torch_zip(rest, storages);
    case pickle_deflated:
      return support::torch_zip(rest, storages, true, true);
    case pickle_in_legacy:
      return support::torch_legacy(rest, storages);
    case in_tar:
      return support::tar_bytes({{"readme", "x"}, {"weights", rest}});
    default:
      return rest;
  }
}

void use(std::string const& bytes, pytorch_options const& options) {
  std::vector<std::byte> const exact(reinterpret_cast<std::byte const*>(bytes.data()),
                                     reinterpret_cast<std::byte const*>(bytes.data()) + bytes.size());
  try {
    pytorch_file const f(exact, "fuzz", options);
    for (auto const& t : f.tensors()) {
      if (f.find(t.name) == nullptr || checked_count(t.shape) != t.count()) std::abort();
      if (t.count() > most_elements) continue;
      std::vector<std::byte> scratch;
      auto const raw = f.elements(t, 0, t.count(), scratch);
      if (raw.size() != t.end) std::abort();
      if (loads(t.type) && f.read<double>(t.name, rounding::nearest).size() != std::size_t(t.count()))
        std::abort();
    }
  } catch (error const& e) {
    if (std::strlen(e.what()) > longest_message) std::abort();
  }
}

/// The first inputs: what the tests' own writer makes, in every container.
void write_seeds(std::string const& folder) {
  auto const small = support::small_state_dict(), legacy = support::small_state_dict(true);
  auto const storages = support::small_storages();
  support::pickle_writer rich;
  rich.put("}(").text("n").put("NU\x01xC\x01yG\x3f\xf8").put(std::string(6, '\0')).put("\x88\x87");
  rich.text("w").global("torch._utils", "_rebuild_parameter").put("(");
  rich.tensor("HalfStorage", "1", 4, 1, {3, 1}, {1, 7})
      .put("\x89")
      .global("collections", "OrderedDict")
      .put(")RtR");
  rich.text("o")
      .global("a", "B")
      .put(")\x81}")
      .text("_parameters")
      .put("}s}")
      .text("_modules")
      .put("}sb")
      .put("u");
  std::string const one(1, '\x01'), two(1, '\x02'), three(1, '\x03'), four(1, '\x04');
  std::pair<char const*, std::string> const seeds[] = {
      {"zip", std::string(1, '\0') + support::torch_zip(small, storages)},
      {"zip64", std::string(1, '\0') + support::torch_zip(small, storages, true, true)},
      {"legacy", std::string(1, '\0') + support::torch_legacy(legacy, storages)},
      {"pickle", one + small},
      {"rich", one + rich.stop()},
      {"deflated", two + rich.stop()},
      {"pickle-legacy", three + legacy},
      {"tar", four + support::torch_legacy(legacy, storages)}};
  for (auto const& [name, bytes] : seeds)
    std::ofstream(folder + "/seed-" + name, std::ios::binary)
        .write(bytes.data(), std::streamsize(bytes.size()));
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  for (int i = 1; i < *count; ++i)
    if (std::string const a = (*arguments)[i]; !a.starts_with('-') && std::filesystem::is_directory(a)) {
      write_seeds(a);
      break;
    }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size == 0) return 0;
  auto const file = file_of(data[0], {reinterpret_cast<char const*>(data) + 1, size - 1});
  use(file, {.inflate_limit = std::size_t{64} << 20});
  use(file, {.key = "", .inflate_limit = std::size_t{64} << 20});
  return 0;
}
