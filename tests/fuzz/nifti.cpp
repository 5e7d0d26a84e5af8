// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes are either refused with an error or read within bounds and within a bounded amount of memory.
//   clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -I include -I /usr/include/nifti tests/fuzz/nifti.cpp
//     -lnifti2 -lznz -lz -o fuzz-nifti
#include <sys/mman.h>

#include <cstdlib>

#include "insula/data/nifti.hpp"
#include "insula/data/npy.hpp"
#include "insula/data/orientation.hpp"

using namespace insula;

namespace {

constexpr std::size_t longest_message = 9000;

template <class F>
void tolerate_errors(F f) {
  try {
    f();
  } catch (error const& e) {
    if (std::strlen(e.what()) > longest_message) std::abort();
  }
}

/// What is read must be placed, complete, and fit to be written again with the same voxels.
void use(nifti_volume const& v) {
  if (v.image.count() != index_t(v.image.voxels.size()) || v.image.count() < 1) std::abort();
  if (orientation_letters(v.image.to_world).size() != 3) std::abort();
  static std::string const path = text("/tmp/insula-fuzz-", ::getpid(), ".nii");
  tolerate_errors([&] {
    write_nifti(path, v.image, {.version = 2, .like = &v.info});
    nifti_volume const again = read_nifti(path);
    if (again.info.nonfinite != v.info.nonfinite || again.info.extensions.size() != v.info.extensions.size())
      std::abort();
    for (std::size_t i = 0; i < v.image.voxels.size(); ++i)
      if (v.image.voxels[i] != again.image.voxels[i] && v.image.voxels[i] == v.image.voxels[i]) std::abort();
  });
  ::unlink(path.c_str());
}

}  // namespace

/// The first byte picks: bit 0 npy instead of NIfTI, bit 1 gzip the rest first, so that the fuzzer need not find deflate.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size == 0) return 0;
  static int const file = ::memfd_create("fuzz", 0);
  static std::string const path = text("/proc/self/fd/", file);
  if (ftruncate(file, 0) != 0 || ::lseek(file, 0, SEEK_SET) != 0) std::abort();
  if (data[0] & 2) {
    gzFile const z = gzdopen(::dup(file), "wb1");
    if (!z || gzwrite(z, data + 1, unsigned(size - 1)) != int(size - 1) || gzclose(z) != Z_OK) std::abort();
  } else if (write_fully(file, data + 1, size - 1) != 0) {
    std::abort();
  }
  if (data[0] & 1) {
    tolerate_errors([&] { (void)read_npy(path); });
    return 0;
  }
  tolerate_errors([&] { use(read_nifti(path)); });
  tolerate_errors([&] { use(read_nifti(path, {.volume_index = 1})); });
  tolerate_errors([&] { (void)read_labels(path); });
  return 0;
}
